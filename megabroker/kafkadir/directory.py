"""The directories of one Kafka broker: whose they are, and where each partition lies.

Owns ``meta.properties``, the names of partition directories and the lock that keeps a running Kafka out.
Reads only: nothing in the directories is changed here.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final
from uuid import UUID

import attrs

from megabroker.errors import DataDirectoryLocked, ProtocolError
from megabroker.kafkadir.batches import (
    Batch,
    batches_of_file,
    batches_of_log,
    damaged,
    newest_snapshot,
    records_of,
    segments,
)
from megabroker.kafkadir.cluster import Cluster
from megabroker.kafkadir.metadata_records import read_metadata_record
from megabroker.kafkadir.properties import parse_properties
from megabroker.kafkadir.refusals import refusal
from megabroker.model import TopicPartition
from megabroker.storage.checkpoints import decode_offsets, decode_partition_metadata

__all__ = ["KafkaDirectories", "Replica", "held"]

METADATA_TOPIC: Final = TopicPartition("__cluster_metadata", 0)
_PARTITION: Final = re.compile(r"(.+)-(0|[1-9][0-9]{0,9})")
_LEAVING: Final = re.compile(r".+-(delete|future|stray)")
_CLEAN: Final = ".kafka_cleanshutdown"


@attrs.frozen
class Replica:
    """One partition's directory.

    Attributes:
        topic_id: from partition.metadata, or None.
        recovery_point: all below was on the disk when Kafka last said so.
        start_offset: first readable offset as far as a checkpoint says, else 0.
    """

    path: pathlib.Path
    topic_id: UUID | None
    recovery_point: int
    start_offset: int


@attrs.define
class KafkaDirectories:
    """What the directories of one broker hold.

    Attributes:
        replicas: by partition, those of Kafka's internal topics too.
        passed_over: directories that are being deleted, moved or are stray.
        was_clean: whether every one was closed in order.
    """

    paths: list[pathlib.Path]
    cluster_id: str
    node_id: int
    replicas: dict[TopicPartition, Replica]
    passed_over: list[pathlib.Path]
    was_clean: bool

    @classmethod
    def read(cls, paths: Sequence[pathlib.Path]) -> KafkaDirectories:
        """Look at the directories; nothing is opened yet.

        Raises:
            StorageError: one of them is no data directory of a KRaft broker, or they do not go together.
        """
        owners = {_owner(path) for path in paths}
        if len(owners) != 1:
            listed = ", ".join(f"{cluster} node {node}" for cluster, node in sorted(owners))
            raise refusal(f"the directories belong to different brokers: {listed}")
        ((cluster_id, node_id),) = owners
        found = cls(list(paths), cluster_id, node_id, {}, [], all((path / _CLEAN).exists() for path in paths))
        for path in paths:
            found._list(path)
        return found

    def _list(self, path: pathlib.Path) -> None:
        points = decode_offsets(_bytes(path / "recovery-point-offset-checkpoint")) or {}
        starts = decode_offsets(_bytes(path / "log-start-offset-checkpoint")) or {}
        for directory in sorted(one for one in path.iterdir() if one.is_dir()):
            match = _PARTITION.fullmatch(directory.name)
            if _LEAVING.fullmatch(directory.name):
                self.passed_over.append(directory)
            elif match is not None:
                name = TopicPartition(match[1], int(match[2]))
                if name in self.replicas:
                    raise refusal(f"{name} is in two places: {self.replicas[name].path} and {directory}")
                self.replicas[name] = Replica(
                    directory,
                    decode_partition_metadata(_bytes(directory / "partition.metadata")),
                    points.get(name, 0),
                    starts.get(name, 0),
                )

    def cluster(self) -> tuple[Cluster, int]:
        """Read the metadata log; return what the cluster is like and the offset where the log ends.

        Raises:
            StorageError: there is none, or it cannot be read.
        """
        replica = self.replicas.get(METADATA_TOPIC)
        if replica is None:
            raise refusal(
                f"there is no {METADATA_TOPIC} in {', '.join(map(str, self.paths))}: expected the "
                "directories of a KRaft broker, all of them, that of metadata.log.dir included"
            )
        cluster = Cluster()
        end = 0
        snapshot = newest_snapshot(replica.path)
        if snapshot is not None:
            end, _, path = snapshot
            for batch in batches_of_file(path, may_be_torn=False):
                _apply(cluster, batch, path)
        found = segments(replica.path)
        if found and found[0][0] > end:
            raise refusal(
                f"{replica.path}: the metadata log begins at offset {found[0][0]} and no snapshot reaches it"
            )
        for batch in batches_of_log(replica.path, end):
            _apply(cluster, batch, replica.path, end)
            end = max(end, batch[0].next_offset)
        return cluster, end

    def partitions_of(self, topic: str) -> list[Replica]:
        """Return what is here of a topic, by partition number."""
        found = sorted((name.partition, one) for name, one in self.replicas.items() if name.topic == topic)
        return [one for _, one in found]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process that respects Kafka's lock out, without changing anything.

        Raises:
            DataDirectoryLocked: a broker has one of the directories.
        """
        with ExitStack() as stack:
            for path in self.paths:
                stack.enter_context(held(path))
            yield


def _apply(cluster: Cluster, batch: Batch, where: pathlib.Path, from_offset: int = 0) -> None:
    for record in records_of(batch, where):
        if record.offset < from_offset:
            continue
        try:
            found = read_metadata_record(record.value or b"")
        except ProtocolError as error:
            raise damaged(where, record.offset, error) from error
        if found is not None:
            cluster.apply(found)


def _owner(path: pathlib.Path) -> tuple[str, int]:
    data = _bytes(path / "meta.properties")
    if data is None:
        raise refusal(f"{path} has no meta.properties: expected a data directory of Apache Kafka")
    meta = parse_properties(data.decode("utf-8", "replace"))
    if meta.get("version") != "1":
        kind = "a broker with ZooKeeper" if "broker.id" in meta else f"version {meta.get('version')}"
        raise refusal(f"{path / 'meta.properties'} is of {kind}: expected version 1, of a KRaft broker")
    try:
        return meta["cluster.id"], int(meta["node.id"])
    except (KeyError, ValueError):
        raise refusal(f"{path / 'meta.properties'}: expected cluster.id and node.id") from None


@contextmanager
def held(path: pathlib.Path) -> Iterator[None]:
    """Share-lock the lock file of a data directory, which a running broker has locked alone.

    Raises:
        DataDirectoryLocked: one has.
    """
    try:
        fd = os.open(path / ".lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    except OSError as error:
        raise refusal(f"cannot open {path / '.lock'}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise DataDirectoryLocked(f"{path} is in use by a running broker: stop it first") from None
    finally:
        os.close(fd)


def _bytes(path: pathlib.Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise refusal(f"cannot read {path}: {error.strerror}") from error
