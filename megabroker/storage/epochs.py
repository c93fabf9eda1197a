"""Which leader epochs a log has, held against its batches when it is opened.

Owns that decision. Kafka's format has room for a check neither in ``leader-epoch-checkpoint`` nor, for the
epoch, in the head of a batch, which no CRC covers. So the two are held against each other, at few places:
the epochs of a log never fall, so if the file is right of the batch before and of the first one of each
epoch, and of the last one there is, it is right of all between.

Where they differ the log decides. What it says is put together from the heads that segments begin with, and
from all of a segment if the next one begins with another epoch. A single batch of a higher epoch than one
after it, or of an epoch that neither the file nor another batch knows, is not believed: its head has changed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from twisted.logger import Logger

from megabroker.codec.batch import BatchError, peek_header
from megabroker.model import BatchHeader
from megabroker.storage.index import Index
from megabroker.storage.leader_epochs import Epochs
from megabroker.storage.segment import HEAD_BYTES, DamageFound, Segment

__all__ = ["checked", "of_segments"]

_log = Logger()


def of_segments(segments: Sequence[Segment]) -> Epochs:
    """Return the epochs that segments begin with, for a log that has no file of them. Raises OSError."""
    found: Epochs = []
    for segment in segments:
        header = _head(segment, 0)
        if header is not None and header.leader_epoch > (found[-1][0] if found else -1):
            found.append((header.leader_epoch, header.base_offset))
    return found


def checked(
    epochs: Epochs,
    saved: Sequence[tuple[int, ...]] | None,
    segments: Sequence[Segment],
    start_offset: int,
    last: BatchHeader | None,
    path: str,
) -> Epochs:
    """Return the epochs to believe, and say in the log what was wrong. Raises OSError.

    Args:
        epochs: what the file says, and what was found by reading the log besides.
        saved: what the file says; None if it has not the form that it should.
        segments: in offset order.
        start_offset: where the log begins; of what lies before nothing need be told.
        last: the last batch, if it has been read anyway.
        path: of the file.
    """
    if last is None:
        last = _last(segments)
    wrong = "it cannot be read" if saved is None else _contradiction(epochs, segments, start_offset, last)
    if wrong is None:
        return epochs
    told = _from_batches(epochs, segments, last)
    if told == saved:
        _log.warn("leader-epoch-alone: {path} is right, a batch is not: {why}", path=path, why=wrong)
    else:
        _log.warn("leader-epochs-made-anew: {path}: {why}", path=path, why=wrong)
    return told


def _contradiction(
    epochs: Epochs, segments: Sequence[Segment], start_offset: int, last: BatchHeader | None
) -> str | None:
    """Return what of ``epochs`` is not as the batches say, None if nothing is."""
    if any(one[0] >= other[0] or one[1] >= other[1] for one, other in pairwise([(-1, -1), *epochs])):
        return "its epochs do not rise"
    for header in (*_beginnings(epochs, segments), last):
        if header is None:
            continue
        said = header.leader_epoch
        if said < 0 or header.last_offset < start_offset:
            continue
        at = bisect_right(epochs, header.last_offset, key=lambda row: row[1])
        told = epochs[at - 1][0] if at else None
        if said != told:
            return f"the batch at offset {header.base_offset} is of epoch {said}, not {told}"
    return None


def _beginnings(epochs: Epochs, segments: Sequence[Segment]) -> Iterator[BatchHeader | None]:
    """Yield the last batch before the first offset of each epoch, and the first one after it."""
    for _, offset in epochs:
        at = max(0, bisect_right(segments, offset, key=lambda one: one.base_offset) - 1)
        if offset > segments[at].base_offset:
            yield from _around(segments[at], offset)
        else:
            yield from (_last(segments[:at]), _head(segments[at], 0))


def _last(segments: Sequence[Segment]) -> BatchHeader | None:
    segment = next((one for one in reversed(segments) if one.size), None)
    return None if segment is None else _around(segment, None)[0]


def _around(segment: Segment, offset: int | None) -> tuple[BatchHeader | None, BatchHeader | None]:
    """Return the last batch below ``offset`` and the first one that is not; None stands for the end."""
    position, before = 0, None
    index = _index(segment)
    if index is not None and index.positions:
        relative = index.offsets[-1] if offset is None else offset - 1 - segment.base_offset
        # The entry names the last offset of its batch, which is thus below.
        position = index.position_for(min(relative, index.offsets[-1]))
    try:
        for hop in segment.hops(position):
            if offset is not None and hop.base_offset >= offset:
                return _head(segment, before), _head(segment, hop.position)
            before = hop.position
    except DamageFound:
        return None, None  # whoever reads there is told
    return _head(segment, before), None


def _index(segment: Segment) -> Index | None:
    if segment.index is not None:
        return segment.index
    files = segment.open_files.files
    return Index.decode(
        files.read_bytes(segment.path(".index")), files.read_bytes(segment.path(".timeindex")), segment.size
    )


def _head(segment: Segment, position: int | None) -> BatchHeader | None:
    if position is None or segment.size - position < HEAD_BYTES:
        return None
    try:
        return peek_header(segment.read(position, HEAD_BYTES), 0, HEAD_BYTES)
    except BatchError:
        return None


def _from_batches(epochs: Epochs, segments: Sequence[Segment], last: BatchHeader | None) -> Epochs:
    """Return the epochs that the batches tell of."""
    found: list[tuple[int, int, int]] = []  # and how many batches say so
    sized = [segment for segment in segments if segment.size]
    if not sized:
        return []  # the next batch begins one
    firsts = [_head(segment, 0) for segment in sized]
    for segment, first, following in zip(sized, firsts, [*firsts[1:], last], strict=True):
        if first is not None and following is not None and first.leader_epoch == following.leader_epoch:
            for _ in range(2):  # it is not alone
                _note(found, first, epochs)
            continue
        for header in _heads(segment):
            _note(found, header, epochs)
    told: Epochs = []
    alone = -1
    for epoch, offset, count in found:
        if count == 1 and (epoch, offset) not in epochs and len(found) > 1:
            alone = offset
            continue
        told.append((epoch, alone if (epoch, alone) in epochs else offset))
        alone = -1
    return told


def _heads(segment: Segment) -> Iterator[BatchHeader]:
    """Yield the heads of a segment up to what is damaged and not known to be. Raises OSError."""
    try:
        for hop in segment.hops(0):
            if (header := _head(segment, hop.position)) is not None:
                yield header
    except DamageFound:
        return  # whoever reads there is told


def _note(found: list[tuple[int, int, int]], header: BatchHeader, epochs: Epochs) -> None:
    epoch, start = header.leader_epoch, header.base_offset
    if epoch < 0:
        return
    while found and epoch < found[-1][0]:
        if found[-1][2] > 1:
            return  # this one is alone among others
        start = found.pop()[1]
    if found and found[-1][0] == epoch:
        found[-1] = (*found[-1][:2], found[-1][2] + 1)
    else:
        found.append((epoch, start if (epoch, start) in epochs else header.base_offset, 1))
