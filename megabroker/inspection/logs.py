"""One partition's log: every batch read, everything beside it compared with what the batches say.

Owns the judgement of a log's directory. Changes nothing. The batches are walked by ``Scan``, as recovery
walks them, so that what is damage and what is a torn tail is decided in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Final
from uuid import UUID

import attrs

from megabroker.codec.batch import MAX_DECOMPRESSED_BYTES, read_marker, records
from megabroker.errors import ProtocolError
from megabroker.inspection.findings import Finding, Kind, offsets
from megabroker.inspection.indexes import AbortedCheck, IndexCheck
from megabroker.inspection.producers import ProducerCheck
from megabroker.model import BatchHeader, Buffer
from megabroker.storage.checkpoints import (
    decode_damaged,
    decode_partition_metadata,
    decode_rows,
    encode_damaged,
    encode_partition_metadata,
    encode_rows,
)
from megabroker.storage.files import Files, OpenFiles
from megabroker.storage.recovery import DAMAGED, LEADER_EPOCHS, SYNC_FAILED, Scan
from megabroker.storage.replay import PARTITION_METADATA
from megabroker.storage.segment import Damage, Segment, file_name, first_offset
from megabroker.storage.swap import SWAP

__all__ = ["Known", "LogCheck", "LogNumbers", "Pending"]

_NO_EPOCH: Final = -1
_INTERVAL_BYTES: Final = 1 << 30
"""Between entries of the index that a scan makes on the way, which nobody wants here."""

Pending = Mapping[str, list[tuple[int, int]]]
"""By a segment's path, the stretches that the sync journal holds and the next start writes."""


@attrs.frozen
class Known:
    """What is known of a log from elsewhere.

    Attributes:
        recovery_point: everything below it was on the disk.
        start_offset: the first readable one by its checkpoint.
        cleaned_offset: compaction has come this far, and left holes.
        topic_id: as the metadata has it, or None.
        ours: whether our own broker wrote the files last.
    """

    recovery_point: int = 0
    start_offset: int = 0
    cleaned_offset: int = 0
    topic_id: UUID | None = None
    ours: bool = True


@attrs.frozen
class LogNumbers:
    """What was read of a log."""

    segments: int
    size_bytes: int
    batches: int
    start_offset: int
    end_offset: int


class LogCheck:
    """See the module; use once.

    Args:
        read: told how many bytes were read, now and then.
        deep: decode every record as well.
    """

    def __init__(
        self,
        files: Files,
        directory: str,
        known: Known,
        *,
        pending: Pending | None = None,
        read: Callable[[int], None] = lambda _: None,
        deep: bool = False,
    ) -> None:
        self._open_files = OpenFiles(files)
        self._files = files
        self._directory = directory
        self._known = known
        self._pending = pending or {}
        self._read = read
        self._deep = deep
        self._names: dict[str, int] = {}
        self._segments: list[Segment] = []
        self._producers: ProducerCheck
        self._snapshots: list[int] = []
        self._epochs: list[tuple[int, int]] = []
        self._quarantined: list[Damage] = []
        self._seen: list[Damage] = []
        self._findings: list[Finding] = []
        self._end = 0
        self._last_epoch = -1
        self._batches = 0
        self._bad_epochs = 0
        # Of the segment being read:
        self._position = 0
        self._index: IndexCheck | None = None
        self._aborted: AbortedCheck | None = None

    def run(self) -> tuple[LogNumbers, list[Finding]]:
        """Check everything. Blocking; raises OSError."""
        try:
            self._list()
            self._small_files()
            base = self._end = self._segments[0].base_offset if self._segments else 0
            if self._known.ours and base > self._known.start_offset and not self._known.cleaned_offset:
                self._missing(self._known.start_offset, base)
            self._producers = ProducerCheck(
                lambda name: self._files.read_bytes(self._path(name)),
                self._path,
                sorted(self._snapshots),
                base,
                exact=self._known.ours,
            )
            for at, segment in enumerate(self._segments):
                self._segment(segment, is_last=at + 1 == len(self._segments))
            self._finish()
        finally:
            self._open_files.close()
        size = sum(segment.size for segment in self._segments)
        start = max(base, self._known.start_offset)
        return LogNumbers(len(self._segments), size, self._batches, start, self._end), self._findings

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"

    def _find(self, kind: Kind, name: str, what: str, right: str, **more: int | tuple[str, ...]) -> None:
        path = self._path(name) if name else self._directory
        self._findings.append(Finding(kind, path, what, right, **more))  # type: ignore[arg-type]

    # --- files --------------------------------------------------------------------------------------

    def _list(self) -> None:
        found: dict[int, tuple[int, str]] = {}
        swapped: list[int] = []
        for name, size, _ in self._files.listdir(self._directory):
            self._names[name] = size
            if (base := first_offset(name, ".log")) is not None:
                found.setdefault(base, (size, ""))
            elif (base := first_offset(name, f".log{SWAP}")) is not None:
                found[base] = (size, SWAP)
                swapped.append(base)
            elif (base := first_offset(name, ".snapshot")) is not None:
                self._snapshots.append(base)
        if swapped:
            self._find(
                Kind.NOTE,
                "",
                "a compaction was cut short",
                "what it has written counts, and the next start completes it",
            )
        for base, (size, stage) in sorted(found.items()):
            segment = Segment(self._open_files, self._directory, base, size)
            segment.created = True
            segment.stage = stage
            self._segments.append(segment)
        if swapped:
            self._drop_replaced()
        for segment, following in pairwise(self._segments):
            segment.next_base = following.base_offset

    def _drop_replaced(self) -> None:
        """Leave out what a swapped segment has taken the place of."""
        end = -1
        kept = []
        for segment in self._segments:
            if segment.base_offset < end and not segment.stage:
                continue
            if segment.stage:
                segment.next_base = 1 << 62
                end = max((hop.last_offset + 1 for hop in segment.hops(0)), default=segment.base_offset)
            kept.append(segment)
        self._segments = kept

    def _small_files(self) -> None:
        read = self._files.read_bytes
        data = read(self._path(PARTITION_METADATA))
        found = decode_partition_metadata(data)
        if found is not None and data not in _forms(encode_partition_metadata(found)):
            found = None
        wanted = self._known.topic_id
        if PARTITION_METADATA not in self._names:
            self._find(Kind.WRONG, PARTITION_METADATA, "it is absent", "a start makes it from the metadata")
        elif found is None:
            self._find(
                Kind.WRONG,
                PARTITION_METADATA,
                "it is not as it is written",
                "a start makes it from the metadata",
            )
        elif wanted is not None and found != wanted:
            self._find(
                Kind.REFUSED,
                PARTITION_METADATA,
                f"it holds topic id {found}",
                f"the metadata has {wanted}: the log of another topic, or one of the two is damaged",
            )
        if SYNC_FAILED in self._names:
            self._find(Kind.NOTE, SYNC_FAILED, "a sync had failed", "the next start writes the log again")
        if DAMAGED in self._names:
            self._known_damage(_damaged(read(self._path(DAMAGED))))
        if LEADER_EPOCHS in self._names:
            self._known_epochs(_epochs(read(self._path(LEADER_EPOCHS))))

    def _known_damage(self, rows: list[tuple[int, ...]] | None) -> None:
        path = self._path(DAMAGED)
        if rows is None:
            self._find(
                Kind.WRONG,
                DAMAGED,
                "it cannot be read",
                "it is made anew when all is read",
                remove=(path,),
            )
            return
        segments = {segment.base_offset: segment for segment in self._segments}
        self._quarantined = [Damage(*row) for row in rows]
        for damage in self._quarantined:
            segment = segments.get(damage.segment)
            if segment is None or not 0 <= damage.position < damage.position + damage.length <= segment.size:
                self._find(
                    Kind.WRONG,
                    DAMAGED,
                    f"it names bytes {damage.position} to {damage.position + damage.length} of segment "
                    f"{damage.segment}, which are not there",
                    "it is made anew when all is read",
                    remove=(path,),
                )

    def _known_epochs(self, rows: list[tuple[int, ...]] | None) -> None:
        rising = rows is not None and all(
            one[0] < other[0] and one[1] <= other[1] for one, other in pairwise(rows)
        )
        if rows is None or not rising:
            self._wrong_epochs("it cannot be read" if rows is None else "its epochs do not rise")
        else:
            self._epochs = [(epoch, offset) for epoch, offset in rows]

    def _wrong_epochs(self, what: str) -> None:
        path = self._path(LEADER_EPOCHS)
        self._find(
            Kind.WRONG, LEADER_EPOCHS, what, "it is derived from the log and is recreated", remove=(path,)
        )

    # --- batches ------------------------------------------------------------------------------------

    def _segment(self, segment: Segment, *, is_last: bool) -> None:
        known = self._known
        if segment.base_offset < self._end:
            self._find(
                Kind.LOST,
                file_name(segment.base_offset, ".log"),
                f"it begins at offset {segment.base_offset}, below {self._end}, where the one before ends",
                "one of the two does not belong here; reads go on with the greater offsets",
            )
        elif segment.base_offset > self._end and not known.cleaned_offset:
            self._missing(self._end, segment.base_offset)
        indexed = file_name(segment.base_offset, ".index") in self._names
        needed = bool(segment.size) and (not is_last or (known.ours and indexed))
        self._position = 0
        self._index = None
        if not segment.stage:
            self._index = IndexCheck(segment, exact=known.ours, needed=needed)
        self._aborted = AbortedCheck(segment, complete=self._producers.complete)
        start = max(self._end, segment.base_offset)
        scan = Scan(segment, _INTERVAL_BYTES, start, self._visit)
        scan.run()
        self._read(segment.size - self._position)
        for damage in scan.damaged:
            self._damage(segment, damage)
        self._end = max(start, scan.expected_offset)
        if scan.tail is not None:
            self._tail(segment, scan.tail, is_last=is_last)
        if self._index is not None:
            self._findings.extend(self._index.end())
        self._findings.extend(self._aborted.end(needed=indexed and not segment.stage))
        self._open_files.drop(segment)

    def _visit(self, header: BatchHeader, data: Buffer, at: int, segment: Segment) -> None:
        position = segment.past_damage(self._position)
        self._read(position + header.size_bytes - self._position)
        self._position = position + header.size_bytes
        self._batches += 1
        if position and segment.damaged and segment.damaged[-1][1] == position:
            self._producers.complete = False
        elif header.base_offset > self._end:
            self._producers.complete = False  # a hole
        self._producers.come_to(header.base_offset)
        self._epoch(header)
        if self._index is not None:
            self._index.visit(position, header)
        if header.is_control:
            self._marker(header, data, at)
        else:
            self._records(header, data, at, segment, position)
        self._end = header.next_offset

    def _epoch(self, header: BatchHeader) -> None:
        epoch = header.leader_epoch
        if epoch == _NO_EPOCH:
            return
        expected = next((one for one, start in reversed(self._epochs) if start <= header.base_offset), None)
        told = bool(self._epochs) and header.base_offset >= self._known.start_offset
        if epoch < self._last_epoch or (told and epoch != expected):
            self._bad_epochs += 1
            if self._bad_epochs == 1:
                wanted = expected if expected is not None else f"at least {self._last_epoch}"
                self._wrong_epochs(
                    f"the batch at offset {header.base_offset} is of leader epoch {epoch}, expected {wanted}"
                )
        self._last_epoch = max(self._last_epoch, epoch)

    def _marker(self, header: BatchHeader, data: Buffer, at: int) -> None:
        marker = read_marker(data, header, at)
        derived = self._producers.marker(header, marker)
        if marker is not None and self._aborted is not None:
            self._aborted.marker(derived, marker.producer_id, header.base_offset, marker.commit)

    def _records(self, header: BatchHeader, data: Buffer, at: int, segment: Segment, position: int) -> None:
        self._producers.data(header)
        if self._aborted is not None:
            self._aborted.data(header)
        if not self._deep:
            return
        try:
            count = sum(1 for _ in records(data, header, at, max_bytes=MAX_DECOMPRESSED_BYTES))
            fault = (
                "" if count == header.record_count else f"{count} of {header.record_count} records are there"
            )
        except ProtocolError as error:
            fault = str(error)
        if fault:
            self._find(
                Kind.NOTE,
                file_name(segment.base_offset, ".log"),
                f"the batch at offset {header.base_offset} is whole, its records cannot be read: {fault}",
                "it is what a client has sent",
                position=position,
                length_bytes=header.size_bytes,
            )

    # --- what is wrong --------------------------------------------------------------------------------

    def _is_pending(self, segment: Segment, damage: Damage) -> bool:
        stretches = self._pending.get(segment.path(), [])
        end = damage.position + damage.length
        return any(start <= damage.position and end <= stop for start, stop in stretches)

    def _damage(self, segment: Segment, damage: Damage) -> None:
        self._producers.complete = False
        self._seen.append(damage)
        end = damage.position + damage.length
        places = {
            "position": damage.position,
            "length_bytes": damage.length,
            "from_offset": damage.from_offset,
            "to_offset": damage.to_offset,
        }
        name = file_name(segment.base_offset, ".log")
        what = (
            f"{damage.length} bytes are no valid record batch "
            f"({offsets(damage.from_offset, damage.to_offset)})"
        )
        if self._is_pending(segment, damage):
            self._find(
                Kind.NOTE, name, what, "the sync journal has them; the next start writes them", **places
            )
        elif any(
            one.segment == segment.base_offset
            and one.position <= damage.position
            and end <= one.position + one.length
            for one in self._quarantined
        ):
            self._find(
                Kind.NOTE, name, what, f"they are recorded in {DAMAGED}, and reads skip them", **places
            )
        else:
            self._find(
                Kind.LOST,
                name,
                what,
                f"they stay in the file, are recorded in {DAMAGED}, and reads skip them",
                **places,
            )

    def _missing(self, from_offset: int, to_offset: int) -> None:
        self._find(
            Kind.LOST,
            "",
            f"no segment contains {offsets(from_offset, to_offset)}",
            "a segment is missing, or the end of one was lost; reads continue after it",
            from_offset=from_offset,
            to_offset=to_offset,
        )

    def _tail(self, segment: Segment, tail: Damage, *, is_last: bool) -> None:
        if is_last and tail.from_offset >= self._known.recovery_point and not self._is_pending(segment, tail):
            self._find(
                Kind.TORN,
                file_name(segment.base_offset, ".log"),
                f"{tail.length} bytes at the end hold no whole batch",
                f"the file ends there; offset {tail.from_offset} was never acknowledged as being on the disk",
                position=tail.position,
                length_bytes=tail.length,
                from_offset=tail.from_offset,
            )
            return
        following = segment.next_base if segment.next_base is not None else self._known.recovery_point
        self._damage(segment, tail._replace(to_offset=max(tail.to_offset, following)))

    def _needless(self) -> None:
        """Find known damage that is none: reads would step over what can be read."""
        for known in self._quarantined:
            if not any(
                one.segment == known.segment
                and one.position < known.position + known.length
                and known.position < one.position + one.length
                for one in self._seen
            ):
                self._find(
                    Kind.WRONG,
                    DAMAGED,
                    f"it names bytes {known.position} to {known.position + known.length} of segment "
                    f"{known.segment}, which are sound",
                    "it is made anew when all is read",
                    remove=(self._path(DAMAGED),),
                )

    def _finish(self) -> None:
        self._needless()
        end, point = self._end, self._known.recovery_point
        self._findings += self._producers.end(end)
        told = any(one.kind is Kind.LOST and one.to_offset >= point for one in self._findings)
        if point > end and not told and not self._pending_beyond():
            self._find(
                Kind.LOST,
                "",
                f"the log ends before offset {end}; it was on disk up to offset {point - 1}",
                f"{offsets(end, point)}: lost; the next record gets offset {point}",
                from_offset=end,
                to_offset=point,
            )
        if self._known.cleaned_offset > end:
            self._find(
                Kind.WRONG,
                "",
                f"compacted to offset {self._known.cleaned_offset} by its checkpoint; it ends at {end}",
                "it is compacted from its beginning",
            )
        if self._known.start_offset > max(end, point):
            self._find(
                Kind.WRONG,
                "",
                f"its checkpoint says that it begins at offset {self._known.start_offset}; it ends at {end}",
                "appending would go on there, and everything before it could not be read",
            )

    def _pending_beyond(self) -> bool:
        return any(path.startswith(f"{self._directory}/") for path in self._pending)


def _epochs(data: bytes | None) -> list[tuple[int, ...]] | None:
    """Decode an epoch checkpoint that is exactly as it was written, else None."""
    rows = decode_rows(data, 2)
    return rows if rows is not None and data in _forms(encode_rows(rows)) else None


def _damaged(data: bytes | None) -> list[tuple[int, ...]] | None:
    """Decode damaged ranges that are exactly as they were written, now or before they had a check."""
    rows = decode_damaged(data)
    if rows is None or data not in (*_forms(encode_damaged(rows)), *_forms(encode_rows(rows))):
        return None
    return rows


def _forms(data: bytes) -> tuple[bytes, bytes]:
    """Return what a small file may hold: the last line may lack its end."""
    return data, data.removesuffix(b"\n")
