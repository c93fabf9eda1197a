"""MEGA connections: requests from the codec, carried out by the broker, answered in order.

Owns the mapping of MEGA onto the shared log: a topic is partition 0, a message is one record with a null
key. Never interprets bytes (``codec`` does) and never keeps a message that the partition's queue has no
room for: such a request waits, unread ones behind it wait in the socket.

*Produce.* All messages for one topic that arrive in one turn become one batch, appended at the end of the
turn or as soon as a later request could tell the difference. Each is answered with its own offset.

*Consume.* A reader is kept between requests, so that taking a large compressed batch message by message
decompresses it once. An offset that is accepted but not yet visible is waited for: whoever was told that
message n is stored can consume it.

*Create.* Requests behind it wait until the topic is there or refused.

Invariant: every request is answered exactly once, in the order of the requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.access import Operation
from megabroker.codec.batch import build, build_single, read_header
from megabroker.errors import BrokerError, Cold, ErrorCode, ProtocolError, RequestError
from megabroker.interfaces import IPartition, IRemotePartition
from megabroker.model import NO_TIMESTAMP, Acks
from megabroker.net.asked import Asked
from megabroker.net.connection import BrokerConnection
from megabroker.net.output import Part
from megabroker.net.wire import Answer, Room
from megabroker.protocols.gate import Gate
from megabroker.protocols.mega.batches import Appended, Batch
from megabroker.protocols.mega.codec import (
    MAX_OFFSET,
    Consume,
    CreateTopic,
    MegaError,
    Produce,
    Request,
    RequestParser,
    encode_consumed,
    encode_created,
    encode_error,
)
from megabroker.protocols.mega.errors import FatalRequest, no_more_offsets, refusal
from megabroker.protocols.mega.reader import REQUEST_BYTES, RequestReader
from megabroker.protocols.mega.waits import LookingWait, Wait
from megabroker.protocols.reading import RecordReader

if TYPE_CHECKING:
    from megabroker.protocols.mega.factory import MegaFactory

__all__ = ["MegaConnection"]

_log = Logger()

_LARGEST_BATCH_BYTES = 256 * 1024  # of several messages; a single one may be larger
_RECORD_OVERHEAD_BYTES = 40


class MegaConnection(BrokerConnection):
    """One MEGA client.

    Attributes:
        waits: consumes waiting for their message to become visible.
    """

    longest_key = "protocols.mega.max_payload_bytes"
    factory: MegaFactory

    def __init__(self, factory: MegaFactory) -> None:
        super().__init__(factory)
        self.waits: set[Wait] = set()
        self._batches: dict[str, Batch] = {}
        self._latest: Batch | None = None  # the batch whose last slot is the connection's last slot
        self._gate = Gate()
        self._consumer: RecordReader | None = None
        self._consumed = 0  # messages given at once in this turn

    def make_reader(self) -> RequestReader:
        """Return a new parser for this wire."""
        settings = self.factory.settings
        return RequestReader(
            RequestParser(max_payload_bytes=settings.max_payload_bytes, dialect=settings.dialect)
        )

    def handle(self, event: Request) -> Room | None:
        """Take one request."""
        if self._gate.closed:
            return self._gate
        if isinstance(event, Produce):
            return self._produce(event)
        self._latest = None
        if isinstance(event, Consume):
            return self._consume(event)
        if isinstance(event, CreateTopic):
            self._create(event)
        elif event.fatal:
            raise FatalRequest(event)
        else:
            self.answer((encode_error(event.correlation_id, event.code),))
        return None

    def turn_ended(self) -> None:
        """Append what was gathered, and count what was answered at once."""
        if self._batches:
            self._append_all()
        if self._consumed:
            self.counts.latency("CONSUME").observe(monotonic() - self.since(), self._consumed)
            self._consumed = 0

    def farewell(self, error: ProtocolError) -> Sequence[Part]:
        """Say what was wrong, after everything asked before it is under way."""
        self._append_all()
        return (error.answer,) if isinstance(error, FatalRequest) else ()

    def connection_closed(self) -> None:
        """Nobody is there to be answered."""
        for wait in self.waits:
            wait.stop()
        self.waits.clear()
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    # --- PRODUCE ---

    def _produce(self, request: Produce) -> Room | None:
        topic = request.topic
        size_bytes = len(request.payload) + _RECORD_OVERHEAD_BYTES
        batch = self._batches.get(topic)
        if batch is not None and (
            len(batch.requests) >= self.factory.batch_messages
            or batch.size_bytes + size_bytes > _LARGEST_BATCH_BYTES
            or not batch.partition.has_room(len(batch.requests) + 1, batch.size_bytes + size_bytes)
        ):
            self._append(self._batches.pop(topic))
            batch = None
        if batch is None:
            try:
                self.check_topic(Operation.WRITE, topic)
                partition = self.broker.partitions.partition(topic, 0)
                if partition.needs_keys:
                    raise RequestError(
                        ErrorCode.INVALID_RECORD, f"{topic} is compacted and takes no message without a key"
                    )
            except BrokerError as error:
                self._latest = None
                self.answer((refusal(request.correlation_id, error),))
                return None
            if not partition.has_room(1, size_bytes):
                return partition
            batch = self._batches[topic] = Batch(partition, Asked(self, "PRODUCE", -1, 0))
        if self._latest is batch:
            self.enlarge(batch.slots[-1][0], size_bytes)
        else:
            batch.slots.append((self.reserve(size_bytes), len(batch.requests)))
            self._latest = batch
        batch.requests.append(request)
        batch.size_bytes += size_bytes
        return None

    def enlarge(self, slot: Answer, size_bytes: int) -> None:
        """Charge a further request to a slot that answers it too."""
        slot.size_bytes += size_bytes
        self._unanswered_bytes += size_bytes

    def _append_all(self) -> None:
        batches, self._batches = self._batches, {}
        for batch in batches.values():
            self._append(batch)

    def _append(self, batch: Batch) -> None:
        if self._latest is batch:
            self._latest = None
        if self.broker.quotas.limits_clients:
            self.count_produced(batch.size_bytes)
        batch.expect_answers()
        count = len(batch.requests)
        error = self._append_range(batch, 0, count)
        if error is None:
            return
        if count > 1 and isinstance(error, RequestError):
            # Together they may break a limit that most of them keep alone.
            for index in range(count):
                error = self._append_range(batch, index, 1)
                if error is not None:
                    batch.settle(index, 1, -1, error)
        else:
            batch.settle(0, count, -1, error)

    def _append_range(self, batch: Batch, first: int, count: int) -> BrokerError | None:
        """Hand messages to the partition as one record batch; return why it refused, if it did."""
        partition = batch.partition
        if partition.log.next_offset + count > MAX_OFFSET:
            return no_more_offsets()
        requests = batch.requests[first : first + count]
        if count == 1:
            data = build_single(None, requests[0].payload, max(requests[0].timestamp_ms, NO_TIMESTAMP))
        else:
            times = [max(request.timestamp_ms, NO_TIMESTAMP) for request in requests]
            data = build(
                [(None, request.payload, (), time) for request, time in zip(requests, times, strict=True)],
                # Differences to a time that is not negative fit 64 bits.
                base_timestamp=max(times) if min(times) < 0 else None,
            )
        appended = Appended(batch, first, count)
        acks = self.factory.acks
        if not partition.is_here:
            if count > 1 and len(data) > partition.policy.max_message_bytes:
                return RequestError(ErrorCode.MESSAGE_TOO_LARGE, "too large together")
            remote: IRemotePartition = partition  # type: ignore[assignment]
            remote.send(read_header(data, 0, len(data)), data, acks, appended.stored)
            return None
        try:
            appended.base_offset = partition.append(
                read_header(data, 0, len(data)), data, acks, None if acks is Acks.NONE else appended.done
            )
        except BrokerError as error:
            return error
        if acks is Acks.NONE:
            appended.done(None)
        return None

    # --- CONSUME ---

    def _consume(self, request: Consume) -> Room | None:
        self._append_all()
        try:
            self.check_topic(Operation.READ, request.topic)
            partition = self.broker.partitions.partition(request.topic, 0)
        except BrokerError as error:
            self.answer((refusal(request.correlation_id, error),))
            return None
        if not partition.is_here and not 0 <= request.offset < partition.high_watermark:
            self.waits.add(LookingWait(self, partition, request))
            return None
        try:
            answer = self.message_at(partition, request)
        except Cold as cold:
            return cold
        if answer is None:
            self.waits.add(Wait(self, partition, request))
        else:
            self.answer((answer,))
            self._consumed += 1
            if self.broker.quotas.limits_clients:
                self.count_consumed(len(answer))
        return None

    def message_at(self, partition: IPartition, request: Consume) -> bytes | None:
        """Return the answer to a CONSUME, or None when its message is accepted and not yet visible.

        Raises:
            Cold: it has to be read from the disk first.
        """
        offset = request.offset
        if 0 <= offset < partition.high_watermark:
            consumer = self._consumer
            if consumer is None or consumer.partition is not partition or consumer.position != offset:
                if consumer is not None:
                    consumer.close()
                consumer = self._consumer = RecordReader(partition, offset, self.factory.read_cache)
            try:
                record = consumer.next()
            except BrokerError as error:
                return refusal(request.correlation_id, error)
            except ProtocolError as error:
                _log.error(
                    "undecodable-batch", topic=request.topic, offset=consumer.position, error=str(error)
                )
                consumer.drop()
                return encode_error(request.correlation_id, MegaError.INTERNAL_ERROR)
            if record is not None:
                if record.offset >= MAX_OFFSET:
                    return encode_error(request.correlation_id, MegaError.RESOURCE_EXHAUSTED)
                return encode_consumed(
                    request.correlation_id, record.timestamp_ms, record.offset + 1, record.value or b""
                )
        if offset < 0 or max(offset, partition.high_watermark) >= partition.log.next_offset:
            return encode_error(request.correlation_id, MegaError.INVALID_OFFSET)
        return None

    # --- CREATE_TOPIC ---

    def _create(self, request: CreateTopic) -> None:
        try:
            self.check_new_topic(request.topic)
            self.count_partitions(1)
        except BrokerError as error:
            self.answer((refusal(request.correlation_id, error),))
            return
        slot = self.reserve(REQUEST_BYTES)
        asked = Asked(self, "CREATE_TOPIC", -1, REQUEST_BYTES)
        asked.waits()
        self._gate.close()
        created: Deferred[Any] = self.broker.topics.create(request.topic, 1, self.factory.topic_configs())

        def answer(result: Any) -> None:
            if not isinstance(result, Failure):
                self.broker.audit.changed(self.principal, self.peer_host, "CREATE_TOPIC", [request.topic])
                slot.fill((encode_created(request.correlation_id, request.timestamp_ms, request.topic),))
            elif isinstance(result.value, BrokerError):
                slot.fill((refusal(request.correlation_id, result.value),))
            else:
                _log.failure("create-topic-failed", failure=result, topic=request.topic)
                slot.fill((encode_error(request.correlation_id, MegaError.INTERNAL_ERROR),))
            asked.answered(slot.parts or ())
            self._gate.open()

        created.addBoth(answer)
