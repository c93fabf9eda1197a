"""Having the ends of partitions known that other processes lead, before a stream or a subscription begins.

Owns the waiting, and nothing that is waited for.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, FirstError
from twisted.python.failure import Failure

from megabroker.errors import BrokerError
from megabroker.interfaces import IBroker, IPartition, IRemotePartition

__all__ = ["first_error", "look", "looks"]


def look(partition: IPartition, looked: Callable[[BrokerError | None], None]) -> None:
    remote: IRemotePartition = partition  # type: ignore[assignment]
    remote.look(looked)


def looks(broker: IBroker, name: str) -> list[Deferred[None]]:
    """Have all partitions of a topic that are led elsewhere looked at; each fires when that is done."""
    topic = broker.topics.get(name)
    looks: list[Deferred[None]] = []
    for index in range(0 if topic is None else topic.partitions):
        try:
            partition = broker.partitions.partition(name, index)
        except BrokerError:
            continue
        if not partition.is_here:
            done: Deferred[None] = Deferred()
            looks.append(done)
            look(
                partition,
                lambda error, done=done: done.callback(None) if error is None else done.errback(error),  # type: ignore[misc]
            )
    return looks


def first_error(failure: Failure) -> Failure:
    """Return why the first of several failed."""
    found = failure.value
    return found.subFailure if isinstance(found, FirstError) else failure
