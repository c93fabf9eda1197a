"""Indexes of partitions led here, made when first asked for and following their logs from then on.

Owns when the log is read for them, how much at a turn, and how much memory they take together: beyond
``max_bytes`` the one unused for longest is forgotten, to be made anew. One that would take more than that by
itself, or with those that are being made, is refused as soon as that shows, not when all of its log is read.

Invariant: after ``caught_up`` an index has everything in the log up to its end, in the same turn.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from twisted.internet.defer import Deferred, DeferredLock

from megabroker.errors import BrokerError, Cold, ErrorCode, ProtocolError
from megabroker.interfaces import IBroker, IPartition
from megabroker.protocols.cursus.later.calling import turn, waited
from megabroker.protocols.cursus.later.refusals import Refusal, refusal_of
from megabroker.protocols.cursus.later.stream_index import Index
from megabroker.protocols.reading import ReadCache, RecordReader

__all__ = ["Followed", "Followers"]

_SLICE_RECORDS: Final = 500
_DECIDED_WITHIN_SECONDS: Final = 10.0
_CACHE_BYTES: Final = 16 << 20

I = TypeVar("I", bound=Index)  # noqa: E741


class Followed(Generic[I]):
    """A partition and its index.

    Args:
        has_room: called a few times in a turn while the index grows. Raises Refusal.

    Attributes:
        index: made of the log.
        refusal: why it is not to grow any more.
    """

    def __init__(
        self,
        broker: IBroker,
        partition: IPartition,
        index: I,
        cache: ReadCache,
        has_room: Callable[[Followed[I]], None],
    ) -> None:
        self.index = index
        self.refusal: Refusal | None = None
        self._broker = broker
        self._partition = partition
        self._cache = cache
        self._has_room = has_room
        self._lock = DeferredLock()

    @property
    def place(self) -> tuple[UUID, int]:
        """Which partition it is."""
        return self._partition.topic.id, self._partition.index

    @property
    def is_growing(self) -> bool:
        """Whether the log is being read for it."""
        return bool(self._lock.locked)

    async def caught_up(self) -> None:
        """Read on to the end of the log.

        Raises:
            Refusal: the log cannot be read, an open transaction has not been decided for long, or there is no
                room for the index.
        """
        while self.index.position < self._partition.log.next_offset:
            await self._lock.acquire()
            try:
                if self.refusal is not None:
                    raise self.refusal
                if self.index.position < self._partition.log.next_offset:
                    await self._read_on()
            finally:
                self._lock.release()

    async def _read_on(self) -> None:
        """Read what can be read now, after waiting for some if need be."""
        partition, index = self._partition, self.index
        if index.position >= partition.last_stable_offset:
            await self._more(index.position)
        reader = RecordReader(partition, max(index.position, partition.start_offset), self._cache)
        try:
            await self._take(reader, index)
        except (BrokerError, ProtocolError) as error:
            raise Refusal("stream_index_failed", str(error)) from None
        finally:
            reader.close()

    async def _take(self, reader: RecordReader, index: I) -> None:
        count = 0
        while True:
            try:
                record = reader.next()
            except Cold as cold:
                await waited(cold)
                continue
            except BrokerError as error:
                if error.code is not ErrorCode.OFFSET_OUT_OF_RANGE or (
                    reader.position >= self._partition.start_offset
                ):
                    raise
                reader.position = self._partition.start_offset  # retention has passed it by
                continue
            if record is None:
                index.position = max(index.position, reader.position)
                return
            index.note(record)
            index.position = reader.position
            count += 1
            if count % _SLICE_RECORDS == 0:
                self._has_room(self)
                await turn(self._broker)

    async def _more(self, position: int) -> None:
        """Wait until there is something to read at a position."""
        partition, reactor = self._partition, self._broker.reactor
        deadline = reactor.seconds() + _DECIDED_WITHIN_SECONDS
        while position >= partition.last_stable_offset:
            moved: Deferred[None] = Deferred()
            wake: Callable[[], Any] = lambda moved=moved: moved.called or moved.callback(None)  # type: ignore[misc]  # noqa: E731
            cancel = partition.watch(wake)
            expiry = reactor.callLater(max(deadline - reactor.seconds(), 0), wake)
            try:
                await moved
            finally:
                cancel()
                if expiry.active():
                    expiry.cancel()
            if position >= partition.last_stable_offset and reactor.seconds() >= deadline:
                raise Refusal("stream_index_failed", f"records from offset {position} on are not decided yet")


class Followers(Generic[I]):
    """All partitions that are followed for one kind of index.

    Args:
        make: returns a new index that begins at an offset.
        max_bytes: what all together may take.
    """

    def __init__(self, broker: IBroker, make: Callable[[int], I], max_bytes: int) -> None:
        self._broker = broker
        self._make = make
        self._max_bytes = max_bytes
        self._cache = ReadCache(_CACHE_BYTES)
        self._followed: OrderedDict[tuple[UUID, int], Followed[I]] = OrderedDict()

    async def find(self, topic: str, index: int) -> tuple[IPartition, Followed[I]]:
        """Return a partition led here and what follows it, caught up. Raises Refusal."""
        try:
            partition = self._broker.topics.partition(topic, index)
        except BrokerError as error:
            raise refusal_of(error, partition=index) from None
        place = (partition.topic.id, index)
        found = self._followed.get(place)
        if found is None:
            made = self._make(partition.start_offset)
            found = self._followed[place] = Followed(
                self._broker, partition, made, self._cache, self._keep_within
            )
        self._followed.move_to_end(place)
        await found.caught_up()
        self._keep_within(found)
        return partition, found

    def forget(self, partition: IPartition) -> None:
        """Have an index made anew: what it was told of is not in the log after all."""
        self._followed.pop((partition.topic.id, partition.index), None)

    def _keep_within(self, wanted: Followed[I]) -> None:
        """Forget what is not in use until all fit. Raises Refusal if they do not even then."""
        total = sum(one.index.size_bytes for one in self._followed.values())
        for place, one in list(self._followed.items()):
            if total <= self._max_bytes:
                return
            if one is not wanted and not one.is_growing:
                total -= self._followed.pop(place).index.size_bytes
        if total > self._max_bytes:
            self._followed.pop(wanted.place, None)
            wanted.refusal = Refusal(
                "stream_index_failed",
                f"the aggregates of this partition take more than {self._max_bytes} bytes; "
                "raise protocols.cursus.stream_index_bytes, or use more partitions",
            )
            raise wanted.refusal
