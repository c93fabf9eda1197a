"""Twisted's reactor in a thread of its own, for programs that do not run it.

Owns that thread. There is one reactor in a process and it cannot be started twice; so it is started with the
first call and goes on until the main thread ends. Who is in the reactor's own thread must not come here, and
is told so.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread
from twisted.python.threadable import isInIOThread

__all__ = ["call"]

_T = TypeVar("_T")
_START_SECONDS = 10

_lock = threading.Lock()


def call(function: Callable[[], Deferred[_T]]) -> _T:
    """Call in the reactor's thread and wait for what the Deferred fires with, or raise that.

    Raises:
        RuntimeError: this is the reactor's thread, which must not wait.
    """
    reactor: Any = importlib.import_module("twisted.internet.reactor")
    with _lock:
        if not reactor.running:
            _start(reactor)
        elif isInIOThread():  # type: ignore[no-untyped-call]
            raise RuntimeError(
                "this is the reactor's thread, which cannot wait for a broker in it: expected async with, or "
                "start() and stop() with their Deferreds"
            )
    called: Any = blockingCallFromThread(reactor, cast("Any", function))
    result: _T = called
    return result


def _start(reactor: Any) -> None:
    started = threading.Event()
    reactor.callWhenRunning(started.set)
    threading.Thread(target=_run, args=(reactor,), name="reactor", daemon=True).start()
    if not started.wait(_START_SECONDS):
        raise RuntimeError(f"the reactor has not started within {_START_SECONDS} s")
    # Its threads would keep the process from ending; that the main thread has ended says that it wants to.
    threading.Thread(target=_stop_with_main, args=(reactor,), name="reactor-end", daemon=True).start()


def _run(reactor: Any) -> None:
    reactor.run(installSignalHandlers=False)


def _stop_with_main(reactor: Any) -> None:
    threading.main_thread().join()
    reactor.callFromThread(reactor.stop)
