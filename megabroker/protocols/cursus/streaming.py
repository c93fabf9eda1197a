"""Messages flowing to a cursus client: the answer to CONSUME, and what subscribers are pushed.

Owns the pace. Messages are read from the log in slices, one slice per reactor turn, and only while the
connection's output has room; nothing is kept per message. What is in memory for a stream is one slice (or
one message, when larger) above the output's own bound.

Invariant: messages of one partition leave in offset order, each exactly once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any, Final, Protocol

from megabroker.errors import BrokerError, Cold, ErrorCode, ProtocolError
from megabroker.interfaces import IBroker, IPartition
from megabroker.model import Record
from megabroker.net.counts import Counts
from megabroker.net.output import Part
from megabroker.protocols.reading import ReadCache, RecordReader

__all__ = ["CONSUME_MESSAGES", "ConsumeStream", "StreamTarget", "Subscription"]

CONSUME_MESSAGES: Final = 8192
"""The most messages one CONSUME is answered with."""

_SLICE_BYTES = 256 * 1024
_LARGE_BYTES = 16 * 1024  # a message from here on is sent from where it lies instead of being joined
_VISIBLE_WITHIN_SECONDS = 10.0

_LENGTH = Struct(">I")


class StreamTarget(Protocol):
    """What a stream needs of its connection."""

    broker: IBroker
    counts: Counts
    closed: bool

    @property
    def output_is_full(self) -> bool:
        """Whether nothing more should be made for now."""

    @property
    def output_is_idle(self) -> bool:
        """Whether everything answered has been sent."""

    @property
    def unanswered(self) -> int:
        """Requests that wait for their answers."""

    def answer(self, parts: Sequence[Part]) -> None:
        """Queue parts."""

    def flush(self) -> None:
        """Send what is queued."""

    def note_activity(self) -> None:
        """The connection is not idle."""

    def count_consumed(self, size_bytes: int) -> int:
        """Count what was sent; return for how many milliseconds nothing more must be."""


def _wait_ms(target: StreamTarget, gathered: _Slice) -> int:
    """Return how long the quotas of the client have its stream wait after a slice, in milliseconds."""
    return target.count_consumed(gathered.size_bytes) if target.broker.quotas.limits_clients else 0


class _Slice:
    """Frames gathered for one turn."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self.count = 0
        self.parts: list[Part] = []
        self._small: list[bytes] = []

    def add(self, record: Record) -> None:
        """Frame one message."""
        value = record.value or b""
        self.count += 1
        self.size_bytes += 4 + len(value)
        self._small.append(_LENGTH.pack(len(value)))
        if len(value) < _LARGE_BYTES:
            self._small.append(value)
        else:
            self._join()
            self.parts.append(value)

    def finish(self) -> list[Part]:
        """Return everything gathered."""
        self._join()
        return self.parts

    def _join(self) -> None:
        if self._small:
            self.parts.append(b"".join(self._small))
            self._small.clear()


class ConsumeStream:
    """The answer to one CONSUME.

    What was accepted when the stream began belongs to it, even where it is not visible yet.

    Args:
        ended: called once, never from within ``__init__``: messages sent, and why it ended early, if so.
    """

    def __init__(
        self,
        target: StreamTarget,
        partition: IPartition,
        offset: int,
        cache: ReadCache,
        ended: Callable[[int, BrokerError | ProtocolError | None], None],
    ) -> None:
        self.count = 0
        self._target = target
        self._partition = partition
        self._ended: Callable[[int, BrokerError | ProtocolError | None], None] | None = ended
        self._end_offset = partition.log.next_offset
        self._reader = RecordReader(partition, max(offset, partition.start_offset), cache)
        self._reactor: Any = target.broker.reactor
        self._next_run: Any = self._reactor.callLater(0, self._run)
        self._expiry: Any = None
        self._cancel_watch: Callable[[], None] | None = None

    def wake(self) -> None:
        """Go on if there is something to do; called when the output has drained."""
        if self._ended is not None and self._next_run is None:
            self._next_run = self._reactor.callLater(0, self._run)

    def stop(self) -> None:
        """Give up without a word; the connection is gone."""
        self._ended = None
        self._release()

    def _run(self) -> None:
        self._next_run = None
        if self._ended is None or self._target.output_is_full:
            return
        self._target.note_activity()
        gathered = _Slice()
        error: BrokerError | ProtocolError | None = None
        cold: Cold | None = None
        exhausted = False
        while self.count + gathered.count < CONSUME_MESSAGES and gathered.size_bytes < _SLICE_BYTES:
            try:
                record = self._next()
            except (BrokerError, ProtocolError) as caught:
                error = caught
                break
            except Cold as caught:
                cold = caught
                break
            if record is None:
                exhausted = True
                break
            gathered.add(record)
        self.count += gathered.count
        wait_ms = 0
        if gathered.count:
            self._target.answer(gathered.finish())
            wait_ms = _wait_ms(self._target, gathered)
        if error is not None or self.count >= CONSUME_MESSAGES:
            self._end(error)
        elif wait_ms:
            self._next_run = self._reactor.callLater(wait_ms / 1000, self._run)
        elif cold is not None:
            cold.when_room(self.wake)
        elif not exhausted:
            self.wake()
        elif self._partition.high_watermark >= self._end_offset:
            self._end(None)
        else:
            self._wait()

    def _next(self) -> Record | None:
        if self._reader.position > self._partition.high_watermark:
            return None
        try:
            return self._reader.next()
        except BrokerError as error:
            # Retention may pass the reader by; what is left begins at the log's new start.
            start_offset = self._partition.start_offset
            if error.code is not ErrorCode.OFFSET_OUT_OF_RANGE or self._reader.position >= start_offset:
                raise
            self._reader.position = start_offset
            return self._reader.next()

    def _wait(self) -> None:
        if self._cancel_watch is None:
            self._cancel_watch = self._partition.watch(self.wake)
            self._expiry = self._reactor.callLater(_VISIBLE_WITHIN_SECONDS, self._end, None)

    def _end(self, error: BrokerError | ProtocolError | None) -> None:
        ended, self._ended = self._ended, None
        self._release()
        if ended is not None:
            ended(self.count, error)

    def _release(self) -> None:
        self._reader.close()
        if self._cancel_watch is not None:
            self._cancel_watch()
        for call in (self._next_run, self._expiry):
            if call is not None and call.active():
                call.cancel()


class Subscription:
    """Pushes what is published to a topic from now on, all partitions, to one subscriber.

    Reading runs at most ``buffer_messages`` ahead of what the connection has sent, and stops while answers
    to the subscriber's own commands are outstanding.
    """

    def __init__(self, target: StreamTarget, topic: str, cache: ReadCache, buffer_messages: int) -> None:
        self.topic = topic
        self._target = target
        self._cache = cache
        self._buffer_messages = buffer_messages
        self._ahead = 0  # messages given to the connection since its output was last empty
        self._readers: list[RecordReader] = []
        self._cancels: list[Callable[[], None]] = []
        self._next_run: Any = None
        self._stopped = False
        self._add_partitions(from_end=True)

    def wake(self) -> None:
        """Go on if there is something to do."""
        if not self._stopped and self._next_run is None:
            self._next_run = self._target.broker.reactor.callLater(0, self._run)

    def follow_topic(self) -> bool:
        """Take in partitions added since; return False once the topic is gone."""
        topic = self._target.broker.topics.get(self.topic)
        if topic is None or any(reader.partition.topic.id != topic.id for reader in self._readers[:1]):
            self.stop()
            return False
        if topic.partitions > len(self._readers):
            self._add_partitions(from_end=False)
            self.wake()
        return True

    def stop(self) -> None:
        """Push no more."""
        self._stopped = True
        for cancel in self._cancels:
            cancel()
        for reader in self._readers:
            reader.close()
        if self._next_run is not None and self._next_run.active():
            self._next_run.cancel()
        self._next_run = None

    def _add_partitions(self, *, from_end: bool) -> None:
        broker = self._target.broker
        topic = broker.topics.get(self.topic)
        if topic is None:
            return
        for index in range(len(self._readers), topic.partitions):
            try:
                partition = broker.partitions.partition(self.topic, index)
            except BrokerError:
                break
            offset = partition.log.next_offset if from_end else partition.start_offset
            self._readers.append(RecordReader(partition, offset, self._cache))
            self._cancels.append(partition.watch(self.wake))

    def _run(self) -> None:
        self._next_run = None
        target = self._target
        if self._stopped or target.closed or target.unanswered or target.output_is_full:
            return
        if target.output_is_idle:
            self._ahead = 0
        gathered = _Slice()
        left = self._buffer_messages - self._ahead
        if left <= 0:
            target.counts.met("consumer_channel_buffer_size")
        for reader in self._readers:
            while gathered.count < left and gathered.size_bytes < _SLICE_BYTES:
                record = self._next(reader)
                if record is None:
                    break
                gathered.add(record)
        if not gathered.count:
            return
        # The partition served first this time is served last next time.
        self._readers.append(self._readers.pop(0))
        self._ahead += gathered.count
        target.answer(gathered.finish())
        target.flush()
        wait_ms = _wait_ms(target, gathered)
        if wait_ms:
            self._next_run = target.broker.reactor.callLater(wait_ms / 1000, self._run)
        elif self._ahead < self._buffer_messages or target.output_is_idle:
            self.wake()

    def _next(self, reader: RecordReader) -> Record | None:
        partition = reader.partition
        if reader.position >= partition.high_watermark:
            return None
        try:
            if reader.position < partition.start_offset:
                reader.drop()
                reader.position = partition.start_offset
            return reader.next()
        except Cold as cold:
            cold.when_room(self.wake)
            return None
        except (BrokerError, ProtocolError):
            # The log is gone or damaged here; what can be said of it is said by whoever asks it.
            return None
