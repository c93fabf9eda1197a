"""The copy of one moment, made a data directory that was closed in order.

Owns the steps: mark, files, small files, metadata; then the mark goes, and every log is opened as a start
opens it after a kill, which checks what was written last and cuts off what had only begun. What a backup that
was cut short leaves has the mark, and the next one to that place begins anew.
"""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import ExitStack
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

import attrs

from megabroker.backup import rows
from megabroker.backup.cut import Cut, Held, cut
from megabroker.backup.pins import Pins
from megabroker.errors import DataDirectoryLocked, ErrorCode, StorageError
from megabroker.inspection.directories import directories_of
from megabroker.inspection.repair import settle
from megabroker.inspection.stores import Metadata, read_metadata
from megabroker.kafkadir.directory import held
from megabroker.model import Topic, TopicPartition
from megabroker.storage.checkpoints import decode_partition_metadata, encode_offsets
from megabroker.storage.files import Files
from megabroker.storage.journal import JOURNAL
from megabroker.storage.making import copy_file, make_room, sync_directory
from megabroker.storage.metadata.database import METADATA_FILE
from megabroker.storage.replay import PARTITION_METADATA
from megabroker.storage.segment import first_offset
from megabroker.storage.shares import CHECKPOINTS

__all__ = ["Outcome", "Progress", "backup"]

_POLICY: Final = "cleanup.policy"
_META: Final = "meta.properties"

Progress = Callable[[str, int, int], None]
"""Told (what is done, bytes of it that are done, bytes there are)."""


@attrs.frozen
class Outcome:
    """What was made.

    Attributes:
        running: whether a broker had the directories.
        held_ms: for how long nobody could commit metadata.
        copied_bytes: of files that were copied.
        linked_bytes: of segments that the copy shares with the directory.
        damaged: what of the logs could not be read, and is noted in the copy as a start would note it.
    """

    target: pathlib.Path
    running: bool
    held_ms: float
    topics: int
    partitions: int
    files: int
    copied_bytes: int
    linked_bytes: int
    damaged: Sequence[str]

    def summary(self) -> dict[str, Any]:
        """Return it as JSON-like values."""
        return {**attrs.asdict(self), "target": str(self.target), "held_ms": round(self.held_ms, 1)}


def backup(source: pathlib.Path, target: pathlib.Path, *, link: bool, progress: Progress) -> Outcome:
    """Make ``target`` what a broker would go on from if it were killed now, closed in order. Blocking.

    Args:
        source: its data_dir; the others are found by themselves, and all come into one.
        link: closed segments as hard links, where both are on one file system.

    Raises:
        StorageError: there is no such directory, ``target`` is not empty, or a file cannot be read or
            written.
    """
    if target.exists() and not target.is_dir():
        raise _refusal(f"{target} is a file: expected a directory that is empty or does not exist")
    paths = directories_of(source)
    for path in paths:
        if target.resolve().is_relative_to(path.resolve()):
            raise _refusal(f"{target} lies in {path}: expected a place outside")
    if not (source / METADATA_FILE).exists():
        raise _refusal(f"{source} has no {METADATA_FILE}: expected the data_dir of a broker")
    try:
        with ExitStack() as stack:
            running = not _kept_out(paths, stack)
            pins = {path: stack.enter_context(Pins.at(path)) for path in paths}
            mark = make_room(target)
            target.chmod(0o700)
            making = _Making(paths, target, stack.enter_context(cut(paths, pins, running=running)), progress)
            metadata = making.run(link=link)
            making.own()
            mark.unlink()
            sync_directory(target)
            outcome = making.outcome(running)
        progress("opening logs", 0, 0)
        damaged = settle(target, metadata.topics, lambda line: progress(line, 0, 0))
        making.own()
    except OSError as error:
        raise _refusal(f"cannot copy {source} to {target}: {error}") from error
    told = [f"{name}: {one.length} bytes from offset {one.from_offset} on" for name, one in damaged]
    return attrs.evolve(outcome, damaged=told)


def _kept_out(paths: Sequence[pathlib.Path], stack: ExitStack) -> bool:
    """Keep brokers out while the stack lasts; False if one is in already."""
    try:
        for path in paths:
            stack.enter_context(held(path))
    except DataDirectoryLocked:
        return False
    return True


class _Making:
    def __init__(
        self, paths: Sequence[pathlib.Path], target: pathlib.Path, moment: Cut, progress: Progress
    ) -> None:
        self._paths = paths
        self._target = target
        self._moment = moment
        self._progress = progress
        self._topics = self._partitions = self._files = 0
        self._copied_bytes = self._linked_bytes = self._size_bytes = 0

    def run(self, *, link: bool) -> Metadata:
        moment, target = self._moment, self._target
        metadata = self._metadata()
        self._topics = len(metadata.topics)
        logs = {
            name: files
            for topic in metadata.topics.values()
            for name in (TopicPartition(topic.name, at) for at in range(topic.partitions))
            if (files := moment.logs.get(name)) and _is_of(files, topic.id)
        }
        self._size_bytes = sum(one.size_bytes for files in logs.values() for one in files)
        for one in moment.dedup:
            (target / one.name).parent.mkdir(parents=True, exist_ok=True)
            self._copy(one, target / one.name)
        for name, files in sorted(logs.items()):
            self._log(name, files, link=link)
        if moment.reader is None:
            for at, journal in enumerate(moment.known.journals):
                shutil.copyfile(journal, target / f"{JOURNAL}-{at}")
        self._small_files(logs, {topic.name for topic in metadata.topics.values() if _is_compacted(topic)})
        if not Files().sync_file_system(str(target)):
            os.sync()
        return metadata

    def _metadata(self) -> Metadata:
        path = self._target / METADATA_FILE
        if self._moment.reader is not None:
            rows.copy(self._moment.reader, path)
        else:
            for suffix in ("", "-wal"):
                beside = pathlib.Path(f"{self._paths[0] / METADATA_FILE}{suffix}")
                if beside.exists():
                    copy_file(beside, pathlib.Path(f"{path}{suffix}"))
                    os.chmod(f"{path}{suffix}", 0o600)
        found = read_metadata(str(self._target))
        if found is None or not found.is_sound or found.damaged_rows:
            what = found.findings[0].line() if found is not None else "there is none"
            raise _refusal(f"the metadata of {self._paths[0]} is damaged: {what}")
        return found

    def _log(self, name: TopicPartition, files: Sequence[Held], *, link: bool) -> None:
        place = self._target / str(name)
        place.mkdir()
        point = self._moment.known.points.get(name, 0)
        bases = sorted(base for one in files if (base := first_offset(one.name, ".log")) is not None)
        ends = dict(pairwise(bases))
        for one in files:
            base = first_offset(one.name, ".log")
            closed = base is not None and base in ends and ends[base] <= point
            if not (link and closed and self._link(one, place / one.name)):
                self._copy(one, place / one.name)
        self._partitions += 1
        done = self._copied_bytes + self._linked_bytes
        self._progress(f"{self._partitions} partitions", done, self._size_bytes)

    def _link(self, one: Held, target: pathlib.Path) -> bool:
        """Link a segment that nobody writes to any more; False if it has to be copied."""
        try:
            os.link(one.source, target)
        except OSError:
            return False
        self._files += 1
        self._linked_bytes += one.size_bytes
        return True

    def _copy(self, one: Held, target: pathlib.Path) -> None:
        self._files += 1
        # All are synced together at the end: one by one takes a minute for 10,000.
        self._copied_bytes += copy_file(one.source, target, one.size_bytes, sync=False)

    def _small_files(self, logs: Mapping[TopicPartition, Sequence[Held]], compacted: Set[str]) -> None:
        known = self._moment.known
        cleaned = {name: at for name, at in known.cleaned.items() if name in logs}
        starts = {}
        for name, files in logs.items():
            bases = [base for one in files if (base := first_offset(one.name, ".log")) is not None]
            first = min(bases, default=0)
            if name.topic in compacted:
                # The cleaner may have left its first hole before it wrote down how far it has come.
                cleaned.setdefault(name, max(first, 1))
            # Retention may have removed segments since the checkpoint was read.
            starts[name] = max(known.starts.get(name, 0), 0 if name in cleaned else first)
        points = {name: known.points.get(name, 0) for name in logs}
        for file, offsets in zip(CHECKPOINTS, (starts, points, cleaned), strict=True):
            (self._target / file).write_bytes(encode_offsets(offsets))
        meta = self._paths[0] / _META
        if meta.exists():
            copy_file(meta, self._target / _META)

    def own(self) -> None:
        """Give what root has made to whom the directory belongs to."""
        if os.geteuid() != 0:
            return
        owner = self._paths[0].stat()
        for place, directories, files in os.walk(self._target):
            for path in (place, *(f"{place}/{name}" for name in (*directories, *files))):
                os.chown(path, owner.st_uid, owner.st_gid)

    def outcome(self, running: bool) -> Outcome:
        return Outcome(
            target=self._target,
            running=running,
            held_ms=self._moment.held_ms,
            topics=self._topics,
            partitions=self._partitions,
            files=self._files,
            copied_bytes=self._copied_bytes,
            linked_bytes=self._linked_bytes,
            damaged=(),
        )


def _is_compacted(topic: Topic) -> bool:
    return "compact" in topic.configs.get(_POLICY, "")


def _is_of(files: Sequence[Held], topic_id: UUID) -> bool:
    """Whether a log is of this topic, and not of an older one of that name."""
    for one in files:
        if one.name == PARTITION_METADATA:
            found = decode_partition_metadata(one.source.read_bytes())
            return found is None or found == topic_id
    return True


def _refusal(message: str) -> StorageError:
    return StorageError(ErrorCode.STORAGE, message, retriable=False)
