"""Waiting for what the core calls back about, in a way that ends with the request.

Every Deferred here may be cancelled, and is where a route ``waits``: whoever asked is gone, or the broker
stops. What changes something is never cancelled: half a change would be left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool

from megabroker.interfaces import IPartition

__all__ = ["LARGE_BYTES", "called_back", "in_slices", "in_thread", "moved", "pause"]

LARGE_BYTES: Final = 64 << 10
"""From how many bytes of JSON on others must not wait for it: one megabyte takes a tenth of a second."""

_T = TypeVar("_T")
_SLICE_SECONDS: Final = 0.004
_BETWEEN_LOOKS: Final = 32


def called_back(ask: Callable[[Callable[..., None]], Any]) -> Deferred[Any]:
    """Return a Deferred that fires when what was asked calls back, with its last argument."""
    done: Deferred[Any] = Deferred(lambda _: None)

    def answered(*values: Any) -> None:
        if not done.called:
            done.callback(values[-1] if values else None)

    ask(answered)
    return done


async def moved(reactor: Any, partition: IPartition, seconds: float) -> None:
    """Wait until there is more in a partition, or the time is up."""
    done: Deferred[None] = Deferred()

    def fire() -> None:
        if not done.called:
            done.callback(None)

    stop = partition.watch(fire)
    timer = reactor.callLater(seconds, fire)
    try:
        await done
    finally:
        stop()
        if timer.active():
            timer.cancel()


def in_thread(reactor: Any, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
    """Fire with what a pure function returns, worked out beside the reactor."""
    return deferToThreadPool(reactor, reactor.getThreadPool(), function, *args)


def pause(reactor: Any, seconds: float) -> Deferred[None]:
    """Fire after a time."""
    return deferLater(reactor, seconds)


async def in_slices(reactor: Any, things: Iterable[_T]) -> AsyncIterator[_T]:
    """Yield things; every few milliseconds everybody else has a turn."""
    began = reactor.seconds()
    for at, one in enumerate(things):
        if at % _BETWEEN_LOOKS == 0 and at and reactor.seconds() - began > _SLICE_SECONDS:
            await pause(reactor, 0)
            began = reactor.seconds()
        yield one
