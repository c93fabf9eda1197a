"""What a journal holds and the logs' own files may have lost: written there again, before logs are opened.

An entry counts for the log that it was made for and for no later one of that name: the topic ids must agree.
It does not count when the log's recovery point lies at or behind its end, since its bytes were on the disk
then, and compaction may since have written the segment anew. Neither does it when its segment has no file:
every file is on the disk by name before bytes of it are in a journal, so retention has removed it.

Doing it twice is doing it once, so a crash on the way does no harm. The journal is removed when everything is
on the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from twisted.logger import Logger

from megabroker.errors import ErrorCode, StorageError
from megabroker.model import TopicPartition
from megabroker.storage.checkpoints import decode_partition_metadata
from megabroker.storage.files import Files, OpenFiles
from megabroker.storage.journal import Entry, JournalError, read_frames
from megabroker.storage.segment import Segment, file_name

__all__ = ["PARTITION_METADATA", "Replay"]

_log = Logger()

PARTITION_METADATA: Final = "partition.metadata"


class Replay:
    """Brings the entries of journals to the logs.

    Args:
        directory_of: where a log lies, by its name; None for one that is not there.
        points: everything below is in the log's own files, on the disk.
    """

    def __init__(
        self,
        files: Files,
        directory_of: Callable[[str], str | None],
        points: Mapping[TopicPartition, int],
    ) -> None:
        self._files = files
        self._directory_of = directory_of
        self._points = {str(name): offset for name, offset in points.items()}
        self._topic_ids: dict[str, bytes | None] = {}
        self._open_files = OpenFiles(files)  # there may be more logs than files may be open
        self._segments: dict[str, Segment | None] = {}  # by path, None for one that has no file
        self.bytes = 0

    def run(self, path: str) -> None:
        """Replay the journal at ``path`` and remove it.

        Raises:
            OSError: a file cannot be read or written; the journal is still there.
            StorageError: the journal cannot be understood.
        """
        files = self._files
        fd = files.open(path, create=False)
        entries = missing = 0
        try:
            for frames, gaps in read_frames(files, fd):
                missing += gaps
                for frame in frames:
                    entries += len(frame.entries)
                    for entry in frame.entries:
                        self._apply(entry)
            for segment in filter(None, self._segments.values()):
                file = self._open_files.get(segment)
                files.fdatasync(file.fileno())
        except JournalError as caught:
            raise StorageError(
                ErrorCode.STORAGE,
                f"{path} holds acknowledged records and cannot be read: {caught}; without it the logs are "
                "opened as their own files are",
                retriable=False,
            ) from caught
        finally:
            files.close(fd)
            self._open_files.close()
            self._segments.clear()
        if missing:
            _log.error(
                "sync-journal-damaged: {path}: {missing} rounds cannot be read; what they held may be lost "
                "if the power had failed",
                path=path,
                missing=missing,
            )
        _log.info(
            "sync-journal-replayed: {path}: {entries} entries, {bytes} bytes written to the logs again",
            path=path,
            entries=entries,
            bytes=self.bytes,
        )
        files.unlink(path)
        files.sync_dir(path.rpartition("/")[0])

    def _apply(self, entry: Entry) -> None:
        if entry.end_offset <= self._points.get(entry.name, 0):
            return
        directory = self._directory_of(entry.name)
        if directory is None or self._topic_id(directory) != entry.topic_id:
            return
        segment = self._segment(directory, entry.segment)
        if segment is None:
            return
        file = self._open_files.get(segment)
        data, position = entry.data, entry.position
        # Even what can be read: after a failed sync a page may be in the cache only, and count as clean.
        self.bytes += len(data)
        view = memoryview(data)
        while view:
            taken = self._files.pwritev(file.fileno(), [view], position)
            view = view[taken:]
            position += taken

    def _segment(self, directory: str, base_offset: int) -> Segment | None:
        path = f"{directory}/{file_name(base_offset, '.log')}"
        if path not in self._segments:
            size = self._files.read_size(path)
            found = None if size is None else Segment(self._open_files, directory, base_offset)
            if found is not None:
                found.created = True
            self._segments[path] = found
        return self._segments[path]

    def _topic_id(self, directory: str) -> bytes | None:
        if directory not in self._topic_ids:
            path = f"{directory}/{PARTITION_METADATA}"
            found = decode_partition_metadata(
                self._open_files.with_room(lambda: self._files.read_bytes(path))
            )
            self._topic_ids[directory] = None if found is None else found.bytes
        return self._topic_ids[directory]
