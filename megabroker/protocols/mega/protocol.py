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

from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.access import Operation
from megabroker.codec.batch import build, build_single, read_header
from megabroker.errors import BrokerError, Cold, ErrorCode, ProtocolError, RequestError
from megabroker.interfaces import IBroker, IPartition, IRemotePartition
from megabroker.model import NO_TIMESTAMP, Acks, Buffer, Listener
from megabroker.net.asked import Asked
from megabroker.net.connection import BrokerConnection
from megabroker.net.factory import BrokerFactory
from megabroker.net.output import Part
from megabroker.net.wire import Answer, Room
from megabroker.protocols.gate import Gate
from megabroker.protocols.mega.codec import (
    MAX_OFFSET,
    Consume,
    CreateTopic,
    Invalid,
    MegaError,
    Produce,
    Request,
    RequestParser,
    encode_consumed,
    encode_created,
    encode_error,
    encode_produced,
)
from megabroker.protocols.mega.settings import MegaSettings
from megabroker.protocols.reading import ReadCache, RecordReader

__all__ = ["ERRORS", "MegaConnection", "MegaFactory"]

_log = Logger()

ERRORS: Final[dict[ErrorCode, MegaError]] = {
    ErrorCode.INVALID_REQUEST: MegaError.INVALID_REQUEST,
    ErrorCode.INVALID_TOPIC: MegaError.INVALID_REQUEST,
    ErrorCode.INVALID_RECORD: MegaError.INVALID_REQUEST,
    ErrorCode.INVALID_TIMESTAMP: MegaError.INVALID_REQUEST,
    ErrorCode.UNKNOWN_TOPIC: MegaError.TOPIC_NOT_FOUND,
    ErrorCode.UNKNOWN_PARTITION: MegaError.TOPIC_NOT_FOUND,
    ErrorCode.TOPIC_NOT_ALLOWED: MegaError.INVALID_REQUEST,
    ErrorCode.TOPIC_EXISTS: MegaError.TOPIC_ALREADY_EXISTS,
    ErrorCode.MESSAGE_TOO_LARGE: MegaError.MESSAGE_TOO_LARGE,
    ErrorCode.OFFSET_OUT_OF_RANGE: MegaError.INVALID_OFFSET,
    ErrorCode.STORAGE: MegaError.NETWORK_ERROR,
    ErrorCode.TIMED_OUT: MegaError.NETWORK_ERROR,
    ErrorCode.UNREACHABLE: MegaError.NETWORK_ERROR,
    ErrorCode.NOT_ENOUGH_REPLICAS: MegaError.RESOURCE_EXHAUSTED,
    ErrorCode.TOPIC_LIMIT: MegaError.RESOURCE_EXHAUSTED,
    ErrorCode.DISK_FULL: MegaError.RESOURCE_EXHAUSTED,
    ErrorCode.OVERLOADED: MegaError.RESOURCE_EXHAUSTED,
    ErrorCode.SHUTTING_DOWN: MegaError.RESOURCE_EXHAUSTED,
}
"""What the broker's refusals are called on this wire; everything else is INTERNAL_ERROR."""

_ACKS: Final = {"0": Acks.NONE, "1": Acks.WRITTEN, "all": Acks.DURABLE}

_LARGEST_BATCH_BYTES = 256 * 1024  # of several messages; a single one may be larger
_LARGEST_BATCH_MESSAGES = 1000
_RECORD_OVERHEAD_BYTES = 40
_BATCH_OVERHEAD_BYTES = 1024
_READ_CACHE_BYTES = 64 << 20
_VISIBLE_WITHIN_SECONDS = 10.0
_REQUEST_BYTES = 200  # memory of a parsed request beside its payload


class FatalRequest(ProtocolError):
    """A request after which the stream cannot be followed; ``answer`` is what the peer is told."""

    def __init__(self, request: Invalid) -> None:
        super().__init__(request.detail)
        self.answer = encode_error(request.correlation_id, request.code)


class _Reader:
    """``RequestParser`` as ``BrokerConnection`` wants it: one request at a time."""

    has_target = False
    owned = True

    def __init__(self, parser: RequestParser) -> None:
        self.parser = parser
        self._requests: deque[Request] = deque()
        self._queued_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of memory held between chunks."""
        return self.parser.held_bytes + self._queued_bytes

    @property
    def announced_bytes(self) -> int:
        """Length of the payload that is being received, or 0."""
        return self.parser.announced_bytes

    @property
    def mid_frame(self) -> bool:
        """Whether the rest of a request is awaited."""
        return self.parser.mid_request

    def feed(self, data: Buffer) -> None:
        """Take a chunk."""
        requests = self.parser.receive(data)
        if requests:
            self._requests.extend(requests)
            self._queued_bytes += len(data)

    def next(self) -> Request | None:
        """Return the next request."""
        if self._requests:
            return self._requests.popleft()
        self._queued_bytes = 0
        return None

    def release(self) -> None:
        """Nothing refers to the chunk."""

    def target(self) -> None:
        """Bytes always come through ``feed``."""

    def filled(self, count: int) -> None:
        """Not used."""


class _Batch:
    """Messages for one topic gathered over a turn, and where their answers go.

    Attributes:
        slots: each slot with the index of the first request it answers; neighbours share one.
    """

    __slots__ = ("_answers", "_asked", "_missing", "partition", "requests", "size_bytes", "slots")

    def __init__(self, partition: IPartition, asked: Asked) -> None:
        self._asked = asked
        self.partition = partition
        self.requests: list[Produce] = []
        self.size_bytes = 0
        self.slots: list[tuple[Answer, int]] = []
        self._answers: list[bytes] = []
        self._missing = 0

    def expect_answers(self) -> None:
        """No more requests come."""
        self._asked.size_bytes = self.size_bytes
        self._asked.waits()
        self._missing = len(self.requests)
        self._answers = [b""] * self._missing

    def settle(self, first: int, count: int, base_offset: int, error: BrokerError | None) -> None:
        """Take the outcome of some of the requests; answer when all are known."""
        requests, answers = self.requests, self._answers
        if error is None:
            shift = base_offset - first
            for index in range(first, first + count):
                request = requests[index]
                answers[index] = encode_produced(request[0], request[2], index + shift)
        else:
            code = ERRORS.get(error.code, MegaError.INTERNAL_ERROR)
            for index in range(first, first + count):
                answers[index] = encode_error(requests[index][0], code)
        self._missing -= count
        if not self._missing:
            self._asked.answered(answers, len(answers))
            end = len(answers)
            for slot, begin in reversed(self.slots):
                slot_answers = answers[begin:end]
                end = begin
                slot.fill((b"".join(slot_answers),))


class _Appended:
    """Part of a batch handed to the partition; ``done`` is what the partition calls."""

    __slots__ = ("base_offset", "batch", "count", "first")

    def __init__(self, batch: _Batch, first: int, count: int) -> None:
        self.batch = batch
        self.first = first
        self.count = count
        self.base_offset = -1

    def done(self, error: BrokerError | None) -> None:
        """Settle."""
        self.batch.settle(self.first, self.count, self.base_offset, error)

    def stored(self, base_offset: int, error: BrokerError | None) -> None:
        """Settle what another process was given, if its offsets can be told."""
        self.base_offset = base_offset
        if error is None and base_offset + self.count > MAX_OFFSET:
            error = _no_more_offsets()
        self.done(error)


class _Wait:
    """A CONSUME of an offset that is accepted and not yet visible."""

    def __init__(self, connection: MegaConnection, partition: IPartition, request: Consume) -> None:
        self.connection = connection
        self.partition = partition
        self.request = request
        self.slot = connection.reserve(_REQUEST_BYTES)
        self._asked = Asked(connection, "CONSUME", -1, _REQUEST_BYTES)
        self._asked.waits()
        self._timer: Any = connection.broker.reactor.callLater(_VISIBLE_WITHIN_SECONDS, self._expire)
        self._cancel: Callable[[], None] | None = None
        self._begin()

    def _begin(self) -> None:
        self._watch()

    def _watch(self) -> None:
        if self._cancel is None:
            self._cancel = self.partition.watch(self.try_again)

    def try_again(self) -> None:
        """Answer if it can be answered now."""
        if self not in self.connection.waits:
            return
        try:
            answer = self.connection.message_at(self.partition, self.request)
        except Cold as cold:
            cold.when_room(self.try_again)
            return
        if answer is not None:
            self._end(answer)
        else:
            self._watch()

    def _expire(self) -> None:
        self._end(encode_error(self.request.correlation_id, MegaError.INVALID_OFFSET))

    def _end(self, answer: bytes) -> None:
        self.stop()
        self.connection.waits.discard(self)
        self.slot.fill((answer,))
        self._asked.answered((answer,))
        if self.connection.broker.quotas.limits_clients:
            self.connection.count_consumed(len(answer))

    def stop(self) -> None:
        """Wait no longer."""
        if self._cancel is not None:
            self._cancel()
        if self._timer.active():
            self._timer.cancel()


class _LookingWait(_Wait):
    """A CONSUME from a partition led elsewhere, where it may be further than is known here."""

    def _begin(self) -> None:
        remote: IRemotePartition = self.partition  # type: ignore[assignment]
        remote.look(self._looked)

    def _looked(self, error: BrokerError | None) -> None:
        if error is None:
            self.try_again()
        elif self in self.connection.waits:
            self._end(_refusal(self.request.correlation_id, error))

    def _expire(self) -> None:
        # Without a word from the leader nothing can be said about the offset.
        code = MegaError.NETWORK_ERROR if self._cancel is None else MegaError.INVALID_OFFSET
        self._end(encode_error(self.request.correlation_id, code))


class MegaConnection(BrokerConnection):
    """One MEGA client.

    Attributes:
        waits: consumes waiting for their message to become visible.
    """

    longest_key = "protocols.mega.max_payload_bytes"
    factory: MegaFactory

    def __init__(self, factory: MegaFactory) -> None:
        super().__init__(factory)
        self.waits: set[_Wait] = set()
        self._batches: dict[str, _Batch] = {}
        self._latest: _Batch | None = None  # the batch whose last slot is the connection's last slot
        self._gate = Gate()
        self._consumer: RecordReader | None = None
        self._consumed = 0  # messages given at once in this turn

    def make_reader(self) -> _Reader:
        """Return a new parser for this wire."""
        settings = self.factory.settings
        return _Reader(RequestParser(max_payload_bytes=settings.max_payload_bytes, dialect=settings.dialect))

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
                self.answer((_refusal(request.correlation_id, error),))
                return None
            if not partition.has_room(1, size_bytes):
                return partition
            batch = self._batches[topic] = _Batch(partition, Asked(self, "PRODUCE", -1, 0))
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

    def _append(self, batch: _Batch) -> None:
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

    def _append_range(self, batch: _Batch, first: int, count: int) -> BrokerError | None:
        """Hand messages to the partition as one record batch; return why it refused, if it did."""
        partition = batch.partition
        if partition.log.next_offset + count > MAX_OFFSET:
            return _no_more_offsets()
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
        appended = _Appended(batch, first, count)
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
            self.answer((_refusal(request.correlation_id, error),))
            return None
        if not partition.is_here and not 0 <= request.offset < partition.high_watermark:
            self.waits.add(_LookingWait(self, partition, request))
            return None
        try:
            answer = self.message_at(partition, request)
        except Cold as cold:
            return cold
        if answer is None:
            self.waits.add(_Wait(self, partition, request))
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
                return _refusal(request.correlation_id, error)
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
            self.answer((_refusal(request.correlation_id, error),))
            return
        slot = self.reserve(_REQUEST_BYTES)
        asked = Asked(self, "CREATE_TOPIC", -1, _REQUEST_BYTES)
        asked.waits()
        self._gate.close()
        created: Deferred[Any] = self.broker.topics.create(request.topic, 1, self.factory.topic_configs())

        def answer(result: Any) -> None:
            if not isinstance(result, Failure):
                self.broker.audit.changed(self.principal, self.peer_host, "CREATE_TOPIC", [request.topic])
                slot.fill((encode_created(request.correlation_id, request.timestamp_ms, request.topic),))
            elif isinstance(result.value, BrokerError):
                slot.fill((_refusal(request.correlation_id, result.value),))
            else:
                _log.failure("create-topic-failed", failure=result, topic=request.topic)
                slot.fill((encode_error(request.correlation_id, MegaError.INTERNAL_ERROR),))
            asked.answered(slot.parts or ())
            self._gate.open()

        created.addBoth(answer)


class MegaFactory(BrokerFactory):
    """Makes MEGA connections.

    Attributes:
        acks: when a produce is answered.
        read_cache: bound on the decoded batches that consuming connections hold.
        batch_messages: the most messages that become one batch.
    """

    def __init__(self, broker: IBroker, settings: MegaSettings, listener: Listener) -> None:
        super().__init__(broker, listener, MegaConnection)
        self.settings = settings
        self.acks = _ACKS[settings.acks]
        self.read_cache = ReadCache(_READ_CACHE_BYTES)
        # An empty queue takes any one batch, so batches made here keep its bound themselves.
        self.batch_messages: int = min(_LARGEST_BATCH_MESSAGES, broker.settings.partition_channel_buffer_size)

    def topic_configs(self) -> dict[str, str | None]:
        """Return what is set on a topic made here: room for the largest payload, if it is not there."""
        wanted = self.settings.max_payload_bytes + _BATCH_OVERHEAD_BYTES
        if wanted <= self.broker.settings.topics.max_message_bytes:
            return {}
        return {"max.message.bytes": str(wanted)}


def _no_more_offsets() -> BrokerError:
    return BrokerError(ErrorCode.OVERLOADED, "offsets of this topic no longer fit 32 bits")


def _refusal(correlation_id: int, error: BrokerError) -> bytes:
    return encode_error(correlation_id, ERRORS.get(error.code, MegaError.INTERNAL_ERROR))
