"""Messages with ids on their way into the log: handed to a partition, answered, remembered.

Owns what becomes of a message between the claim of its id and the outcome, for whoever publishes it: a client
of this process or another process. Never touches a connection but by the callbacks it is given.

The invariant: the ids of a batch are confirmed for the deduplication window when its records are durable,
and released if they are not stored or are voided later, once and whatever becomes of the connection: the
partition's waiters hold the ``Storing``, and a partition answers every waiter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import attrs

from megabroker.codec.batch import build, build_single, read_header
from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.interfaces import IBroker, IDedup, IPartition
from megabroker.model import Acks, BatchHeader

__all__ = ["RECORD_OVERHEAD_BYTES", "Published", "Storing", "store_all", "store_batch"]

RECORD_OVERHEAD_BYTES: Final = 40
"""What a message takes beside its bytes, at most."""

Reply = Callable[[BrokerError | None], None]


@attrs.frozen
class Published:
    """A message whose id is claimed, and who is told its outcome."""

    message_id: int
    data: bytes
    outcome: Reply


def store_all(
    broker: IBroker, topic: str, partition: IPartition, messages: Sequence[Published], acks: Acks
) -> None:
    """Hand messages to their partition; one by one if it refuses them together for what they are.

    Every outcome is told, that of a refusal at once; the ids are confirmed or released.
    """
    error = store_batch(broker, topic, partition, messages, acks)
    if error is None:
        return
    if len(messages) > 1 and isinstance(error, RequestError):
        # Together they may break a limit that most of them keep alone.
        for message in messages:
            store_all(broker, topic, partition, [message], acks)
        return
    broker.dedup.release(topic, [message.message_id for message in messages], error)
    for message in messages:
        message.outcome(error)


def store_batch(
    broker: IBroker, topic: str, partition: IPartition, messages: Sequence[Published], acks: Acks
) -> BrokerError | None:
    """Hand messages to their partition as one record batch; return why it refused, if it did."""
    now_ms = broker.now_ms()
    if len(messages) == 1:
        data = build_single(None, messages[0].data, now_ms)
    else:
        data = build((None, message.data, (), now_ms) for message in messages)

    def reply(error: BrokerError | None) -> None:
        for message in messages:
            message.outcome(error)

    if len(messages) > 1 and not partition.is_here and len(data) > partition.policy.max_message_bytes:
        return RequestError(ErrorCode.MESSAGE_TOO_LARGE, "too large together")
    storing = Storing(broker.dedup, topic, [message.message_id for message in messages], reply)
    try:
        storing.append(partition, read_header(data, 0, len(data)), data, acks)
    except BrokerError as error:
        return error
    return None


class Storing:
    """The claimed ids of one record batch, from its append to their confirmation or release.

    Args:
        reply: called once with what the peer is told; not kept any longer, as it holds the messages.
    """

    __slots__ = ("_dedup", "_ids", "_reply", "_topic")

    def __init__(self, dedup: IDedup, topic: str, message_ids: list[int], reply: Reply) -> None:
        self._dedup = dedup
        self._topic = topic
        self._ids = message_ids
        self._reply: Reply | None = reply

    def append(self, partition: IPartition, header: BatchHeader, data: bytearray, acks: Acks) -> None:
        """Hand the batch to its partition; the reply comes when ``acks``, which is not none, is satisfied.

        Raises:
            RequestError, StateError, StorageError: refused; nothing will be called.
        """
        if acks is Acks.DURABLE:
            partition.append(header, data, acks, self._durable)
            return
        base_offset = partition.append(header, data, acks, self._written)
        partition.when_durable(base_offset + header.record_count, self._durable)

    def _written(self, error: BrokerError | None) -> None:
        if error is not None:
            self._lost(error)
            return
        self._dedup.acknowledge(self._topic, self._ids)
        reply, self._reply = self._reply, None
        if reply is not None:
            reply(None)

    def _durable(self, error: BrokerError | None) -> None:
        if error is not None:
            self._lost(error)
            return
        reply, self._reply = self._reply, None
        self._dedup.confirm(self._topic, self._ids, reply)

    def _lost(self, error: BrokerError) -> None:
        # Both waits may end so, and between them another may claim an id anew: it is released once.
        ids, self._ids = self._ids, []
        reply, self._reply = self._reply, None
        self._dedup.release(self._topic, ids, error)
        if reply is not None:
            reply(error)
