"""Opening a log: what is in its directory, what of that can be believed, where appending goes on.

Owns the decisions made about a log's files before it serves. Blocking; runs in whatever thread opens the log.

- After a clean close sizes are believed, and only the end of the last segment is looked at: what of it its
  index does not tell is checked, since the next offset follows from it. The rest is checked when it is first
  read (see ``checking``).
- Otherwise everything from the segment of the recovery point on is read and every CRC checked; indexes and
  producer state are made anew. Bytes after the last whole batch, where no valid batch follows and which
  lie above the recovery point, are a torn tail: cut off, with one line in the log.
- A segment without .index is read as well, in any case: only beside one is .txnindex, or its absence,
  believed.
- All other unreadable bytes are *damage*: they were acknowledged or may have been. They stay in the file,
  are remembered in ``damaged-ranges``, stepped over by reads and reported as an error.

What a valid batch is, ``checking`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import attrs
from twisted.logger import Logger

from megabroker.codec.batch import (
    read_marker,
)
from megabroker.interfaces import IProducerState
from megabroker.model import AbortedTransaction, BatchHeader, Buffer, ProducerSnapshot
from megabroker.storage.aborted import AbortedIndex
from megabroker.storage.checking import Check, report_damage
from megabroker.storage.checkpoints import (
    decode_damaged,
    decode_rows,
    decode_snapshot,
    encode_damaged,
    encode_rows,
)
from megabroker.storage.epochs import checked, of_segments
from megabroker.storage.files import OpenFiles
from megabroker.storage.index import Index
from megabroker.storage.segment import (
    Checked,
    Damage,
    DamageFound,
    Segment,
    file_name,
    first_offset,
)
from megabroker.storage.swap import LEFTOVERS, complete

__all__ = [
    "DAMAGED",
    "LEADER_EPOCHS",
    "SYNC_FAILED",
    "Loaded",
    "Loader",
    "Scan",
    "write_again",
]

_log = Logger()

LEADER_EPOCHS = "leader-epoch-checkpoint"
DAMAGED = "damaged-ranges"
SYNC_FAILED = "sync-failed"
_WINDOW_BYTES = 1 << 22

Visit = Callable[[BatchHeader, Buffer, int, Segment], None]


@attrs.define
class Loaded:
    """What opening found.

    Attributes:
        segments: in offset order, at least one; the last one is to be appended to, its index loaded.
        epochs: (leader epoch, first offset), rising.
        damaged: what is set aside, and stepped over by reads.
        refused: what was damaged since the store was closed in order, and nobody has looked at.
        epochs_are_saved: whether there is a checkpoint file of them.
        unsynced: segments whose content may not be on the disk yet.
    """

    segments: list[Segment]
    next_offset: int = 0
    epochs: list[tuple[int, int]] = attrs.field(factory=list)
    epochs_are_saved: bool = False
    damaged: list[Damage] = attrs.field(factory=list)
    refused: list[Damage] = attrs.field(factory=list)
    unsynced: list[Segment] = attrs.field(factory=list)


def write_again(open_files: OpenFiles, directory: str, segments: Iterable[Segment]) -> None:
    """Bring segments to the disk whose sync has failed while they stayed in the page cache. Raises OSError.

    Writing the same bytes is what makes the kernel write them.
    """
    files = open_files.files
    for segment in segments:
        fd = (file := open_files.get(segment)).fileno()
        position = 0
        while data := files.pread(fd, _WINDOW_BYTES, position):
            stop = position + len(data)
            while position < stop:
                position += files.pwritev(fd, [data[len(data) - (stop - position) :]], position)
        files.fdatasync(fd)
        del file
    files.sync_dir(directory)
    files.unlink(f"{directory}/{SYNC_FAILED}")


class Scan:
    """Reads one segment batch by batch and checks every CRC; changes nothing but the segment in memory.

    Args:
        interval: bytes between two entries of the index made on the way.
        expected_offset: the least that the first batch may have.
        visit: called with each valid batch, in order.

    Attributes:
        damaged: stretches that hold no batch and are followed by one.
        tail: what no valid batch follows, if anything.
        first_timestamp: of the first batch, or -1.
    """

    def __init__(self, segment: Segment, interval: int, expected_offset: int, visit: Visit) -> None:
        self.segment = segment
        self.expected_offset = expected_offset
        self.damaged: list[Damage] = []
        self.tail: Damage | None = None
        self.first_timestamp = -1
        self._interval = interval
        self._visit = visit

    def run(self) -> None:
        """Scan to the end; ``tail`` is then what no valid batch follows, if anything."""
        segment, visit = self.segment, self._visit
        segment.index = Index()
        segment.aborted = AbortedIndex()
        segment.unindexed = 0
        segment.is_time_proven = True
        segment.damaged = []
        segment.checked = None
        segment.max_timestamp, segment.max_timestamp_offset = -1, segment.base_offset
        check = Check(segment, 0, self.expected_offset)
        for header, window, at in check.batches():
            position = check.position
            if not position:
                self.first_timestamp = header.max_timestamp
            segment.note(
                position, header.size_bytes, header.last_offset, header.max_timestamp, self._interval
            )
            visit(header, window, at, segment)
        self.expected_offset = check.expected_offset
        self.damaged = check.damaged
        self.tail = check.tail


class Loader:
    """Opens one log's directory; use once.

    Args:
        clean: whether the store was closed cleanly.
        recovery_point: everything below was known to be on the disk.
        start_offset: the log start known from its checkpoint.
        thorough: read everything, whatever could be believed.
    """

    def __init__(
        self,
        open_files: OpenFiles,
        directory: str,
        producers: IProducerState,
        *,
        clean: bool,
        recovery_point: int,
        start_offset: int,
        interval: int,
        thorough: bool = False,
    ) -> None:
        self._open_files = open_files
        self._files = open_files.files
        self._directory = directory
        self._producers = producers
        self._clean = clean
        self._recovery_point = recovery_point
        self._start_offset = start_offset
        self._interval = interval
        self._thorough = thorough
        self._snapshots: list[int] = []
        self._indexed: set[int] = set()
        self._open: dict[int, int] = {}  # producer id -> first offset of its open transaction, rising
        self._last: BatchHeader | None = None
        self._least_offset = 0
        self._names: set[str] = set()
        self._set_aside: set[tuple[int, int]] = set()  # segment and position of damage known before
        self.loaded = Loaded([])

    def run(self) -> Loaded:
        """Open the log. Raises OSError."""
        loaded = self.loaded
        self._list()
        rows = decode_rows(self._content(LEADER_EPOCHS), 2)
        segments = loaded.segments
        if not segments:
            segments.append(Segment(self._open_files, self._directory, self._start_offset))
        loaded.epochs = [(epoch, offset) for epoch, offset in rows or []]
        loaded.epochs_are_saved = LEADER_EPOCHS in self._names
        if rows is None:
            loaded.epochs = of_segments(segments)
        self._known_damage()
        loaded.next_offset = segments[0].base_offset
        trusted = self._trusted()
        if trusted == len(segments) and not self._believe_last():
            trusted -= 1
        for segment in segments[: min(trusted, len(segments) - 1)]:
            if segment.size and segment.next_base is not None:
                segment.checked = Checked(segment.size, segment.base_offset, segment.next_base)
        self._restore_producers(trusted)
        if trusted < len(segments):
            self._recover(trusted)
        self._go_on_at(max(loaded.next_offset, self._start_offset, self._least_offset))
        self._check_epochs(rows)
        for offset in self._snapshots:
            if offset > loaded.next_offset:
                self._files.unlink(f"{self._directory}/{file_name(offset, '.snapshot')}")
        return loaded

    def _go_on_at(self, offset: int) -> None:
        """Make ``offset`` the next one, in a new segment if that leaves a hole: none has one inside."""
        loaded = self.loaded
        last = loaded.segments[-1]
        if offset > loaded.next_offset:
            if last.index is not None and last.size:
                last.save_index()
            last.next_base = offset
            last = Segment(self._open_files, self._directory, offset)
            loaded.segments.append(last)
            loaded.next_offset = offset
        if last.index is None:
            last.index = Index()
        last.saved = last.size > 0 and last.base_offset in self._indexed

    def _list(self) -> None:
        found: list[tuple[int, int, float]] = []
        with_aborted: set[int] = set()
        for name, size, changed in complete(self._open_files, self._directory):
            self._names.add(name)
            if name.endswith(LEFTOVERS):
                self._files.unlink(f"{self._directory}/{name}")
            elif (offset := first_offset(name, ".log")) is not None:
                found.append((offset, size, changed))
            elif (offset := first_offset(name, ".index")) is not None:
                self._indexed.add(offset)
            elif (offset := first_offset(name, ".txnindex")) is not None:
                with_aborted.add(offset)
            elif (offset := first_offset(name, ".snapshot")) is not None:
                self._snapshots.append(offset)
        self._snapshots.sort(reverse=True)
        for base, size, changed in sorted(found):
            segment = Segment(self._open_files, self._directory, base, size)
            segment.created = True
            segment.born = changed
            if base not in with_aborted:
                segment.aborted = AbortedIndex()
            self.loaded.segments.append(segment)
        for segment, following in pairwise(self.loaded.segments):
            segment.next_base = following.base_offset

    def _check_epochs(self, saved: list[tuple[int, ...]] | None) -> None:
        """Hold the epochs against the batches, if there is a file of them, and make it say the same."""
        loaded, path = self.loaded, f"{self._directory}/{LEADER_EPOCHS}"
        epochs = [row for row in loaded.epochs if row[1] < loaded.next_offset or row[1] == 0]
        if loaded.epochs_are_saved:
            epochs = checked(epochs, saved, loaded.segments, self._start_offset, self._last, path)
            if epochs != saved:
                try:
                    self._files.write_whole(path, encode_rows(epochs))
                except OSError:  # a full disk; the next segment or the end writes it again
                    loaded.epochs_are_saved = False
        loaded.epochs = epochs

    def _content(self, name: str) -> bytes | None:
        return self._files.read_bytes(f"{self._directory}/{name}") if name in self._names else None

    def _known_damage(self) -> None:
        rows = decode_damaged(self._content(DAMAGED)) or []
        by_base = {segment.base_offset: segment for segment in self.loaded.segments}
        for row in rows:
            damage = Damage(*row)
            segment = by_base.get(damage.segment)
            if segment is not None and 0 <= damage.position < damage.position + damage.length <= segment.size:
                segment.damaged.append((damage.position, damage.position + damage.length))
                self.loaded.damaged.append(damage)
                self._set_aside.add(damage[:2])
                self._least_offset = max(self._least_offset, damage.to_offset)

    def _trusted(self) -> int:
        """Return how many of the first segments need not be read."""
        segments = self.loaded.segments
        trusted = 0
        if self._thorough:
            return trusted
        for at, segment in enumerate(segments):
            is_last = at + 1 == len(segments)
            if not self._clean and (is_last or segments[at + 1].base_offset > self._recovery_point):
                break
            if segment.size and segment.base_offset not in self._indexed:
                break
            trusted += 1
        return trusted

    def _believe_last(self) -> bool:
        """Find the end of the last segment by its index; return False when it has to be read instead."""
        loaded = self.loaded
        segment = loaded.segments[-1]
        loaded.next_offset = max(loaded.next_offset, segment.base_offset)
        if not segment.size:
            return True
        index = segment.load_index()
        if index is None:
            return False
        try:
            first = next(segment.hops(0), None)
        except DamageFound:
            return False
        if first is not None:
            _date(segment, first.max_timestamp)
        start, last = (index.positions[-1], index.offsets[-1]) if index.positions else (0, None)
        check = Check(segment, start, segment.base_offset, leap=start > 0, whole=False)
        greatest = segment.base_offset + index.time_offsets[-1] if index.times else -1
        is_time_right = greatest < segment.base_offset or _is_time_right(segment, index, greatest)
        for header, _, _ in check.batches():
            if check.position == start and last not in (None, header.last_offset - segment.base_offset):
                return False
            self._last = header
            if header.max_timestamp > segment.max_timestamp:
                segment.max_timestamp = header.max_timestamp
                segment.max_timestamp_offset = header.last_offset
        if check.damaged or check.tail is not None or not is_time_right:
            return False
        segment.is_time_proven = True
        loaded.next_offset = max(loaded.next_offset, check.expected_offset)
        segment.unindexed = segment.size - start
        segment.checked = Checked(segment.size, segment.base_offset, loaded.next_offset)
        if segment.checked.add(start, segment.size, loaded.next_offset):
            segment.checked = None
        return True

    def _restore_producers(self, trusted: int) -> None:
        """Bring producer state to where reading begins: the newest snapshot, then the heads after it."""
        segments = self.loaded.segments
        limit = segments[trusted].base_offset if trusted < len(segments) else self.loaded.next_offset
        start = -1
        for offset in self._snapshots:
            if offset <= limit:
                state = decode_snapshot(
                    self._files.read_bytes(f"{self._directory}/{file_name(offset, '.snapshot')}")
                )
                if state is not None:
                    self._producers.restore(state)
                    self._open = _open_transactions(state)
                    start = offset
                    break
        for at, segment in enumerate(segments[:trusted]):
            after = segments[at + 1].base_offset if at + 1 < len(segments) else self.loaded.next_offset
            if after > start:
                self._replay_segment(segment, start)

    def _replay_segment(self, segment: Segment, start: int) -> None:
        check = Check(segment, 0, segment.base_offset)
        for header, window, at in check.batches():
            if header.base_offset >= start:
                self._replay(header, window, at, None)
        segment.checked = None
        for damage in check.damaged:
            self._keep_damage(segment, damage)
        if (tail := check.tail) is not None:
            segment.damaged.append((tail.position, tail.position + tail.length))
            self._keep_damage(segment, tail)

    def _recover(self, trusted: int) -> None:
        """Read and check every segment from ``trusted`` on."""
        loaded = self.loaded
        segments = loaded.segments
        loaded.damaged = [row for row in loaded.damaged if row.segment < segments[trusted].base_offset]
        scans: list[Scan] = []
        for segment in segments[trusted:]:
            loaded.next_offset = max(loaded.next_offset, segment.base_offset)
            scan = Scan(segment, self._interval, loaded.next_offset, self._visit)
            scan.run()
            _date(segment, scan.first_timestamp)
            loaded.next_offset = max(loaded.next_offset, scan.expected_offset)
            scans.append(scan)
        self._cut_torn_tail(scans)
        for scan in scans:
            for damage in scan.damaged:
                self._keep_damage(scan.segment, damage)
            if scan.tail is not None:
                tail = scan.tail._replace(to_offset=max(self._least_offset, scan.tail.to_offset))
                scan.segment.damaged.append((tail.position, tail.position + tail.length))
                self._keep_damage(scan.segment, tail)
        for segment in segments[trusted:-1]:
            segment.save_index()
        if segments[-1].base_offset in self._indexed:
            self._files.unlink(segments[-1].path(".index"))
            self._indexed.discard(segments[-1].base_offset)
        if self._thorough or not self._clean:
            loaded.unsynced.extend(segment for segment in segments[trusted:] if segment.created)
        if loaded.damaged:
            self._files.write_whole(f"{self._directory}/{DAMAGED}", encode_damaged(loaded.damaged), sync=True)

    def _cut_torn_tail(self, scans: list[Scan]) -> None:
        """Cut off what follows the last valid batch, unless it was on the disk already."""
        loaded = self.loaded
        if self._recovery_point > loaded.next_offset:
            self._least_offset = self._recovery_point
            if any(scan.tail is not None for scan in scans):
                return
            _log.error(
                "log-shorter-than-recovery-point: {directory} ends at {offset}, was on disk to {point}",
                directory=self._directory,
                offset=loaded.next_offset,
                point=self._recovery_point,
            )
        for scan in reversed(scans):
            tail, segment = scan.tail, scan.segment
            if tail is not None:
                file = self._open_files.get(segment)
                self._files.truncate(file.fileno(), tail.position)
                segment.size = segment.written = tail.position
                scan.tail = None
                _log.warn(
                    "log-tail-cut: {path}: {length} bytes from offset {offset} on were not whole",
                    path=segment.path(),
                    length=tail.length,
                    offset=tail.from_offset,
                )
            if segment.size or len(loaded.segments) == 1 or segment is scans[0].segment:
                return
            before = next((one for one in reversed(scans[:-1]) if one.tail or one.segment.size), None)
            if before is None or before.tail is None:
                return  # the log ends before it, and the empty one says so: what precedes may end in a hole
            self._open_files.drop(segment)
            for suffix in (".log", ".index", ".timeindex", ".txnindex"):
                self._files.unlink(segment.path(suffix))
            loaded.segments.remove(segment)
            scans.remove(scan)
            loaded.next_offset = scans[-1].expected_offset

    def _visit(self, header: BatchHeader, data: Buffer, at: int, segment: Segment) -> None:
        self._last = header
        self._note_epoch(header)
        self._replay(header, data, at, segment)

    def _replay(self, header: BatchHeader, data: Buffer, at: int, segment: Segment | None) -> None:
        """Tell the producers' state of a batch, and ``segment`` of a transaction that it aborts."""
        if not header.is_control:
            self._producers.replay(header)
            if header.is_transactional:
                self._open.setdefault(header.producer_id, header.base_offset)
            return
        marker = read_marker(data, header, at)
        self._producers.replay(header, marker)
        if marker is None:
            return
        first_offset = self._open.pop(header.producer_id, -1)
        if segment is not None and segment.aborted is not None and first_offset >= 0 and not marker.commit:
            stable = next(iter(self._open.values()), header.next_offset)
            offset = header.base_offset
            segment.aborted.add(AbortedTransaction(marker.producer_id, first_offset, offset, stable))

    def _note_epoch(self, header: BatchHeader) -> None:
        epochs = self.loaded.epochs
        if header.leader_epoch >= 0 and (not epochs or header.leader_epoch > epochs[-1][0]):
            epochs.append((header.leader_epoch, header.base_offset))

    def _keep_damage(self, segment: Segment, damage: Damage) -> None:
        """Report damage; after a crash it is set aside, else whoever reads there is told."""
        loaded = self.loaded
        is_new = self._clean and not self._thorough and damage[:2] not in self._set_aside
        (loaded.refused if is_new else loaded.damaged).append(damage)
        report_damage(segment, damage)


def _open_transactions(state: Iterable[ProducerSnapshot]) -> dict[int, int]:
    rows = [(one.transaction_first_offset, one.producer_id) for one in state]
    return {producer_id: offset for offset, producer_id in sorted(rows) if offset >= 0}


def _is_time_right(segment: Segment, index: Index, offset: int) -> bool:
    """Whether the batch at ``offset`` is of the greatest time that the index tells. Raises OSError."""
    try:
        for hop in segment.hops(index.position_for(offset - segment.base_offset)):
            if hop.last_offset >= offset:
                return hop.base_offset <= offset and hop.max_timestamp == index.times[-1]
    except DamageFound:
        pass
    return False


def _date(segment: Segment, first_timestamp: int) -> None:
    """A segment was begun at its first batch's time, if that can be, else when its file was last changed."""
    if segment.born and 0 < first_timestamp / 1000 < segment.born:
        segment.born = first_timestamp / 1000
