"""PublishMessages (1015, between processes): messages whose ids are decided about here.

**Behaviour.** As if they had been published to this process: ids that are known, or being stored, are not
stored again and have the same outcome. Messages of one partition become one batch. Waits for room in the
partitions' queues. Answered when every outcome is known.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.interfaces import IBroker, IPartition
from megabroker.model import Acks
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import publish_messages
from megabroker.protocols.kafka.schema.told_error import told
from megabroker.protocols.publishing import RECORD_OVERHEAD_BYTES, Published, store_all

__all__ = ["handle"]

_Outcome = publish_messages.Response.Outcome
_UINT64 = (1 << 64) - 1


async def handle(context: Context, request: publish_messages.Request) -> publish_messages.Response:
    """Answer when all outcomes are known."""
    broker = context.broker
    acks = Acks(request.acks)
    outcomes: list[Deferred[BrokerError | None]] = []
    batches: dict[tuple[str, int], list[Published]] = {}
    for one in request.messages:
        outcome: Deferred[BrokerError | None] = Deferred()
        outcomes.append(outcome)
        message = Published(one.message_id & _UINT64, one.message, outcome.callback)
        topic = broker.topics.get(one.topic)
        if topic is None:
            message.outcome(RequestError(ErrorCode.UNKNOWN_TOPIC, f"there is no topic {one.topic}"))
        elif broker.dedup.claim(one.topic, message.message_id, message.outcome):
            batches.setdefault((one.topic, message.message_id % topic.partitions), []).append(message)
    for (name, index), messages in batches.items():
        await _store(broker, name, index, messages, acks)
    return publish_messages.Response(outcomes=[_Outcome(error=told(await one)) for one in outcomes])


async def _store(broker: IBroker, topic: str, index: int, messages: list[Published], acks: Acks) -> None:
    try:
        partition = broker.partitions.partition(topic, index)
        if partition.needs_keys:
            raise RequestError(
                ErrorCode.INVALID_RECORD, f"{topic} is compacted and takes no message without a key"
            )
    except BrokerError as error:
        broker.dedup.release(topic, [message.message_id for message in messages], error)
        for message in messages:
            message.outcome(error)
        return
    await _room(partition, messages)
    store_all(broker, topic, partition, messages, acks)


async def _room(partition: IPartition, messages: list[Published]) -> None:
    size_bytes = sum(len(message.data) + RECORD_OVERHEAD_BYTES for message in messages)
    while not partition.has_room(len(messages), size_bytes):
        room: Deferred[None] = Deferred()
        partition.when_room(lambda room=room: room.callback(None))  # type: ignore[misc]
        await room
