"""Where the messages of a subscription come from: all of a topic, or those of a queue that nobody else has.

Owns the reading of a topic's partitions in turns. A feed gives what there is when it is asked, and calls its
``wake`` when there may be more; it keeps nothing that was read but what ``ReadCache`` bounds.

*Queues* are share groups (KIP-932): of all members of a group each message goes to one, who has it until it
says what has become of it. A message given back, or of a connection that is gone, goes to another member. A
consumer group could not do that: it gives out partitions, so that a queue of one partition had one
consumer, and a message given back would block those behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from twisted.internet.defer import Deferred, FirstError, gatherResults, succeed

from megabroker.errors import BrokerError, Cold, ErrorCode, ProtocolError, RequestError
from megabroker.interfaces import IBroker, IPartition, IShareConsumer
from megabroker.model import AcknowledgementBatch, LogSpan, Record
from megabroker.protocols.reading import ReadCache, RecordReader

__all__ = ["EARLIEST", "LATEST", "Delivered", "Feed", "QueueFeed", "TopicFeed", "refusal_in"]

EARLIEST: Final = -2
LATEST: Final = -1

_AT_ONCE: Final = 256
_AT_ONCE_BYTES: Final = 128 * 1024


class Delivered(NamedTuple):
    """A record for a subscriber; ``deliveries`` counts this one, and is 0 for a topic's."""

    partition: int
    record: Record
    deliveries: int = 0


class Feed(Protocol):
    """What a subscription is fed by."""

    def take(self, count: int) -> list[Delivered]:
        """Return some messages, ``count`` at most; none when there are none now. Raises BrokerError."""

    def settle(self, places: Iterable[tuple[int, int]], kind: int) -> Deferred[None]:
        """Say what has become of messages, (partition, offset) each; fails with BrokerError."""

    def follow(self) -> None:
        """Take in partitions that are new. Raises RequestError: the topic is gone."""

    def close(self) -> None:
        """Give back what was taken, and call nobody any more."""


class _Source:
    """One partition."""

    def __init__(self, partition: IPartition, offset: int, cache: ReadCache) -> None:
        self.partition = partition
        self.reader = RecordReader(partition, offset, cache)
        self.consumer: IShareConsumer | None = None
        self.unwatch: Callable[[], None] = _nothing

    def next(self) -> Record | None:
        """Return the next record; retention may have passed the reader by. Raises BrokerError or Cold."""
        partition, reader = self.partition, self.reader
        if reader.position >= partition.high_watermark:
            return None
        if reader.position < partition.start_offset:
            reader.drop()
            reader.position = partition.start_offset
        return reader.next()

    def close(self) -> None:
        self.unwatch()
        self.reader.close()
        if self.consumer is not None:
            self.consumer.close()


class _TopicPartitions:
    """The partitions of one topic, each having its turn.

    Args:
        only: the number of the only partition that is wanted, if there is one.
    """

    def __init__(
        self, broker: IBroker, topic: str, cache: ReadCache, wake: Callable[[], None], only: int | None
    ) -> None:
        self._broker = broker
        self._topic = topic
        self._cache = cache
        self._wake = wake
        self._only = only
        self._sources: dict[int, _Source] = {}
        self._turns: list[_Source] = []
        self._is_closed = False
        found = broker.topics.get(topic)
        if found is None:
            raise RequestError(ErrorCode.UNKNOWN_TOPIC, f"there is no topic {topic}")
        self._id = found.id

    def _begin(self, source: _Source) -> None:
        """Begin with a partition."""

    def _first_offset(self, partition: IPartition, *, is_new: bool) -> int:
        raise NotImplementedError

    def _add(self, *, is_new: bool) -> None:
        topic = self._broker.topics.get(self._topic)
        if topic is None or topic.id != self._id:
            raise RequestError(ErrorCode.UNKNOWN_TOPIC, f"the topic {self._topic} was deleted")
        indexes = range(topic.partitions) if self._only is None else (self._only,)
        for index in indexes:
            if index in self._sources:
                continue
            partition = self._broker.partitions.partition(self._topic, index)
            source = _Source(partition, self._first_offset(partition, is_new=is_new), self._cache)
            self._sources[index] = source
            self._turns.append(source)
            source.unwatch = partition.watch(self.wake)
            self._begin(source)

    def wake(self) -> None:
        """There may be more."""
        if not self._is_closed:
            self._wake()

    def follow(self) -> None:
        """See ``Feed.follow``."""
        before = len(self._sources)
        self._add(is_new=True)
        if len(self._sources) > before:
            self.wake()

    def take(self, count: int) -> list[Delivered]:
        """See ``Feed.take``; the partition that was asked first now is asked last the next time."""
        found: list[Delivered] = []
        count = min(count, _AT_ONCE)
        for source in list(self._turns):
            if len(found) >= count:
                break
            try:
                self._take_of(source, count, found)
            except Cold as cold:
                cold.when_room(self.wake)
            except (BrokerError, ProtocolError):
                if not found:
                    raise
                # What lies before it is not lost by it; it comes up again when it is its turn first.
        self._turns.append(self._turns.pop(0))
        return found

    def _take_of(self, source: _Source, count: int, found: list[Delivered]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """See ``Feed.close``."""
        self._is_closed = True
        for source in self._turns:
            source.close()


class TopicFeed(_TopicPartitions):
    """All that is published, from an offset on.

    Args:
        offset: where to begin in each partition; EARLIEST or LATEST among them.
    """

    def __init__(
        self,
        broker: IBroker,
        topic: str,
        cache: ReadCache,
        wake: Callable[[], None],
        only: int | None = None,
        offset: int = LATEST,
    ) -> None:
        super().__init__(broker, topic, cache, wake, only)
        self._offset = offset
        self._add(is_new=False)

    def _first_offset(self, partition: IPartition, *, is_new: bool) -> int:
        if is_new or self._offset == EARLIEST:
            return partition.start_offset
        if self._offset == LATEST:
            return partition.log.next_offset
        if self._offset > partition.log.next_offset:
            raise RequestError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"offset {self._offset} is beyond the end of {partition.topic_partition}: expected "
                f"{partition.start_offset} to {partition.log.next_offset}",
            )
        return max(self._offset, partition.start_offset)

    def _take_of(self, source: _Source, count: int, found: list[Delivered]) -> None:
        size = 0
        index = source.partition.index
        while len(found) < count and size < _AT_ONCE_BYTES:
            record = source.next()
            if record is None:
                return
            size += len(record.value or b"")
            found.append(Delivered(index, record))

    def settle(self, places: Iterable[tuple[int, int]], kind: int) -> Deferred[None]:
        """See ``Feed.settle``: nothing is kept of what a topic's subscriber has had."""
        return succeed(None)


class QueueFeed(_TopicPartitions):
    """What of a topic is not given to another member of a group.

    Args:
        group_id: the share group.
        member_id: whose the messages are.
    """

    def __init__(
        self,
        broker: IBroker,
        topic: str,
        cache: ReadCache,
        wake: Callable[[], None],
        group_id: str,
        member_id: str,
    ) -> None:
        super().__init__(broker, topic, cache, wake, None)
        self._group_id = group_id
        self._member_id = member_id
        self._add(is_new=False)

    def _first_offset(self, partition: IPartition, *, is_new: bool) -> int:
        return partition.start_offset

    def _begin(self, source: _Source) -> None:
        source.consumer = self._broker.shares.consumer(
            self._group_id, self._member_id, source.partition, self.wake
        )

    def _take_of(self, source: _Source, count: int, found: list[Delivered]) -> None:
        consumer, reader = source.consumer, source.reader
        assert consumer is not None
        offset = consumer.next_offset()
        if offset is None:
            return
        if reader.position != offset:
            reader.drop()
            reader.position = offset
        records: dict[int, Record] = {}
        size = 0
        while len(found) + len(records) < count and size < _AT_ONCE_BYTES:
            try:
                record = source.next()
            except (Cold, BrokerError, ProtocolError):
                if records:
                    break
                raise
            if record is None:
                break
            size += len(record.value or b"")
            records[record.offset] = record
        if not records:
            return
        for acquired in consumer.acquire(offset, _spans(records), len(records)):
            found += (
                Delivered(source.partition.index, records[one], acquired.delivery_count)
                for one in range(acquired.first_offset, acquired.last_offset + 1)
                if one in records
            )

    def settle(self, places: Iterable[tuple[int, int]], kind: int) -> Deferred[None]:
        """See ``Feed.settle``."""
        by_partition: dict[int, list[int]] = {}
        for index, offset in places:
            by_partition.setdefault(index, []).append(offset)
        waiting = []
        for index, offsets in by_partition.items():
            consumer = self._sources[index].consumer
            assert consumer is not None
            batches = [
                AcknowledgementBatch(span.first, span.last, (kind,)) for span in _spans(sorted(offsets))
            ]
            waiting.append(consumer.acknowledge(batches))
        if len(waiting) == 1:
            return waiting[0]
        return gatherResults(waiting, consumeErrors=True).addCallback(_nothing)


def refusal_in(error: BaseException | None) -> BrokerError | None:
    """Return the refusal that a failure of ``Feed.settle`` is, of several at once the first; None if none."""
    found = error.subFailure.value if isinstance(error, FirstError) else error
    return found if isinstance(found, BrokerError) else None


def _spans(offsets: Iterable[int]) -> Sequence[LogSpan]:
    """Return ascending offsets as runs of neighbours."""
    spans: list[LogSpan] = []
    for offset in offsets:
        if spans and spans[-1].last + 1 == offset:
            spans[-1] = spans[-1]._replace(last=offset)
        else:
            spans.append(LogSpan(offset, offset))
    return spans


def _nothing(*_: object) -> None:
    """Nothing is to be done."""
