"""Being a member of a group: the consumer protocol (KIP-848) where the broker has it, else the classic one.

Owns the exchange with the group's coordinator. Nothing runs in the background: whoever reads calls `tend`
between its fetches, which are shorter than the interval of heartbeats. Partitions that are taken away are
given up, their offsets committed, before the group goes on without them.
"""

from __future__ import annotations

import struct
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from megabroker.cli.cluster import Cluster, Partition
from megabroker.cli.refusals import check
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import (
    consumer_group_heartbeat,
    heartbeat,
    join_group,
    leave_group,
    sync_group,
)
from megabroker.protocols.kafka.schema.consumer_protocol import (
    Assignment,
    Subscription,
    read_assignment,
    read_topics,
    write_assignment,
)

__all__ = ["ClassicMember", "ConsumerMember", "Member", "join"]

_SESSION_MS: Final = 45_000
_HEARTBEAT_SECONDS: Final = 3.0
_EAGER_SECONDS: Final = 0.2
"""How often who has no partitions asks for some."""
_REBALANCE_MS: Final = 60_000
_LEAVE_EPOCH: Final = -1
_FENCED: Final = frozenset({KafkaError.FENCED_MEMBER_EPOCH, KafkaError.UNKNOWN_MEMBER_ID})
_JOIN_AGAIN: Final = frozenset(
    {KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID}
)
GivenUp = Callable[[set[Partition]], None]


class Member:
    """A member of a group.

    Attributes:
        id: as the coordinator knows it.
        epoch: the generation, in the classic protocol.
        partitions: what this member has.
    """

    def __init__(self, cluster: Cluster, group: str, topics: Sequence[str], given_up: GivenUp) -> None:
        self._cluster = cluster
        self._group = group
        self._topics = list(topics)
        self._given_up = given_up
        self._due = 0.0
        self.id = ""
        self.epoch = 0
        self.partitions: set[Partition] = set()

    def tend(self) -> bool:
        """Do what is due; say whether the partitions are others now. Raises RequestError, StateError."""
        raise NotImplementedError

    def leave(self) -> None:
        """Leave the group, so that others have the partitions at once. Raises StateError."""
        raise NotImplementedError

    def _take(self, partitions: set[Partition]) -> bool:
        if partitions == self.partitions:
            return False
        if lost := self.partitions - partitions:
            self._given_up(lost)
        self.partitions = partitions
        return True

    def _code(self, answer: Any) -> int:
        return int(answer.error_code)


def join(cluster: Cluster, group: str, topics: Sequence[str], given_up: GivenUp) -> Member:
    """Return a member that has not joined yet, by the best protocol there is. Raises StateError."""
    key = consumer_group_heartbeat.Request.__schema__.key
    coordinator = cluster.node(cluster.coordinator(group))
    kind = ConsumerMember if coordinator.serves(key) else ClassicMember
    return kind(cluster, group, topics, given_up)


class ConsumerMember(Member):
    """A member by the consumer protocol: the coordinator says which partitions, this only agrees."""

    def __init__(self, cluster: Cluster, group: str, topics: Sequence[str], given_up: GivenUp) -> None:
        super().__init__(cluster, group, topics, given_up)
        self.id = str(uuid.uuid4())
        self._names: dict[bytes, str] = {}
        self._changed = True

    def tend(self) -> bool:
        """See `Member.tend`."""
        now = time.monotonic()
        if now < self._due and not self._changed:
            return False
        answer = self._ask(self._request())
        if answer.error_code in _FENCED:
            # The group went on without this member, whose partitions may be others' already.
            self.epoch, self.partitions, self._changed = 0, set(), True
            return True
        if answer.error_code == KafkaError.UNRELEASED_INSTANCE_ID:
            return False
        check(answer.error_code, answer.error_message, f"group {self._group}")
        self.id = answer.member_id or self.id
        self.epoch = answer.member_epoch
        seconds = answer.heartbeat_interval_ms / 1000
        self._due = now + (seconds if self.partitions else min(seconds, _EAGER_SECONDS))
        if answer.assignment is None:
            self._changed = False
            return False
        changed = self._take(set(self._assigned(answer.assignment)))
        # What is owned now is said at once: others wait for what was given up.
        self._changed = changed
        return changed

    def leave(self) -> None:
        """See `Member.leave`."""
        if self.epoch > 0:
            self._ask(
                consumer_group_heartbeat.Request(
                    group_id=self._group, member_id=self.id, member_epoch=_LEAVE_EPOCH
                )
            )

    def _ask(self, request: consumer_group_heartbeat.Request) -> Any:
        return self._cluster.ask_coordinator(self._group, request, self._code)

    def _request(self) -> consumer_group_heartbeat.Request:
        request = consumer_group_heartbeat.Request(
            group_id=self._group, member_id=self.id, member_epoch=self.epoch
        )
        if self.epoch == 0:
            request.rebalance_timeout_ms = _REBALANCE_MS
            request.subscribed_topic_names = self._topics
        if self._changed:
            ids = {name: topic_id for topic_id, name in self._names.items()}
            row = consumer_group_heartbeat.Request.TopicPartition
            request.topic_partitions = [
                row(topic_id=ids[topic], partitions=numbers)
                for topic, numbers in _by_topic(self.partitions).items()
                if topic in ids
            ]
        return request

    def _assigned(self, assignment: Any) -> Iterable[Partition]:
        if any(row.topic_id not in self._names for row in assignment.topic_partitions):
            answer = self._cluster.metadata(self._topics)
            self._names = {one.topic_id: one.name for one in answer.topics if not one.error_code}
        for row in assignment.topic_partitions:
            if row.topic_id in self._names:
                yield from (Partition(self._names[row.topic_id], number) for number in row.partitions)


class ClassicMember(Member):
    """A member by the classic protocol; assigns by range if it is the one who leads."""

    def tend(self) -> bool:
        """See `Member.tend`."""
        now = time.monotonic()
        if self.epoch > 0 and now < self._due:
            return False
        if self.epoch > 0:
            request = heartbeat.Request(group_id=self._group, generation_id=self.epoch, member_id=self.id)
            code = self._cluster.ask_coordinator(self._group, request, self._code).error_code
            if code not in _JOIN_AGAIN:
                check(code, None, f"group {self._group}")
                self._due = now + _HEARTBEAT_SECONDS
                return False
            if code == KafkaError.REBALANCE_IN_PROGRESS and self.partitions:
                self._given_up(self.partitions)
            if code == KafkaError.UNKNOWN_MEMBER_ID:
                self.id = ""
            self.partitions = set()
        while not self._joined():
            pass
        self._due = time.monotonic() + _HEARTBEAT_SECONDS
        return True

    def _joined(self) -> bool:
        metadata = struct.pack(">h", 0) + Subscription(topics=self._topics).encode(0)
        request = join_group.Request(
            group_id=self._group,
            session_timeout_ms=_SESSION_MS,
            rebalance_timeout_ms=_REBALANCE_MS,
            member_id=self.id,
            protocol_type="consumer",
            protocols=[join_group.Request.Protocol(name="range", metadata=metadata)],
        )
        answer = self._cluster.ask_coordinator(self._group, request, self._code)
        if answer.error_code == KafkaError.MEMBER_ID_REQUIRED:
            self.id = answer.member_id
            return False
        if answer.error_code in _JOIN_AGAIN:
            self.id = "" if answer.error_code == KafkaError.UNKNOWN_MEMBER_ID else self.id
            return False
        check(answer.error_code, None, f"group {self._group}")
        self.id, self.epoch = answer.member_id, answer.generation_id
        leads = answer.leader == self.id
        return self._synced(self._assignments(answer.members) if leads else [])

    def _synced(self, assignments: list[Any]) -> bool:
        request = sync_group.Request(
            group_id=self._group,
            generation_id=self.epoch,
            member_id=self.id,
            protocol_type="consumer",
            protocol_name="range",
            assignments=assignments,
        )
        answer = self._cluster.ask_coordinator(self._group, request, self._code)
        if answer.error_code in _JOIN_AGAIN:
            return False
        check(answer.error_code, None, f"group {self._group}")
        rows = read_assignment(answer.assignment).assigned_partitions if answer.assignment else []
        self.partitions = {Partition(row.topic, number) for row in rows for number in row.partitions}
        return True

    def _assignments(self, members: Sequence[Any]) -> list[Any]:
        wanted = {one.member_id: read_topics(one.metadata) for one in members}
        topics = sorted({topic for some in wanted.values() for topic in some})
        answer = self._cluster.metadata(topics)
        counts = {one.name: len(one.partitions) for one in answer.topics if not one.error_code}
        return [
            sync_group.Request.Assignment(member_id=member, assignment=_assignment(some))
            for member, some in ranged(wanted, counts).items()
        ]

    def leave(self) -> None:
        """See `Member.leave`."""
        if self.epoch > 0:
            row = leave_group.Request.Member(member_id=self.id)
            request = leave_group.Request(group_id=self._group, member_id=self.id, members=[row])
            self._cluster.ask_coordinator(self._group, request, self._code)


def ranged(wanted: dict[str, list[str]], counts: dict[str, int]) -> dict[str, dict[str, list[int]]]:
    """Assign by range: of each topic, members in order get runs of partitions, sizes differing by one.

    Args:
        wanted: by member, its topics.
        counts: by topic, its partitions.
    """
    found: dict[str, dict[str, list[int]]] = {member: {} for member in wanted}
    for topic, count in sorted(counts.items()):
        members = sorted(member for member, topics in wanted.items() if topic in topics)
        each, more = divmod(count, max(1, len(members)))
        start = 0
        for index, member in enumerate(members):
            end = start + each + (index < more)
            if end > start:
                found[member][topic] = list(range(start, end))
            start = end
    return found


def _assignment(partitions: dict[str, list[int]]) -> bytes:
    row = Assignment.TopicPartitions
    rows = [row(topic=topic, partitions=numbers) for topic, numbers in partitions.items()]
    return write_assignment(Assignment(assigned_partitions=rows), 0)


def _by_topic(partitions: Iterable[Partition]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for topic, number in sorted(partitions):
        found.setdefault(topic, []).append(number)
    return found
