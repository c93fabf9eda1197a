"""LookAtPartitions (1010, between processes): how far the partitions led here are.

**Behaviour.** Answered when the high watermark of one is not the one that is known, or one cannot be told of,
or the time is up. A leader that does not know the topic, or another of this name, says UNKNOWN_TOPIC.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.interfaces import IBroker, IPartition
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import look_at_partitions
from megabroker.protocols.kafka.schema.look_at_partitions import Standing
from megabroker.protocols.kafka.schema.told_error import told

__all__ = ["find", "handle", "standing"]


async def handle(context: Context, request: look_at_partitions.Request) -> look_at_partitions.Response:
    """Answer when there is news."""
    broker = context.broker
    partitions = [_find(broker, wanted) for wanted in request.partitions]
    if request.wait_ms > 0 and not any(
        isinstance(partition, BrokerError) or partition.high_watermark != wanted.known_offset
        for partition, wanted in zip(partitions, request.partitions, strict=True)
    ):
        await _news(broker, [one for one in partitions if not isinstance(one, BrokerError)], request.wait_ms)
    return look_at_partitions.Response(partitions=[standing(one) for one in partitions])


def find(broker: IBroker, topic: str, topic_id: bytes, index: int) -> IPartition:
    """Return a partition led here, of that very topic. Raises BrokerError as ``ITopicService.partition``."""
    partition = broker.topics.partition(topic, index)
    if partition.topic.id.bytes != topic_id:
        raise RequestError(ErrorCode.UNKNOWN_TOPIC, f"there is another topic {topic} by now")
    return partition


def standing(partition: IPartition | BrokerError) -> Standing:
    """Return how far a partition is, or why that cannot be told."""
    if isinstance(partition, BrokerError):
        return Standing(error=told(partition))
    return Standing(
        start_offset=partition.start_offset,
        high_watermark=partition.high_watermark,
        last_stable_offset=partition.last_stable_offset,
        next_offset=partition.log.next_offset,
        size_bytes=partition.log.size_bytes,
    )


def _find(broker: IBroker, wanted: look_at_partitions.Request.Partition) -> IPartition | BrokerError:
    try:
        return find(broker, wanted.topic, wanted.topic_id, wanted.index)
    except BrokerError as error:
        return error


def _news(broker: IBroker, partitions: list[IPartition], wait_ms: int) -> Deferred[None]:
    """Fire when something is new in one of the partitions, or the time is up."""
    found: Deferred[None] = Deferred()
    cancels: list[Callable[[], None]] = []

    def fire() -> None:
        if not found.called:
            if timer.active():
                timer.cancel()
            for cancel in cancels:
                cancel()
            found.callback(None)

    timer = broker.reactor.callLater(wait_ms / 1000, fire)
    cancels += [partition.watch(fire) for partition in partitions]
    return found
