"""A process that feeds one target, guided by coverage; ``python -m tests.fuzz`` runs it.

Apart, because what is to be instrumented must not be imported before, and because it ends with its process.
"""

from __future__ import annotations

import sys

import atheris

_OF_WIRES = ("megabroker.codec", "megabroker.protocols")
_OF_FILES = ("megabroker.codec", "megabroker.storage")
_READERS = {
    "name-pattern": ("megabroker.core.name_pattern",),
    "place": ("megabroker.cli.moments",),
    "endpoint": ("megabroker.config.endpoint", "megabroker.config.workers"),
    "http-request": ("megabroker.http",),
    "log-in": ("megabroker.core.authentication",),
    "small-files": _OF_FILES,
    "sync-journal": _OF_FILES,
    "log": _OF_FILES,
}
"""What is to be instrumented, which takes seconds; other targets are those of wires."""

with atheris.instrument_imports(include=list(_READERS.get(sys.argv[1], _OF_WIRES))):
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
