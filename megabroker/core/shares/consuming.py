"""One member of a share group in one partition, as wires without share sessions consume it.

Owns the steps between a share partition and who reads the log beside it: where to read on, what of the
records read is the member's, what it says of them. Reads no log itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from megabroker.core.shares.live import LiveSharePartition
from megabroker.core.shares.partitions import SharePartitions
from megabroker.interfaces import IPartition, IShareConsumer
from megabroker.model import AcknowledgementBatch, AcquiredRecords, LogSpan

__all__ = ["ShareConsumer"]

_log = Logger()


@implementer(IShareConsumer)
class ShareConsumer:
    """See ``IShareConsumer``."""

    def __init__(
        self,
        shares: SharePartitions,
        group_id: str,
        member_id: str,
        partition: IPartition,
        callback: Callable[[], None],
    ) -> None:
        self._shares = shares
        self._group_id = group_id
        self._member_id = member_id
        self._partition = partition
        self._place = (partition.topic.id, partition.index)
        self._callback = callback
        self._watched: LiveSharePartition | None = None
        self._cancel: Callable[[], None] | None = None

    def next_offset(self) -> int | None:
        """See ``IShareConsumer.next_offset``."""
        return self._live().fetch_offset(self._partition.start_offset)

    def acquire(
        self, from_offset: int, spans: Sequence[LogSpan], max_records: int
    ) -> Sequence[AcquiredRecords]:
        """See ``IShareConsumer.acquire``."""
        live = self._live()
        if live.fetch_offset(self._partition.start_offset) != from_offset:
            return ()
        return live.acquire(self._member_id, from_offset, spans, max_records, max_records, strict=True)

    def acknowledge(self, batches: Sequence[AcknowledgementBatch]) -> Deferred[None]:
        """See ``IShareConsumer.acknowledge``."""
        return self._shares.acknowledge(self._group_id, self._member_id, self._place, batches)

    def close(self) -> None:
        """See ``IShareConsumer.close``."""
        if self._cancel is not None:
            self._cancel()
            self._cancel = None
        live, self._watched = self._watched, None
        if live is not None and not live.dead and live.automaton.release(self._member_id):
            self._shares.store_later(live)
            live.wake()

    def _live(self) -> LiveSharePartition:
        """Return the share partition, which the group begins to consume at the log's start."""
        live = self._watched
        if live is None or live.dead:
            if self._cancel is not None:
                self._cancel()
            if self._shares.get(self._group_id, self._place) is None:
                begun = self._shares.begin_at(self._group_id, {self._place: self._partition.start_offset})
                begun.addErrback(lambda failure: _log.failure("share-partition-not-begun", failure))
            live = self._shares.attend(self._group_id, self._place, self._partition)
            self._watched = live
            self._cancel = live.watch(self._callback)
        return live
