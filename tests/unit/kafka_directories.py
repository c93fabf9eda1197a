"""Data directories of a Kafka broker, made by hand for tests: small, and wrong in any way that is wanted."""

from __future__ import annotations

import pathlib
import struct
from collections.abc import Sequence
from uuid import UUID

from megabroker.codec.batch import build, build_control
from megabroker.kafkadir import metadata_records as m
from megabroker.kafkadir.coordinator_records import GroupValue, OffsetKey, OffsetValue, TransactionValue
from megabroker.protocols.kafka.schema.fields import Message
from megabroker.storage.checkpoints import encode_partition_metadata, encode_rows

__all__ = ["IDS", "HandMade", "group_record", "offset_record", "partition", "topic", "transaction_record"]

IDS = {name: UUID(int=number + 1) for number, name in enumerate(("orders", "__consumer_offsets", "other"))}
IDS["__transaction_state"] = UUID(int=99)


def topic(name: str) -> m.Topic:
    """Return the record of a topic's creation."""
    return m.Topic(name=name, topic_id=IDS[name].bytes)


def partition(
    name: str, number: int = 0, leader: int = 1, replicas: Sequence[int] = (1,), **more: object
) -> m.Partition:
    """Return the record of a partition's creation."""
    values = {"isr": list(replicas), "leader_epoch": 4, **more}
    return m.Partition(
        partition_id=number, topic_id=IDS[name].bytes, replicas=list(replicas), leader=leader, **values
    )


def offset_record(
    group: str, name: str, number: int, offset: int | None, version: int = 3
) -> tuple[bytes, bytes | None]:
    """Return key and value of a committed offset, or of its tombstone."""
    key = struct.pack(">h", 1) + OffsetKey(group=group, topic=name, partition=number).encode(1)
    if offset is None:
        return key, None
    value = OffsetValue(offset=offset, leader_epoch=2, metadata="note", commit_timestamp=1000)
    return key, struct.pack(">h", version) + value.encode(version)


def group_record(group: str, generation: int) -> tuple[bytes, bytes]:
    """Return key and value of a classic group with a member."""
    member = GroupValue.Member(
        member_id="m", client_id="c", client_host="h", session_timeout=1, subscription=b"s"
    )
    value = GroupValue(protocol_type="consumer", generation=generation, members=[member])
    name = group.encode()
    return struct.pack(">hh", 2, len(name)) + name, struct.pack(">h", 3) + value.encode(3)


def transaction_record(transactional_id: str, **values: object) -> tuple[bytes, bytes]:
    """Return key and value of a transactional id."""
    name = transactional_id.encode()
    value = TransactionValue(**{"transaction_timeout_ms": 1000, **values})  # type: ignore[arg-type]
    return struct.pack(">hh", 0, len(name)) + name, struct.pack(">h", 1) + value.encode(1)


class HandMade:
    """One data directory in the making."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.write("meta.properties", b"#\nversion=1\ncluster.id=abcdefghijklmnopqrstuv\nnode.id=1\n")
        self._ends: dict[str, int] = {}

    def write(self, name: str, data: bytes) -> pathlib.Path:
        """Write a file, and make its directory."""
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path

    def metadata(self, *records: Message) -> HandMade:
        """Append records to the metadata log."""
        values = [(None, m.frame(one), (), 0) for one in records]
        return self._append(
            "__cluster_metadata-0",
            bytes(build(values, base_offset=self._end("__cluster_metadata-0"))),
            len(values),
        )

    def log(self, name: str, *records: tuple[bytes | None, bytes | None], **more: int) -> HandMade:
        """Append a batch to a partition of any topic."""
        values = [(key, value, (), 5) for key, value in records]
        return self._append(name, bytes(build(values, base_offset=self._end(name), **more)), len(values))

    def marker(self, name: str, producer_id: int, *, commit: bool) -> HandMade:
        """Append the end of a transaction."""
        data = build_control(
            commit=commit, producer_id=producer_id, producer_epoch=0, coordinator_epoch=0, timestamp_ms=5
        )
        struct.pack_into(">q", data, 0, self._end(name))
        return self._append(name, bytes(data), 1)

    def replica(self, name: str, *records: bytes, epoch: int = 4) -> HandMade:
        """Make a partition's directory with a batch of these values, or an empty log."""
        topic_name = name.rpartition("-")[0]
        self.write(f"{name}/partition.metadata", encode_partition_metadata(IDS[topic_name]))
        self.write(f"{name}/leader-epoch-checkpoint", encode_rows([(epoch, 0)]))
        self.write(f"{name}/{0:020d}.log", b"")
        return self.log(name, *((None, value) for value in records)) if records else self

    def _end(self, name: str) -> int:
        return self._ends.get(name, 0)

    def _append(self, name: str, data: bytes, count: int) -> HandMade:
        path = self.path / name / f"{0:020d}.log"
        path.parent.mkdir(exist_ok=True)
        with open(path, "ab") as file:
            file.write(data)
        self._ends[name] = self._end(name) + count
        return self
