"""A process that feeds one target, guided by coverage; ``python -m tests.fuzz`` runs it.

Apart, because what is to be instrumented must not be imported before, and because it ends with its process.
"""

from __future__ import annotations

import sys

import atheris

_READERS = (
    *("megabroker.codec", "megabroker.protocols", "megabroker.storage"),
    *("megabroker.core.name_pattern", "megabroker.core.authentication"),
    *("megabroker.cli.moments", "megabroker.config.endpoint", "megabroker.http"),
)

with atheris.instrument_imports(include=list(_READERS)):
    from tests.fuzz.targets import MESSAGES, TARGETS

if __name__ == "__main__":
    name = sys.argv[1]
    # Kafka's messages are read by functions that are made, not imported.
    made = MESSAGES.values() if name.startswith("any-") else [TARGETS[name]]
    for target in made:
        if target.decode is not None:
            atheris.instrument_func(target.decode)
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[name].feed)
    atheris.Fuzz()
