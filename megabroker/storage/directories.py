"""The directories of a log store, as Kafka's log.dirs: whose they are and which partition is where.

Owns the locks, the clean-shutdown markers, the checkpoint files and the names of partition directories; the
first directory is the main one, where new brokers keep everything. Knows nothing of logs.

    <directory>/.lock                              who has it: pid, host, start
    <directory>/.kafka_cleanshutdown               only while no broker runs, after a clean close
    <directory>/meta.properties                    version, cluster.id, node.id; in further ones directory.id
    <main>/more-data-dirs                          directory.id and path of those that hold partitions
    <directory>/recovery-point-offset-checkpoint   per partition in it: everything below is on the disk
    <directory>/log-start-offset-checkpoint        per partition in it: first readable offset
    <directory>/cleaner-offset-checkpoint          per partition in it that was compacted: where that ended
    <main>/sync-journal                            while a broker runs: what its logs' files may not have
    <directory>/workers-room                       room for several processes to start, were the disk full
    <directory>/<topic>-<partition>/               one log
    <directory>/<topic>-<partition>.<hex>-delete/  on its way out

Several processes may have the directories together, each its ``Share`` of the partitions. Each then keeps its
clean marker and its checkpoint files elsewhere (``shares``); whose the directories are, the locks and what is
left over is the business of the one process that started them.

A partition stays where it is. A new one goes where the fewest are, as with Kafka, the main directory first.
As long as a further directory holds partitions, nothing is opened without it: they would be made anew, empty.
"""

from __future__ import annotations

import base64
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple
from uuid import uuid4

from megabroker.errors import ErrorCode, StorageError
from megabroker.model import TopicPartition
from megabroker.storage.checkpoints import decode_meta, encode_meta, encode_offsets
from megabroker.storage.files import Files, storage_error
from megabroker.storage.journal import JOURNAL
from megabroker.storage.lock import DirectoryLock
from megabroker.storage.metadata.database import METADATA_FILE
from megabroker.storage.replay import Replay
from megabroker.storage.shares import (
    CHECKPOINTS,
    CLEAN,
    CLEANED_OFFSETS,
    ROOM,
    WORKERS,
    Share,
    gather,
    read_offsets,
)

__all__ = ["UNFINISHED", "Checkpoints", "DataDirectories", "refuse_second_main"]

UNFINISHED: Final = "import-unfinished"
"""There while another broker's data is copied into the directory."""

_META: Final = "meta.properties"
_MORE: Final = "more-data-dirs"
_IDENTITY: Final = "directory.id"
_DIRECTORY: Final = re.compile(r"(.+)-(0|[1-9][0-9]{0,9})")
_DOOMED: Final = re.compile(_DIRECTORY.pattern + r"\.[0-9a-f]{32}-delete")


class Checkpoints(NamedTuple):
    """What the checkpoint files say, by partition.

    Attributes:
        starts: first readable offset.
        points: everything below is on the disk.
        cleaned: compaction has come this far.
    """

    starts: dict[TopicPartition, int]
    points: dict[TopicPartition, int]
    cleaned: dict[TopicPartition, int]


class DataDirectories:
    """See the module.

    Args:
        paths: the main one first.
        cluster_id: the cluster they must belong to; None takes what is found.
        node_id: the same for the node.
        new_cluster_id: makes the identity of directories that have none.
        share: this process's part, if it is one of several.

    Attributes:
        was_clean: whether all of them were closed in order.
    """

    def __init__(
        self,
        files: Files,
        paths: Sequence[str],
        cluster_id: str | None,
        node_id: int | None,
        new_cluster_id: Callable[[], str] | None,
        share: Share | None = None,
    ) -> None:
        self.paths = [os.path.abspath(path) for path in paths]
        self.cluster_id = cluster_id
        self.was_clean = False
        self._files = files
        self._node_id = node_id
        self._new_cluster_id = new_cluster_id
        self._share = share
        self._locks = [DirectoryLock(path, files) for path in self.paths]
        self._places: dict[TopicPartition, str] = {}
        self._counts: Counter[str] = Counter()
        self._identities: dict[str, str] = {}
        self._told = b""  # what more-data-dirs holds

    def small(self, path: str) -> str:
        """Return where the small files about the partitions in a directory are."""
        return path if self._share is None else self._share.place(path)

    # --- opening --------------------------------------------------------------------------------

    def take(self, started: str) -> None:
        """Make what is missing and lock all; whoever has a share of them only finds them locked.

        Raises:
            DataDirectoryLocked: another process has one of them.
            StorageError: one cannot be used.
        """
        if self._share is not None:
            return
        for path, lock in zip(self.paths, self._locks, strict=True):
            try:
                self._files.mkdir(path)
                if not self._files.is_directory(path):
                    raise StorageError(ErrorCode.STORAGE, f"{path} is not a directory", retriable=False)
                if not self._files.is_writable(path):
                    raise StorageError(ErrorCode.STORAGE, f"{path} is not writable", retriable=False)
            except OSError as caught:
                raise storage_error("cannot use data directory", path, caught) from caught
            lock.take(started)

    def release(self) -> None:
        """Unlock all that ``take`` has locked."""
        for lock in self._locks:
            lock.release()

    @property
    def descriptors(self) -> list[int]:
        """What holds the locks; a process that has them too keeps the directories locked."""
        return [lock.fd for lock in self._locks]

    def prepare(self) -> Checkpoints:
        """Check whose they are, read what they say, and take the clean markers away.

        Raises:
            OSError: a file cannot be read or written.
            StorageError: one belongs to somebody else.
        """
        files = self._files
        for path in self.paths:
            if files.read_size(f"{path}/{UNFINISHED}") is not None:
                raise StorageError(
                    ErrorCode.STORAGE,
                    f"{path} holds an import or a backup that was not finished: run it again",
                    retriable=False,
                )
        refuse_second_main(self.paths)
        for path in self.paths:
            self._check_meta(path)
        self._refuse_absent()
        if self._share is None:
            for path in self.paths:
                files.unlink(f"{path}/{ROOM}")
            gather(files, self.paths)
        known = Checkpoints({}, {}, {})
        for path in self.paths:
            self._list(path)
        self._tell_more()
        for path in self.paths:
            # What a file says of a partition that is in another directory is of an older log of that name.
            for offsets, name in zip(known, CHECKPOINTS, strict=True):
                found = read_offsets(files, f"{self.small(path)}/{name}")
                offsets.update({one: at for one, at in found.items() if self._places.get(one, path) == path})
        self._replay(known.points)
        places = [self.small(path) for path in self.paths]
        markers = [f"{place}/{CLEAN}" for place in places]
        self.was_clean = all(files.read_size(marker) is not None for marker in markers)
        for place, marker in zip(places, markers, strict=True):
            if files.read_size(marker) is not None:
                files.unlink(marker)
                # Back after a power cut, it would have what was torn believed, whatever the durability.
                files.sync_dir(place)
        return known

    def _replay(self, points: Mapping[TopicPartition, int]) -> None:
        """Write into the logs what journals have and they lack. Raises OSError and StorageError."""
        place = self.small(self.paths[0])
        replay = Replay(self._files, self._directory_of, points)
        for name in sorted(name for name, _, _ in self._files.listdir(place) if name.startswith(JOURNAL)):
            if name.endswith(".tmp"):
                self._files.unlink(f"{place}/{name}")
            else:
                replay.run(f"{place}/{name}")

    def _directory_of(self, name: str) -> str | None:
        match = _DIRECTORY.fullmatch(name)
        path = self._places.get(TopicPartition(match[1], int(match[2]))) if match is not None else None
        return None if path is None else f"{path}/{name}"

    def _list(self, path: str) -> None:
        """Take note of the partitions in a directory; remove what was being deleted."""
        for name in self._files.subdirectories(path):
            match = _DIRECTORY.fullmatch(name)
            if name.endswith("-delete"):
                if self._may_remove(name):
                    self._files.rmtree(f"{path}/{name}")
            elif match is not None:
                partition = TopicPartition(match[1], int(match[2]))
                other = self._places.setdefault(partition, path)
                if other != path:
                    raise StorageError(
                        ErrorCode.STORAGE, f"{partition} is both in {other} and in {path}", retriable=False
                    )
                self._counts[path] += 1

    def _may_remove(self, name: str) -> bool:
        """Whether nobody else is removing a directory that is on its way out."""
        if self._share is None:
            return True
        match = _DOOMED.fullmatch(name)
        return match is not None and self._share.has(TopicPartition(match[1], int(match[2])))

    def _check_meta(self, path: str) -> None:
        """Refuse a directory of another cluster or node; complete what is missing."""
        there = decode_meta(self._files.read_bytes(f"{path}/{_META}") or b"")
        if there is None:
            raise StorageError(
                ErrorCode.STORAGE,
                f"{path}/{_META} is damaged, or was edited: expected cluster.id and node.id as they were, "
                "and the line with the CRC removed",
                retriable=False,
            )
        found = {"version": "1", **there}
        wanted = {"cluster.id": self.cluster_id, "node.id": self._node_id}
        for key, value in wanted.items():
            if value is None:
                continue
            if found.setdefault(key, str(value)) != str(value):
                raise StorageError(
                    ErrorCode.STORAGE,
                    f"{path} belongs to {key} {found[key]}, not to {value}",
                    retriable=False,
                )
        if "cluster.id" not in found and self._new_cluster_id is not None:
            found["cluster.id"] = self._new_cluster_id()
        self.cluster_id = found.get("cluster.id")
        if path != self.paths[0]:
            self._identities[path] = found.setdefault(_IDENTITY, _new_identity())
        if found != there:
            self._files.write_whole(f"{path}/{_META}", encode_meta(found), sync=True)

    def _refuse_absent(self) -> None:
        """Refuse to go on without a directory that holds partitions. Raises StorageError."""
        self._told = self._files.read_bytes(f"{self.paths[0]}/{_MORE}") or b""
        there = set(self._identities.values())
        for line in self._told.decode(errors="replace").splitlines():
            identity, _, path = line.partition(" ")
            if identity not in there:
                raise StorageError(
                    ErrorCode.STORAGE,
                    f"partitions are in {path}, which is not among the data directories or not mounted: "
                    f"expected it in more_data_dirs; without {self.paths[0]}/{_MORE} they begin anew, empty",
                    retriable=False,
                )

    def _tell_more(self) -> None:
        """Write down which further directories hold partitions. Raises OSError."""
        if self._share is None:
            self._tell([path for path in self.paths[1:] if self._counts[path]])

    def _tell(self, held: Sequence[str]) -> None:
        told = "".join(f"{self._identities[path]} {path}\n" for path in held).encode()
        if told != self._told:
            self._files.write_whole(f"{self.paths[0]}/{_MORE}", told, sync=True)
            self._told = told

    # --- partitions -----------------------------------------------------------------------------

    def place(self, partition: TopicPartition) -> str:
        """Return the path of a partition's own directory, choosing one for a new partition.

        Raises:
            StorageError: it cannot be written down that partitions lie there.
        """
        path = self._places.get(partition)
        if path is None:
            path = min(self.paths, key=self._counts.__getitem__)
            self._places[partition] = path
            self._counts[path] += 1
            if self._counts[path] == 1:
                try:
                    self._tell_more()
                except OSError as caught:
                    self.forget(partition)
                    raise storage_error("cannot write", f"{self.paths[0]}/{_MORE}", caught) from caught
        return f"{path}/{partition}"

    def forget(self, partition: TopicPartition) -> None:
        """A partition's directory is gone."""
        path = self._places.pop(partition, None)
        if path is not None:
            self._counts[path] -= 1

    def partitions(self) -> Iterator[tuple[TopicPartition, str]]:
        """Yield every partition directory there is of this share, by name. Raises StorageError."""
        found: list[tuple[str, str]] = []
        for path in self.paths:
            try:
                found += [(name, path) for name in self._files.subdirectories(path)]
            except OSError as caught:
                raise storage_error("cannot list", path, caught) from caught
        for name, path in sorted(found):
            match = _DIRECTORY.fullmatch(name)
            if match is None:
                continue
            partition = TopicPartition(match[1], int(match[2]))
            if self._share is None or self._share.has(partition):
                yield partition, f"{path}/{name}"

    # --- checkpoints ----------------------------------------------------------------------------

    def save_checkpoints(self, known: Checkpoints, *, sync: bool) -> None:
        """Write them, each directory's partitions into its own files. Any thread; raises OSError."""
        self._save(known, self.small, sync=sync)

    def _save(self, known: Checkpoints, small: Callable[[str], str], *, sync: bool) -> None:
        places = self._places.copy()
        main = self.paths[0]
        for path in self.paths:
            for name, offsets in zip(CHECKPOINTS, known, strict=True):
                here = {one: at for one, at in offsets.items() if places.get(one, main) == path}
                file = f"{small(path)}/{name}"
                if here or name != CLEANED_OFFSETS or self._files.read_size(file):
                    self._files.write_whole(file, encode_offsets(here), sync=sync)

    def mark_clean(self, *, sync: bool) -> None:
        """Say that everything is on the disk. Any thread; raises OSError."""
        self._tell_more()  # one that has lost its last partition may be left out the next time
        for path in self.paths:
            self._files.write_whole(f"{self.small(path)}/{CLEAN}", b"", sync=sync)

    # --- several processes ----------------------------------------------------------------------

    def deal(self, known: Checkpoints, names: Sequence[str], owner: Callable[[TopicPartition], str]) -> None:
        """Deal out what ``prepare`` has read to several processes, which come and go from now on.

        Args:
            names: of their shares.
            owner: the name of the share that has a partition.

        Raises:
            OSError: a file cannot be written.
        """
        files = self._files
        self._tell(self.paths[1:])  # nobody looks which of them hold partitions
        for name in names:
            share = Share(name, lambda partition, name=name: owner(partition) == name)  # type: ignore[misc]
            theirs = [{one: at for one, at in part.items() if share.has(one)} for part in known]
            for path in self.paths:
                files.mkdir(f"{path}/{WORKERS}")
                files.mkdir(share.place(path))
            self._save(Checkpoints(*theirs), share.place, sync=True)
            if self.was_clean:
                for path in self.paths:
                    files.write_whole(f"{share.place(path)}/{CLEAN}", b"", sync=True)
        for path in self.paths:
            files.sync_dir(f"{path}/{WORKERS}")
            for file in CHECKPOINTS:
                files.unlink(f"{path}/{file}")
            files.sync_dir(path)

    def collect(self) -> None:
        """Take together again what was dealt out, when all of those processes have ended. Raises OSError."""
        gather(self._files, self.paths)
        self._places.clear()
        self._counts.clear()
        for path in self.paths:
            self._list(path)
        self._tell_more()


def refuse_second_main(paths: Sequence[str]) -> None:
    """Refuse a broker's main directory in another place than the first: its metadata would not be read.

    Raises:
        StorageError: there is one.
    """
    for path in paths[1:]:
        if os.path.exists(f"{path}/{METADATA_FILE}") and not os.path.samefile(path, paths[0]):
            raise StorageError(
                ErrorCode.STORAGE,
                f"{path} holds {METADATA_FILE}, a broker's metadata: expected it to be the first directory",
                retriable=False,
            )


def _new_identity() -> str:
    """Return 22 characters that no other directory has, in Kafka's notation of a UUID."""
    return base64.urlsafe_b64encode(uuid4().bytes).rstrip(b"=").decode()
