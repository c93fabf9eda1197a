"""The short way for the produce request that a connection repeats.

A producer of small batches sends the same bytes again and again: only the correlation id, the partition's
number and the batch differ; the rest is client id, acks and topic name. Once such a request (one topic, one
partition, to be answered) has gone the general way, its other bytes are kept, and the next request that has
them too needs no decoding: its batch is found by its length, checked as always, and appended. The answer is
likewise an encoded one with five numbers put in. So a producer has one template a topic, to however many
partitions it takes turns.

    i16 key, i16 version | i32 correlation id | head | i32 partition | length | batch
                         | three empty tag sections (flexible)

The transactional id is among the bytes kept, so the coordinator can be asked about a batch of a transaction
without decoding either. A topic that was configured anew, or has more partitions, is looked at anew: it may
be compacted now, and for compacted topics, whose records must have keys, there is no short way. The same
holds when quotas or access rules were changed: the client may be limited now, or not allowed to produce.

Owns only this recognition and decides nothing: a request that does not match byte for byte, and one that a
partition refuses, goes the general way (``apis.k00_produce``), which therefore also is the oracle of its
tests.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from megabroker.codec.batch import HEADER_BYTES, BatchError, validate_produce
from megabroker.codec.primitives import read_uvarint, uvarint_size
from megabroker.errors import BrokerError, ProtocolError
from megabroker.interfaces import IPartition
from megabroker.model import Acks, ProducerIdentity
from megabroker.net.asked import Asked
from megabroker.net.wire import Answer, Room
from megabroker.protocols.kafka.answers import encode_answer
from megabroker.protocols.kafka.errors import kafka_error
from megabroker.protocols.kafka.schema import produce
from megabroker.protocols.kafka.transactional import admit

if TYPE_CHECKING:
    from megabroker.protocols.kafka.protocol import KafkaConnection

__all__ = ["NO_MATCH", "ProduceTemplate"]

NO_MATCH: Final[Any] = object()
"""What ``take`` returns for a request that must go the general way."""

_KEY = 0
_FIRST_FLEXIBLE = 9
_FIRST_WITH_START_OFFSET = 5
_HEAD_POS = 8
_NUMBERS_BYTES = 8
_TAGS = b"\0\0\0"
_TRANSACTIONAL = 16
_SENTINEL = 0x0123456789ABCDEF
_BEFORE_OFFSET = 6  # bytes of the partition's number and the error code, which stand before the base offset
_START_AFTER_OFFSET = 16  # bytes of it and of the append time, which stand before the start offset
_new = tuple.__new__


class _TemplateAnswer(Answer):
    """The answer to one request that matched; called when its batch is stored, or was not."""

    __slots__ = ("append_time_ms", "base_offset", "began", "correlation_id", "partition", "template")

    began: float
    base_offset: int
    append_time_ms: int

    def __init__(
        self,
        connection: KafkaConnection,
        size_bytes: int,
        template: ProduceTemplate,
        partition: IPartition,
        correlation_id: int,
    ) -> None:
        self.connection = connection
        self.size_bytes = size_bytes
        self.parts = None
        self.template = template
        self.partition = partition
        self.correlation_id = correlation_id

    def __call__(self, error: BrokerError | None) -> None:
        connection: KafkaConnection = self.connection  # type: ignore[assignment]
        turns, began = connection.turns, self.began
        if turns.since == began and turns.kind is connection.produced:
            turns.alike += 1
        else:
            turns.answered(connection.produced, began)
            if connection.counts.notes is not None:
                Asked(connection, "Produce", self.template.version, self.size_bytes, began).note(())
        if error is None:
            self.fill_bytes(
                self.template.answer(
                    self.correlation_id, self.partition, self.base_offset, self.append_time_ms
                )
            )
        else:
            self.fill(self.template.refusal(self.correlation_id, self.partition.index, error))


class ProduceTemplate:
    """One remembered request; make it with ``of``."""

    __slots__ = (
        "_acks",
        "_api",
        "_flexible",
        "_generation",
        "_head",
        "_least_bytes",
        "_middle",
        "_pack",
        "_partitions",
        "_pos",
        "_size",
        "_start",
        "_suffix",
        "_topic",
        "_transactional_id",
        "_unpack",
        "_version",
        "_with_start",
    )

    def __init__(
        self,
        event: memoryview,
        request: produce.Request,
        version: int,
        partitions: Sequence[IPartition | None],
        acks: Acks,
        generation: int,
    ) -> None:
        topic = request.topic_data[0]
        data = topic.partition_data[0]
        assert data.records is not None
        size = len(data.records)
        self._version = version
        self._flexible = version >= _FIRST_FLEXIBLE
        self._partitions = partitions
        self._acks = acks
        self._generation = generation
        self._transactional_id = request.transactional_id
        if self._flexible:
            self._pos = len(event) - len(_TAGS) - size - uvarint_size(size + 1) - 4
        else:
            self._pos = len(event) - size - _NUMBERS_BYTES
        self._api = bytes(event[:4])
        self._head = bytes(event[_HEAD_POS : self._pos])
        known = struct.Struct(f">4si{len(self._head)}si{'B' if self._flexible else 'i'}")
        self._unpack = known.unpack_from
        self._start = known.size
        self._least_bytes = known.size + HEADER_BYTES + (len(_TAGS) if self._flexible else 0)
        self._topic = (topic.name, bytes(topic.topic_id))
        sample = b"".join(self._encode(0, 0, base_offset=_SENTINEL))
        at = sample.index(_SENTINEL.to_bytes(8, "big"))
        self._with_start = version >= _FIRST_WITH_START_OFFSET
        numbers = "qqq" if self._with_start else "qq"
        self._size = sample[:4]
        self._middle = sample[8 : at - _BEFORE_OFFSET]
        self._suffix = sample[at + 8 * len(numbers) :]
        self._pack = struct.Struct(f">4si{len(self._middle)}sih{numbers}{len(self._suffix)}s").pack

    @classmethod
    def of(
        cls,
        event: memoryview,
        request: produce.Request,
        version: int,
        partitions: Sequence[IPartition | None],
        acks: Acks,
        generation: int,
    ) -> ProduceTemplate | None:
        """Return the template of a request of one partition, or None if its bytes are unusual.

        Args:
            partitions: its topic's, as ``ITopicService.led``: none any more once the topic was changed.
            generation: the quotas' at which the client is not limited, and may write to the topic.
        """
        template = cls(event, request, version, partitions, acks, generation)
        data = request.topic_data[0].partition_data[0]
        found = template.find(event)
        return template if found is not None and found[1:] == (data.index, data.records) else None

    @property
    def pos(self) -> int:
        """Where the partition's number stands in a request that matches."""
        return self._pos

    @property
    def key(self) -> bytes:
        """All of a request before the partition's number but the correlation id."""
        return self._api + self._head

    @property
    def generation(self) -> int:
        """The generation of quotas and access rules under which it may be used."""
        return self._generation

    @property
    def version(self) -> int:
        """Of the requests."""
        return self._version

    @property
    def acks(self) -> Acks:
        """What the requests wait for."""
        return self._acks

    def partition(self, index: int) -> IPartition | None:
        """Return the partition of a number; None if there is none here, or the topic was changed."""
        return self._partitions[index] if 0 <= index < len(self._partitions) else None

    def shape(self) -> tuple[bytes, bytes, bool, bytes, int, int, int]:
        """Return what ``net.compiled.Shape`` asks for: what repeats, an answer, the places of its numbers."""
        sample = b"".join(self._encode(0, 0, base_offset=_SENTINEL))
        at = sample.index(_SENTINEL.to_bytes(8, "big"))
        start = at + _START_AFTER_OFFSET if self._with_start else -1
        return self._api, self._head, self._flexible, sample, at - _BEFORE_OFFSET, at, start

    def find(self, event: memoryview) -> tuple[int, int, memoryview] | None:
        """Return correlation id, partition's number and batch of a request that matches, else None."""
        if len(event) < self._least_bytes:
            return None
        api, correlation_id, head, index, size = self._unpack(event)
        if head != self._head or api != self._api:
            return None
        start = self._start
        end = len(event)
        if self._flexible:
            if size > 127:
                byte = event[start]
                start += 1
                size += (byte - 1) << 7
                if byte > 127:
                    byte = event[start]
                    start += 1
                    size += (byte - 1) << 14
                    if byte > 127:
                        # More than two megabytes, or an unusual way to say that it is less.
                        try:
                            size, start = read_uvarint(event, self._start - 1, end)
                        except ProtocolError:
                            return None
            size -= 1
            end -= 3
            if event[end] or event[end + 1] or event[end + 2]:
                return None
        return (correlation_id, index, event[start:end]) if start + size == end else None

    def take(self, connection: KafkaConnection, event: memoryview) -> Room | None:
        """Take one request.

        Returns:
            ``NO_MATCH``; or else as ``BrokerConnection.handle``.
        """
        found = self.find(event)
        if found is None:
            return NO_MATCH  # type: ignore[no-any-return]
        correlation_id, index, batch = found
        try:
            header = validate_produce(batch)
            partition = self._partitions[index] if index >= 0 else None
        except (BatchError, IndexError):
            return NO_MATCH  # type: ignore[no-any-return]
        if partition is None or connection.broker.quotas.generation != self._generation:
            return NO_MATCH  # type: ignore[no-any-return]
        if not partition.has_room(header[12], len(batch)):
            return partition
        if header[5] & _TRANSACTIONAL:
            if header.base_sequence and not partition.remembers(header.producer_id):
                return NO_MATCH  # type: ignore[no-any-return]
            try:
                waiting = admit(
                    connection.broker,
                    self._transactional_id,
                    _new(ProducerIdentity, (header.producer_id, header.producer_epoch)),
                    partition,
                    batch,
                    self._version,
                )
            except BrokerError as error:
                refused = Answer(connection, len(event))
                connection.add_slot(refused)
                refused.fill(self.refusal(correlation_id, index, error))
                Asked(connection, "Produce", self._version, len(event)).answered(())
                return None
            if waiting is not None:
                return waiting
        answer = _TemplateAnswer(connection, len(event), self, partition, correlation_id)
        data = batch if connection.owned else bytearray(batch)
        try:
            answer.base_offset = partition.append(header, data, self._acks, answer)
        except BrokerError:
            return NO_MATCH  # type: ignore[no-any-return]
        answer.append_time_ms = partition.append_time_ms
        answer.began = connection._offered_since or connection.turns.began or monotonic()
        connection.add_slot(answer)
        return None

    def answer(
        self, correlation_id: int, partition: IPartition, base_offset: int, append_time_ms: int
    ) -> bytes:
        """Return the answer of a batch that is stored."""
        if not self._with_start:
            return self._pack(
                self._size,
                correlation_id,
                self._middle,
                partition.index,
                0,
                base_offset,
                append_time_ms,
                self._suffix,
            )
        return self._pack(
            self._size,
            correlation_id,
            self._middle,
            partition.index,
            0,
            base_offset,
            append_time_ms,
            partition.log.start_offset,
            self._suffix,
        )

    def refusal(self, correlation_id: int, index: int, error: BrokerError) -> list[bytes]:
        """Return the answer of a batch that could not be written."""
        return self._encode(correlation_id, index, error_code=kafka_error(error), error_message=error.message)

    def _encode(
        self,
        correlation_id: int,
        index: int,
        *,
        base_offset: int = -1,
        error_code: int = 0,
        error_message: str | None = None,
    ) -> list[bytes]:
        """Encode an answer the general way."""
        name, topic_id = self._topic
        row = produce.Response.Topic.Partition(
            index=index, error_code=error_code, base_offset=base_offset, error_message=error_message
        )
        topic = produce.Response.Topic(name=name, topic_id=topic_id, partition_responses=[row])
        return encode_answer(produce.Response(responses=[topic]), _KEY, self._version, correlation_id)
