"""Reading closed segments again and again, slowly, to notice bits that have changed since they were written.

Owns which stretch is next and the pace. What is checked, and what becomes of damage, is the business of the
segments (``Segments.plan``, ``Segments.take``): it is reported once, and refused to who asks for it. Without
this, what was written by this process, or checked once, is served as it is until the next start.

One stretch is read at a time, by the threads that read for consumers, and never more than the rate allows: a
batch that is larger than a stretch is followed by a longer pause. A round goes through all segments that are
closed, and the next one begins an hour after it began, if not later. What is in the page cache is read there:
it is what would be served. A segment that cannot be read is reported, and left out until the next round.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

from twisted.logger import Logger

from megabroker.storage.checking import StretchCheck
from megabroker.storage.segment import Checked, Segment
from megabroker.storage.segments import Segments

__all__ = ["Scrubber"]

_log = Logger()

_STRETCH_BYTES: Final = 256 << 10
_ROUND_SECONDS: Final = 3600.0
_LOST_SECONDS: Final = 60.0
"""After which a reading that has not come back is given up."""


_Found = StretchCheck | OSError


class _Scrubbed(Protocol):
    segments: Segments


class Scrubber:
    """The rounds; everything is called in the reactor.

    Args:
        logs: returns the logs there are now.
        work: calls what reads in a thread, and then what takes its result in the reactor, as ``Warmer.work``.
        call_later: calls back in so many seconds, unless the store is closed before.
        seconds: the time.
        bytes_per_second: the pace; 0 for none.

    Attributes:
        bytes: how many were read.
        rounds: how many are complete.
    """

    def __init__(
        self,
        logs: Callable[[], Iterable[_Scrubbed]],
        work: Callable[[Any, Callable[[], _Found], Callable[[_Found], None]], object],
        call_later: Callable[[float, Callable[[], None]], None],
        seconds: Callable[[], float],
        bytes_per_second: int,
    ) -> None:
        self.bytes = 0
        self.rounds = 0
        self._logs = logs
        self._work = work
        self._call_later = call_later
        self._seconds = seconds
        self._stretch = min(_STRETCH_BYTES, bytes_per_second)
        self._pause = self._stretch / bytes_per_second if bytes_per_second else 0.0
        self._round: Iterator[tuple[Segments, Segment]] = iter(())
        self._place: tuple[Segments, Segment, Checked, int] | None = None
        self._reading: object = None
        self._patience = 0.0
        self._began = 0.0
        self._in_round = False
        self._ahead_bytes = 0  # what was read beyond the rate

    def start(self) -> None:
        """Begin, if there is a pace."""
        if self._pause:
            self._call_later(self._pause, self._step)

    def _step(self) -> None:
        now = self._seconds()
        self._call_later(self._pause, self._step)
        if self._reading is not None and abs(now - self._patience) < _LOST_SECONDS:
            return
        self._reading = None
        if self._ahead_bytes >= self._stretch:
            self._ahead_bytes -= self._stretch
            return
        if self._place is None or not _is_there(*self._place[:2]):
            self._place = self._next(now)
        if self._place is None:
            return
        segments, segment, checked, position = self._place
        self._reading = token = object()
        self._patience = now
        try:
            check = segments.plan(segment, checked, position, self._stretch)
        except OSError as caught:
            self._read(token, caught)
            return

        def read() -> _Found:
            try:
                return check.run()
            except OSError as caught:
                return caught

        self._work(("scrub", id(segment), position), read, lambda found: self._read(token, found))

    def _next(self, now: float) -> tuple[Segments, Segment, Checked, int] | None:
        """Return where the next segment begins; None until another round is due."""
        for segments, segment in self._round:
            if _is_there(segments, segment):
                following = segment.next_base
                assert following is not None
                return segments, segment, Checked(segment.size, segment.base_offset, following), 0
        if self._in_round:
            self._in_round = False
            self.rounds += 1
            _log.info(
                "scrubbed: all closed segments were read, {bytes} bytes since the start", bytes=self.bytes
            )
        if self.rounds == 0 or abs(now - self._began) >= _ROUND_SECONDS:
            self._in_round, self._began = True, now
            self._round = self._segments()
        return None

    def _segments(self) -> Iterator[tuple[Segments, Segment]]:
        for log in list(self._logs()):
            for segment in list(log.segments.items[:-1]):
                yield log.segments, segment

    def _read(self, token: object, found: _Found) -> None:
        if token is not self._reading or self._place is None:
            return
        segments, segment, checked, position = self._place
        self._place = self._reading = None
        if not _is_there(segments, segment):
            return
        if isinstance(found, OSError):
            _log.error("scrub-unreadable: {path}: {error}", path=segment.path(), error=found)
            return
        size = max(0, found.end - position)
        self.bytes += size
        self._ahead_bytes = max(0, self._ahead_bytes + size - self._stretch)
        if not checked.add(found.start, found.end, found.end_offset) and size:
            self._place = segments, segment, checked, found.end
        segments.take(segment, found)


def _is_there(segments: Segments, segment: Segment) -> bool:
    """Whether a segment is still one of its log's, closed and with something in it."""
    return (
        not segment.gone
        and segment.size > 0
        and segment.next_base is not None
        and (at := bisect_left(segments.bases, segment.base_offset)) < len(segments.items)
        and segments.items[at] is segment
    )
