"""Produce (0): store record batches.

**Behaviour.** One batch of format 2 per partition, checked whole (bounds, CRC) before it is stored, then
appended as the client sent it. With ``acks`` 0 nothing is answered, and an error closes the connection,
which is how such a client learns of it. With 1 the answer waits for the file, with -1 for the disk. A
partition whose queue is full parks the whole request: nothing of it is stored until every one of its
partitions has room. Batches of a transaction are stored only if the coordinator of the request's
transactional id says that the transaction takes them (KIP-890); that, too, may park the request. A batch is
refused whole, and told record by record why, when a record in it has no key although its topic is compacted
(INVALID_RECORD) or a timestamp out of the topic's bounds (INVALID_TIMESTAMP).

**Version notes.** 0 to 2 carry the message sets that record batches replaced; they are advertised, since
librdkafka decides on compression by the lowest version, and answered with UNSUPPORTED_VERSION. 5 adds the
log start offset, 8 the error message and which records are at fault. From 11 on a client knows
TRANSACTION_ABORTABLE; older ones are told INVALID_TXN_STATE. With 12 the partition becomes part of the
transaction by being written to. 13 names topics by id.
"""

from __future__ import annotations

import struct
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING
from uuid import UUID

from megabroker.access import Operation, ResourceType
from megabroker.codec.batch import HEADER_BYTES, BatchError, validate_produce
from megabroker.codec.primitives import Buffer
from megabroker.errors import BrokerError, ErrorCode, ProtocolError, RequestError
from megabroker.interfaces import IPartition
from megabroker.model import Acks, ProducerIdentity
from megabroker.net.asked import Asked
from megabroker.net.wire import Answer, Room
from megabroker.protocols.kafka.access.refusals import not_allowed
from megabroker.protocols.kafka.answers import encode_answer
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.metering import Metered
from megabroker.protocols.kafka.produce_template import ProduceTemplate
from megabroker.protocols.kafka.record_rules import (
    Look,
    RejectedRecords,
    check_records,
    looks_inside,
    rejected_times,
    takes_long,
)
from megabroker.protocols.kafka.schema import produce
from megabroker.protocols.kafka.transactional import admit, check_beginning

if TYPE_CHECKING:
    from megabroker.protocols.kafka.protocol import KafkaConnection

__all__ = ["ProduceAnswer", "receive", "refuse_old"]

_KEY = 0
_ACKS = {0: Acks.NONE, 1: Acks.WRITTEN, -1: Acks.DURABLE}
_COUNT = struct.Struct(">i")
_COUNT_POS = HEADER_BYTES - _COUNT.size
_ATTRIBUTES = struct.Struct(">h")
_ATTRIBUTES_POS = 21
_IDENTITY = struct.Struct(">qh")
_IDENTITY_POS = 43
_TRANSACTIONAL = 16
_MANY = 1000
"""Records of a batch that nobody asks whether they take long."""

_Topic = produce.Response.Topic
_Partition = produce.Response.Topic.Partition


class _Part:
    """What a request has for one partition.

    Attributes:
        error: why it is refused, as far as that is known.
        look: what another thread has found in it, if it was asked.
    """

    __slots__ = ("error", "look", "partition", "records")

    def __init__(
        self, records: Buffer | None, partition: IPartition | None, error: BrokerError | None
    ) -> None:
        self.records = records
        self.partition = partition
        self.error = error
        self.look: Look | None = None


class ProduceAnswer(Answer):
    """The answer being put together while its partitions are written."""

    __slots__ = ("asked", "began", "correlation_id", "pending", "response", "version")

    def __init__(
        self, connection: KafkaConnection, version: int, correlation_id: int, size_bytes: int
    ) -> None:
        super().__init__(connection, size_bytes)
        self.began = connection._offered_since or connection.turns.began or monotonic()
        noted = connection.counts.notes is not None
        self.asked = Asked(connection, "Produce", version, size_bytes, self.began) if noted else None
        self.version = version
        self.correlation_id = correlation_id
        self.response = produce.Response()
        self.pending = 1

    def stored(self, row: _Partition, error: BrokerError | None) -> None:
        """One partition's batch is stored as the client asked for, or was not."""
        if error is not None:
            _refuse(row, error)
        self.settle()

    def settle(self) -> None:
        """One of the things waited for is done."""
        self.pending -= 1
        if not self.pending:
            parts = encode_answer(self.response, _KEY, self.version, self.correlation_id)
            self.fill(parts)
            connection: KafkaConnection = self.connection  # type: ignore[assignment]
            turns = connection.turns
            if turns.since == self.began and turns.kind is connection.produced:
                turns.alike += 1
            else:
                turns.answered(connection.produced, self.began)
            if self.asked is not None:
                self.asked.note(parts)


def receive(
    connection: KafkaConnection,
    event: memoryview,
    request: produce.Request,
    version: int,
    correlation_id: int,
    metered: Metered | None = None,
) -> Room | None:
    """Take one Produce request, or say which partition has no room for it.

    Args:
        metered: what it costs the client, if quotas limit it; counted once it is taken.

    Raises:
        ProtocolError: something was refused and the client wants no answer.
    """
    parts = _parts(connection, request, version)
    full = _not_yet(connection, request, version, parts)
    if full is not None:
        return full
    if connection.looks:
        connection.looks.clear()
    acks = _ACKS.get(request.acks)
    if acks is Acks.NONE:
        _store_unanswered(connection, request, version, parts)
        Asked(connection, "Produce", version, len(event)).answered(())
        if metered is not None:
            metered.settle_unanswered(metered.meter.produced(len(event)))
        return None
    answer = ProduceAnswer(connection, version, correlation_id, len(event))
    connection.add_slot(answer)
    each = iter(parts)
    for topic in request.topic_data:
        rows: list[_Partition] = []
        answer.response.responses.append(
            _Topic(name=topic.name, topic_id=topic.topic_id, partition_responses=rows)
        )
        for data in topic.partition_data:
            row = _Partition(index=data.index, base_offset=-1)
            rows.append(row)
            if acks is None:
                row.error_code = int(KafkaError.INVALID_REQUIRED_ACKS)
                continue
            answer.pending += 1
            part = next(each)
            try:
                row.base_offset = _append(connection, part, version, acks, partial(answer.stored, row))
                partition = part.partition
                assert partition is not None
                row.log_start_offset = partition.start_offset
                row.log_append_time_ms = partition.append_time_ms
            except BrokerError as error:
                answer.pending -= 1
                _refuse(row, error)
    only = parts[0].partition if len(request.topic_data) == len(parts) == 1 and answer.pending == 2 else None
    if metered is not None:
        answer.response.throttle_time_ms = metered.settle(metered.meter.produced(len(event)))
        if metered.meter.limits_produce:
            only = None
    if only is not None and acks is not None and only.codec is None and not looks_inside(only):
        broker = connection.broker
        led, generation = broker.topics.led(only.topic.name), broker.quotas.generation
        connection.remember(ProduceTemplate.of(event, request, version, led, acks, generation))
    if answer.asked is not None:
        answer.asked.waits()
    answer.settle()
    return None


def refuse_old(event: Buffer, version: int) -> tuple[int, bytes]:
    """Answer a Produce request of version 0, 1 or 2.

    Returns:
        The request's acks, and the response body: UNSUPPORTED_VERSION for every partition.

    Raises:
        ProtocolError: the request is damaged.
    """
    view = memoryview(event)
    body = bytearray()
    try:
        (client_length,) = struct.unpack_from(">h", view, 8)
        pos = 10 + max(client_length, 0)
        acks, _, topics = struct.unpack_from(">hii", view, pos)
        pos += 10
        body += _COUNT.pack(topics)
        for _ in range(topics):
            (length,) = struct.unpack_from(">h", view, pos)
            if length < 0:
                raise ProtocolError("negative length in a Produce request")
            name_end = pos + 2 + length
            (partitions,) = struct.unpack_from(">i", view, name_end)
            body += view[pos : name_end + 4]
            pos = name_end + 4
            for _ in range(partitions):
                index, size = struct.unpack_from(">ii", view, pos)
                if size < 0:
                    raise ProtocolError("negative length in a Produce request")
                pos += 8 + size
                body += struct.pack(">ihq", index, KafkaError.UNSUPPORTED_VERSION, -1)
                if version >= 2:
                    body += struct.pack(">q", -1)
    except struct.error:
        raise ProtocolError(f"truncated Produce request of version {version}") from None
    if version >= 1:
        body += _COUNT.pack(0)
    return acks, bytes(body)


def _parts(connection: KafkaConnection, request: produce.Request, version: int) -> list[_Part]:
    """Return the parts of a request in its order, each with its partition or why there is none."""
    topics, rules = connection.broker.topics, connection.broker.authorizer.enabled
    refused = _id_refused(connection, request) if rules else None
    parts: list[_Part] = []
    for topic in request.topic_data:
        name = topic.name
        unknown: BrokerError | None = None
        if version >= 13:
            found = topics.get_by_id(UUID(bytes=topic.topic_id))
            if found is None:
                unknown = RequestError(ErrorCode.UNKNOWN_TOPIC_ID)
            else:
                name = found.name
        if rules and unknown is None:
            unknown = refused or _topic_refused(connection, name)
        led = topics.led(name) if unknown is None else ()
        for data in topic.partition_data:
            index = data.index
            partition = led[index] if 0 <= index < len(led) else None
            error = unknown
            if partition is None and error is None:
                try:
                    partition = topics.partition(name, index)
                except BrokerError as caught:
                    error = caught
            parts.append(_Part(data.records, partition, error))
    return parts


def _topic_refused(connection: KafkaConnection, name: str) -> RequestError | None:
    allowed = connection.broker.authorizer.allowed(
        connection.principal, connection.peer_host, Operation.WRITE, ResourceType.TOPIC, name
    )
    return None if allowed else not_allowed(ResourceType.TOPIC)


def _id_refused(connection: KafkaConnection, request: produce.Request) -> RequestError | None:
    """Say why nothing is taken: a batch is part of a transaction, and the id may not be written under."""
    kind, transactional_id = ResourceType.TRANSACTIONAL_ID, request.transactional_id
    if not any(map(_is_transactional, request.topic_data)):
        return None
    if transactional_id is not None and connection.broker.authorizer.allowed(
        connection.principal, connection.peer_host, Operation.WRITE, kind, transactional_id
    ):
        return None
    return not_allowed(kind)


def _is_transactional(topic: produce.Request.Topic) -> bool:
    return any(
        data.records is not None
        and len(data.records) >= HEADER_BYTES
        and _ATTRIBUTES.unpack_from(data.records, _ATTRIBUTES_POS)[0] & _TRANSACTIONAL
        for data in topic.partition_data
    )


def _not_yet(
    connection: KafkaConnection, request: produce.Request, version: int, parts: list[_Part]
) -> Room | None:
    """Return what the request has to wait for: a partition without room, its records, or its transaction.

    Other faults are found later; why a transaction does not take a batch becomes the part's error. Once one
    part is refused the request does not wait for its others: they are refused as well, so that the client
    hears of it.
    """
    broker = connection.broker
    waiting: Room | None = None
    refused: BrokerError | None = None
    not_admitted: list[_Part] = []
    for place, part in enumerate(parts):
        partition, records = part.partition, part.records
        if partition is None or records is None or len(records) < HEADER_BYTES:
            continue
        (count,) = _COUNT.unpack_from(records, _COUNT_POS)
        if not partition.has_room(count, len(records)):
            return partition
        (attributes,) = _ATTRIBUTES.unpack_from(records, _ATTRIBUTES_POS)
        if (count > _MANY or partition.codec is not None) and takes_long(
            partition, count, attributes, len(records)
        ):
            # The request is read anew each time it is offered; its parts keep their places.
            look = connection.looks.get(place)
            if look is None:
                look = connection.looks[place] = Look(broker, partition, records)
            if not look.over:
                return look
            part.look = look
        if attributes & _TRANSACTIONAL:
            # Every partition is asked for, so that all that are new are added by one write.
            try:
                room = admit(
                    broker,
                    request.transactional_id,
                    ProducerIdentity(*_IDENTITY.unpack_from(records, _IDENTITY_POS)),
                    partition,
                    records,
                    version,
                )
            except BrokerError as error:
                part.error = error
                refused = refused or error
            else:
                if room is not None:
                    waiting = waiting or room
                    not_admitted.append(part)
    if waiting is not None and refused is not None:
        for part in not_admitted:
            part.error = refused
        return None
    return waiting


def _append(
    connection: KafkaConnection, part: _Part, version: int, acks: Acks, done: partial[None] | None
) -> int:
    """Check one batch, unless that was done, and have it stored; return its base offset."""
    partition, records, look = part.partition, part.records, part.look
    if part.error is not None or partition is None:
        raise part.error or RequestError(ErrorCode.UNKNOWN_PARTITION)
    if not records:
        raise RequestError(ErrorCode.INVALID_RECORD, "no record batch")
    try:
        header = validate_produce(records)
    except BatchError as error:
        raise RequestError(error.code, str(error)) from None
    if look is None:
        if looks_inside(partition):
            check_records(connection.broker, partition, header, records)
    elif look.error is not None:
        raise look.error
    elif look.batch is not None:
        records = look.batch
        header = validate_produce(records)
    check_beginning(partition, header, version)
    try:
        if connection.owned and isinstance(records, memoryview):
            return partition.append(header, records, acks, done)
        return partition.append(header, bytearray(records), acks, done)
    except RequestError as error:
        if error.code is ErrorCode.INVALID_TIMESTAMP:
            rejected_times(connection.broker, partition, header, records)
        raise


def _store_unanswered(
    connection: KafkaConnection, request: produce.Request, version: int, parts: list[_Part]
) -> None:
    each = iter(parts)
    for topic in request.topic_data:
        for data in topic.partition_data:
            try:
                _append(connection, next(each), version, Acks.NONE, None)
            except BrokerError as error:
                raise ProtocolError(
                    f"produce with acks=0 to {topic.name!r} partition {data.index} refused: {error.message}"
                ) from None


def _refuse(row: _Partition, error: BrokerError) -> None:
    row.error_code = kafka_error(error)
    row.error_message = error.message
    if isinstance(error, RejectedRecords):
        row.record_errors = [
            _Partition.RecordError(batch_index=place, batch_index_error_message=message)
            for place, message in error.errors
        ]
    row.base_offset = -1
    row.log_append_time_ms = -1
    row.log_start_offset = -1
