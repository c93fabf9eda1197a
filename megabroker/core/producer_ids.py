"""Producer ids: numbers never given out twice, taken from the metadata store in blocks.

Owns the row ``producer_ids/next``, the first id no block has claimed. A block is handed out only after
the row behind it is on the disk, so a crash or a power failure wastes at most the rest of a block and
repeats nothing; every process that gives out ids claims its blocks there. Should the row be older than the
logs all the same (it was restored, or an earlier version did not sync it), ``heed`` has ids given out that
lie above theirs.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from megabroker.errors import ErrorCode, StorageError
from megabroker.interfaces import IMetadataStore

__all__ = ["NEXT_PRODUCER_ID", "PRODUCER_IDS_TABLE", "ProducerIds"]

PRODUCER_IDS_TABLE = "producer_ids"
NEXT_PRODUCER_ID = "next"
_MAX_ID = 2**63 - 1


class ProducerIds:
    """Gives out producer ids.

    Args:
        block_size: ids claimed with one write.
    """

    def __init__(self, metadata: IMetadataStore, block_size: int = 1000) -> None:
        self._metadata = metadata
        self._block_size = block_size
        self._next = 0
        self._end = 0
        self._least = 0
        self._claiming = False
        self._waiting: deque[Deferred[int]] = deque()

    def load(self) -> None:
        """Read where the last block ended. Blocking.

        Raises:
            StorageError: the row cannot be read or is no id.
        """
        first = self._metadata.rows(PRODUCER_IDS_TABLE).get(NEXT_PRODUCER_ID, 0)
        if not isinstance(first, int) or not 0 <= first <= _MAX_ID:
            raise StorageError(
                ErrorCode.STORAGE,
                f"metadata row {PRODUCER_IDS_TABLE}/{NEXT_PRODUCER_ID} holds {first!r}, no id",
                retriable=False,
            )
        self._next = self._end = first

    def heed(self, producer_id: int) -> None:
        """Give out no id up to one that a log knows, whatever the row says."""
        self._least = max(self._least, producer_id + 1)

    def allocate(self) -> Deferred[int]:
        """Fire with a fresh id, at once while a block lasts; fail with StorageError."""
        if self._next < self._end and not self._waiting:
            return succeed(self._take())
        if self._end > _MAX_ID - self._block_size:
            return fail(_used_up())
        waiting: Deferred[int] = Deferred()
        self._waiting.append(waiting)
        self._claim()
        return waiting

    def _take(self) -> int:
        taken = self._next
        self._next += 1
        return taken

    def _claim(self) -> None:
        if self._claiming:
            return
        self._claiming = True
        count = self._block_size + max(0, self._least - self._end)
        claimed = self._metadata.advance(PRODUCER_IDS_TABLE, NEXT_PRODUCER_ID, count)
        claimed.addCallbacks(self._claimed, self._not_claimed, (count,))

    def _claimed(self, first: int, count: int) -> None:
        self._claiming = False
        self._next = max(first, self._least)
        self._end = end = min(first + count, _MAX_ID)
        while self._waiting and self._next < end:
            self._waiting.popleft().callback(self._take())
        if self._waiting and self._end > _MAX_ID - self._block_size:
            self._not_claimed(Failure(_used_up()))  # type: ignore[no-untyped-call]
        elif self._waiting:
            self._claim()

    def _not_claimed(self, failure: Failure) -> None:
        self._claiming = False
        waiting, self._waiting = self._waiting, deque()
        for one in waiting:
            one.errback(failure)


def _used_up() -> StorageError:
    return StorageError(ErrorCode.STORAGE, "producer ids are used up", retriable=False)
