"""Groups and their committed offsets, from the records of ``__consumer_offsets``.

Owns what a record means there. Offsets that are part of a transaction count when its marker says commit;
those of a transaction whose marker is not there yet are ``pending`` until ``decide``. Pure: takes batches.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable

import attrs

from megabroker.codec.batch import read_marker
from megabroker.errors import ProtocolError
from megabroker.kafkadir.batches import Batch, damaged, records_of
from megabroker.kafkadir.coordinator_records import (
    GroupValue,
    OffsetKey,
    OffsetValue,
    read_group_key,
    read_value,
)
from megabroker.model import CommittedOffset, TopicPartition

__all__ = ["Groups", "KafkaGroup"]

_Change = tuple[str, TopicPartition, CommittedOffset | None]


@attrs.frozen
class KafkaGroup:
    """A classic group; its members are not kept, they join again."""

    protocol_type: str
    generation: int
    empty_since_ms: int


@attrs.define
class Groups:
    """What the records read so far say.

    Attributes:
        groups: by id.
        offsets: by group and partition.
        pending: by producer id, in order, what its open transactions would do.
    """

    groups: dict[str, KafkaGroup] = attrs.field(factory=dict)
    offsets: dict[str, dict[TopicPartition, CommittedOffset]] = attrs.field(factory=dict)
    pending: dict[int, list[_Change]] = attrs.field(factory=dict)

    def read(self, batches: Iterable[Batch], where: pathlib.Path) -> None:
        """Take the batches of one partition of the topic into account. Raises StorageError."""
        for batch in batches:
            header, data = batch
            if header.is_control:
                marker = read_marker(data, header)
                if marker is not None:
                    self.decide(marker.producer_id, marker.commit)
                continue
            producer_id = header.producer_id if header.is_transactional else None
            for record in records_of(batch, where):
                try:
                    self._apply(record.key, record.value, producer_id)
                except ProtocolError as error:
                    raise damaged(where, record.offset, error) from error

    def decide(self, producer_id: int, commit: bool) -> None:
        """End a producer's transaction."""
        changes = self.pending.pop(producer_id, [])
        if commit:
            for change in changes:
                self._change(change)

    def _apply(self, key: bytes | None, value: bytes | None, producer_id: int | None) -> None:
        found = read_group_key(key or b"")
        if isinstance(found, OffsetKey):
            offset = None if value is None else _offset(read_value(OffsetValue, value))
            change = found.group, TopicPartition(found.topic, found.partition), offset
            if producer_id is None:
                self._change(change)
            else:
                self.pending.setdefault(producer_id, []).append(change)
        elif found is not None and value is None:
            self.groups.pop(found.group, None)
        elif found is not None and value is not None:
            group = read_value(GroupValue, value)
            self.groups[found.group] = KafkaGroup(
                group.protocol_type, group.generation, group.current_state_timestamp
            )

    def _change(self, change: _Change) -> None:
        group_id, partition, offset = change
        if offset is not None:
            self.offsets.setdefault(group_id, {})[partition] = offset
            return
        known = self.offsets.get(group_id, {})
        known.pop(partition, None)
        if not known:
            self.offsets.pop(group_id, None)


def _offset(value: OffsetValue) -> CommittedOffset:
    return CommittedOffset(
        value.offset, value.leader_epoch, value.metadata, value.commit_timestamp, value.expire_timestamp
    )
