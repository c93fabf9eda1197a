"""Published messages on their way into the log: gathered, handed to a partition, answered, remembered.

Owns what becomes of a message between the claim of its id and the outcome. Never touches the connection
but by the callback it is given.

The invariant: the ids of a batch are confirmed for the deduplication window when its records are durable,
and released if they are not stored or are voided later, once and whatever becomes of the connection: the
partition's waiters hold the ``Storing``, and a partition answers every waiter.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from megabroker.errors import BrokerError
from megabroker.interfaces import IDedup, IPartition
from megabroker.model import Acks, BatchHeader
from megabroker.net.connection import Answer

__all__ = ["Batch", "Message", "Storing"]

Reply = Callable[[BrokerError | None], None]


@attrs.frozen
class Message:
    """A published message, and the reply it gets once it is stored."""

    message_id: int
    data: bytes
    slot: Answer
    reply: bytes


class Batch:
    """Messages for one partition gathered over a turn."""

    __slots__ = ("messages", "partition", "size_bytes", "topic")

    def __init__(self, topic: str, partition: IPartition) -> None:
        self.topic = topic
        self.partition = partition
        self.messages: list[Message] = []
        self.size_bytes = 0


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
