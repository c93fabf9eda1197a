"""The committed offsets of all groups: what is on disk, and nothing more, is visible.

Owns the table ``group_offsets`` and its memory image. A commit is written first and becomes visible, in the
order of the calls, when the store says so; a commit the store refused never was. Offsets of a transaction
become rows in the very write that commits it; until then only the partitions they are for are known here.
Knows no members and no rules about who may commit.

One row per partition: key ``["<group>","<topic>",<partition>]`` as JSON, so that no choice of names can make
two keys one; value an object with the fields of ``CommittedOffset``.

Invariant: memory equals the table after the writes that have been applied, which are a prefix of those made.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.errors import BrokerError, ErrorCode, StorageError
from megabroker.interfaces import IMetadataStore
from megabroker.model import NO_LEADER_EPOCH, NO_TIMESTAMP, Change, CommittedOffset, TopicPartition

__all__ = ["OFFSETS_TABLE", "CommittedOffsets", "GroupOffsets", "OrderedWrites"]

GroupOffsets = Mapping[str, Mapping[TopicPartition, CommittedOffset]]
"""Offsets by group and partition."""

OFFSETS_TABLE = "group_offsets"

_log = Logger()


class _Write:
    """One write on its way: what to do when its turn comes, and how it ended."""

    __slots__ = ("answer", "apply", "ended", "failure")

    def __init__(self, apply: Callable[[], None]) -> None:
        self.apply = apply
        self.answer: Deferred[None] = Deferred()
        self.ended = False
        self.failure: Failure | None = None


class OrderedWrites:
    """Writes to the metadata store whose effects on memory come in the order of the calls."""

    def __init__(self, metadata: IMetadataStore) -> None:
        self._metadata = metadata
        self._queue: deque[_Write] = deque()

    def write(self, changes: Sequence[Change], apply: Callable[[], None]) -> Deferred[None]:
        """Write ``changes``, then call ``apply``, then fire; fail with BrokerError without calling it.

        ``apply`` must not raise.
        """
        write = _Write(apply)
        self._queue.append(write)
        maybeDeferred(self._metadata.write, changes).addBoth(self._ended, write)
        return write.answer

    def _ended(self, result: object, write: _Write) -> None:
        write.ended = True
        if isinstance(result, Failure):
            write.failure = result
        while self._queue and self._queue[0].ended:
            first = self._queue.popleft()
            if first.failure is None:
                first.apply()
                first.answer.callback(None)
            else:
                first.answer.errback(_as_broker_error(first.failure))


def _as_broker_error(failure: Failure) -> BrokerError:
    if isinstance(failure.value, BrokerError):
        return failure.value
    _log.failure("metadata store failed in an unknown way", failure=failure)
    return StorageError(ErrorCode.STORAGE, "the metadata store failed")


class CommittedOffsets:
    """Committed offsets by group and partition."""

    def __init__(self, writes: OrderedWrites) -> None:
        self._writes = writes
        self._visible: dict[str, dict[TopicPartition, CommittedOffset]] = {}
        self._count = 0
        self._in_flight: dict[str, Counter[TopicPartition]] = {}
        self._held: dict[str, Counter[TopicPartition]] = {}

    def load(self, rows: Mapping[str, Any]) -> None:
        """Begin from what the store holds. A row that is none is logged and left alone."""
        for key, value in rows.items():
            try:
                group_id, topic, partition = json.loads(key)
                offset = CommittedOffset(
                    int(value["offset"]),
                    int(value.get("leader_epoch", NO_LEADER_EPOCH)),
                    str(value.get("metadata", "")),
                    int(value.get("commit_time_ms", NO_TIMESTAMP)),
                    int(value.get("expire_time_ms", NO_TIMESTAMP)),
                )
                self._show(group_id, {TopicPartition(topic, int(partition)): offset})
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                _log.error("unreadable committed offset {key!r}: {error}", key=key, error=error)

    def __len__(self) -> int:
        return self._count

    def _show(self, group_id: str, offsets: Mapping[TopicPartition, CommittedOffset]) -> None:
        visible = self._visible.setdefault(group_id, {})
        before = len(visible)
        visible.update(offsets)
        self._count += len(visible) - before

    def fresh(self, group_id: str, partitions: Iterable[TopicPartition]) -> set[TopicPartition]:
        """Return those of ``partitions`` that the group has no offset of, nor is about to."""
        return set(partitions) - self.known(group_id)

    def groups(self) -> Iterable[str]:
        """Return every group that has offsets."""
        return list(self._visible)

    def get(
        self, group_id: str, partitions: Iterable[TopicPartition] | None = None
    ) -> dict[TopicPartition, CommittedOffset]:
        """Return the offsets asked for, all with None; partitions without one are absent."""
        visible = self._visible.get(group_id, {})
        if partitions is None:
            return dict(visible)
        return {wanted: visible[wanted] for wanted in partitions if wanted in visible}

    def known(self, group_id: str) -> set[TopicPartition]:
        """Return every partition the group has an offset of, or is about to."""
        return {*self._visible.get(group_id, ()), *self._in_flight.get(group_id, ())}

    def has_any(self, group_id: str) -> bool:
        """Whether ``known`` has any, or a transaction holds offsets for the group."""
        return group_id in self._visible or group_id in self._in_flight or group_id in self._held

    def commit(
        self,
        group_id: str,
        offsets: Mapping[TopicPartition, CommittedOffset],
        applied: Callable[[], None],
    ) -> Deferred[None]:
        """Store offsets; fire when they are on disk and visible. Fails with BrokerError."""
        changes = [
            Change(OFFSETS_TABLE, offset_key(group_id, partition), offset._asdict())
            for partition, offset in offsets.items()
        ]
        self._in_flight.setdefault(group_id, Counter()).update(offsets.keys())

        def apply() -> None:
            _take_away(self._in_flight, group_id, offsets)
            self._show(group_id, offsets)
            applied()

        def refused(failure: Failure) -> Failure:
            _take_away(self._in_flight, group_id, offsets)
            return failure

        return self._writes.write(changes, apply).addErrback(refused)

    def remove(
        self,
        removals: Mapping[str, Iterable[TopicPartition]],
        applied: Callable[[], None],
        also: Sequence[Change] = (),
    ) -> Deferred[None]:
        """Delete offsets and make the changes ``also``; fire when on disk. Fails with BrokerError."""
        gone = {group_id: tuple(partitions) for group_id, partitions in removals.items()}
        changes = [
            Change(OFFSETS_TABLE, offset_key(group_id, partition), None)
            for group_id, partitions in gone.items()
            for partition in partitions
        ]

        def apply() -> None:
            for group_id, partitions in gone.items():
                visible = self._visible.get(group_id, {})
                before = len(visible)
                for partition in partitions:
                    visible.pop(partition, None)
                self._count -= before - len(visible)
                if not visible:
                    self._visible.pop(group_id, None)
            applied()

        return self._writes.write([*changes, *also], apply)

    def of_topic(self, topic: str) -> dict[str, list[TopicPartition]]:
        """Return by group every known partition of one topic."""
        found: dict[str, list[TopicPartition]] = {}
        for group_id in {*self._visible, *self._in_flight}:
            partitions = [partition for partition in self.known(group_id) if partition.topic == topic]
            if partitions:
                found[group_id] = partitions
        return found

    # --- what waits for a transaction -------------------------------------------------------------

    def hold(self, group_id: str, partitions: Iterable[TopicPartition]) -> None:
        """A transaction has an offset for each of ``partitions``: they are unstable until ``release``."""
        self._held.setdefault(group_id, Counter()).update(partitions)

    def release(self, group_id: str, partitions: Iterable[TopicPartition]) -> None:
        """The transaction is decided; called once for every partition held."""
        _take_away(self._held, group_id, partitions)

    def held(self, group_id: str) -> Set[TopicPartition]:
        """Return the partitions whose offsets some open transaction may change."""
        return set(self._held.get(group_id, ()))

    def transactional_changes(self, offsets: GroupOffsets) -> list[Change]:
        """Return the rows that commit a transaction's offsets, to be written with its decision."""
        return [
            Change(OFFSETS_TABLE, offset_key(group_id, partition), offset._asdict())
            for group_id, partitions in offsets.items()
            for partition, offset in partitions.items()
        ]

    def transactional_applied(self, offsets: GroupOffsets) -> None:
        """Show what ``transactional_changes`` made rows of: they are committed."""
        for group_id, partitions in offsets.items():
            self._show(group_id, partitions)


def _take_away(
    counts: dict[str, Counter[TopicPartition]], group_id: str, partitions: Iterable[TopicPartition]
) -> None:
    counter = counts[group_id]
    for partition in partitions:
        counter[partition] -= 1
        if not counter[partition]:
            del counter[partition]
    if not counter:
        del counts[group_id]


def offset_key(group_id: str, partition: TopicPartition) -> str:
    """Return the row key of one group's offset in one partition."""
    return json.dumps([group_id, partition.topic, partition.partition], separators=(",", ":"))
