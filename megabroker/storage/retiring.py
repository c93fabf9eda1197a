"""Removed segments whose files are still there, or may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from megabroker.errors import StorageError
from megabroker.storage.disk import DiskHandler
from megabroker.storage.retention import ensure_created
from megabroker.storage.segment import Segment
from megabroker.storage.swap import retire

__all__ = ["Retiring"]


class Retiring:
    """Deletes the files of a log's removed segments, later and elsewhere; ranges handed out stay readable.

    Args:
        directory: the log's.
        later: calls a function after so many seconds.
    """

    def __init__(
        self,
        directory: str,
        disk: DiskHandler,
        later: Callable[[float, Callable[[], None]], None],
    ) -> None:
        self._directory = directory
        self._disk = disk
        self._later = later
        self._segments: list[Segment] = []  # oldest first

    def add(self, removed: Sequence[Segment]) -> None:
        """Have segments retire after those before them."""
        self._segments += removed

    def go_on(self, active: Segment, delay_ms: int) -> None:
        """Delete what is left of them, if there is any.

        Always all of them that may be left, oldest first: were one in the way of the next start, with none of
        those after it, the log would seem to begin with a hole.

        Args:
            active: the segment that stays in any case.
            delay_ms: how long the files are still there, under other names.
        """
        retiring = list(self._segments)
        if not retiring:
            return
        for segment in retiring:
            segment.open_files.drop(segment)
        files = active.open_files.files

        def out_of_the_way() -> list[str]:
            ensure_created(files, self._directory, active)
            return retire(files, self._directory, retiring)

        def done(paths: list[str] | None, error: StorageError | None) -> None:
            if error is None:
                self._segments = [segment for segment in self._segments if segment not in retiring]
            self.delete(paths, active, delay_ms)

        self._disk.chore(out_of_the_way, done)

    def delete(self, paths: Sequence[str] | None, active: Segment, delay_ms: int) -> None:
        """Unlink files that are out of the way, after a delay; else opening the log does.

        Args:
            active: any segment that stays.
        """
        files = active.open_files.files

        def unlink() -> None:
            for path in paths or ():
                files.unlink(path)

        if not delay_ms:
            self._disk.chore(unlink)
        elif paths:
            self._later(delay_ms / 1000, lambda: self._disk.chore(unlink))
