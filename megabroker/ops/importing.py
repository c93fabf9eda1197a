"""Importing what is otherwise imported when it is first needed, so that a process needs its files no more.

An idle broker is to be small, so much of it is imported late: what answers kinds of requests that nobody has
made yet, administration, libraries that compress. Before its package is upgraded a broker that goes on takes
all of that into memory, as it was when it was started. The modules are in no particular order; each is a step
of its own, after which clients are served.
"""

from __future__ import annotations

import importlib
import pathlib
from collections.abc import Iterator
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import Cooperator
from twisted.logger import Logger

import megabroker

__all__ = ["import_all"]

_log = Logger()

_APART: Final = frozenset({"backup", "cli", "client", "inspection", "plugins", "simulation", "testing"})
"""What a broker that runs never needs: other programs, and declarations of protocols, which it has read."""

_LIBRARIES: Final = (
    "backports.zstd",
    "compression.zstd",
    "cramjam",
    "jinja2",
    "jwt",
    "lz4.block",
    "lz4.frame",
)
"""Those that functions import; what modules import comes with them."""


def import_all(reactor: Any) -> Deferred[None]:
    """Import everything, a module at a time.

    Returns:
        Fires when it is done; what cannot be imported is passed over.
    """
    cooperator = Cooperator(scheduler=lambda step: reactor.callLater(0, step))
    done: Deferred[Any] = cooperator.cooperate(_steps()).whenDone()
    return done.addCallback(lambda _: None)


def _steps() -> Iterator[None]:
    failed = []
    for name in (*_LIBRARIES, *_modules()):
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001 - a library that is optional or broken, and what is made of it
            failed.append(name)
        yield
    _log.info(
        "all modules are imported, so that the files of this version may go",
        passed_over=" ".join(failed) or "none",
    )


def _modules() -> Iterator[str]:
    """Yield the names of this program's modules, each package before what is in it."""
    (place,) = megabroker.__path__
    root = pathlib.Path(place).parent
    for path in sorted(pathlib.Path(place).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[1] not in _APART:
            yield ".".join(parts).removesuffix(".__init__")
