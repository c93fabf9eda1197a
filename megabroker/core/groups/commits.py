"""What is done with the committed offsets of groups: who may commit which, who may delete them, when they go.

Owns the rules between groups and their offsets; the offsets themselves are ``offsets``', the groups the
directory's. Must never decide who is a member.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.core.groups.directory import GroupDirectory
from megabroker.core.groups.errors import refusal
from megabroker.core.groups.offsets import CommittedOffsets
from megabroker.core.groups.retention import (
    SubscribedTopics,
    expired_offsets,
    past_retention,
    subscribed_topics,
)
from megabroker.core.groups.room import Room
from megabroker.core.groups.settings import GroupSettings
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import NO_TIMESTAMP, CommittedOffset, TopicPartition

__all__ = ["Commits", "Outcomes"]

Outcomes = Mapping[TopicPartition, ErrorCode | None]

_log = Logger()


class Commits:
    """The offsets of all groups and the rules they follow.

    Args:
        topic_exists: whether a partition's offsets may be committed.
        now_ms: the present.
        room: counts what there is no room for.

    Attributes:
        subscribed_topics: reads a member's subscription; without it the offsets of a group that has members
            cannot be deleted.
    """

    def __init__(
        self,
        directory: GroupDirectory,
        offsets: CommittedOffsets,
        settings: GroupSettings,
        topic_exists: Callable[[TopicPartition], bool],
        now_ms: Callable[[], int],
        subscribed_topics: SubscribedTopics | None,
        room: Room,
    ) -> None:
        self.subscribed_topics = subscribed_topics
        self._directory = directory
        self._offsets = offsets
        self._settings = settings
        self._topic_exists = topic_exists
        self._now_ms = now_ms
        self._room = room

    # --- committing -------------------------------------------------------------------------------

    def commit(
        self,
        group_id: str,
        generation: int,
        member_id: str,
        instance_id: str | None,
        offsets: Mapping[TopicPartition, CommittedOffset],
        committed: Callable[[str], None],
    ) -> Deferred[Outcomes]:
        """Store offsets; fires when they are on disk, and ``committed`` has been told of the group."""
        try:
            self.check(group_id, generation, member_id, instance_id)
        except BrokerError as error:
            return fail(error)
        outcomes, accepted = self.judge(offsets, group_id)
        if not accepted:
            return succeed(outcomes)
        stored = self._offsets.commit(group_id, accepted, lambda: committed(group_id))
        return stored.addCallback(lambda _: outcomes)

    def judge(
        self, offsets: Mapping[TopicPartition, CommittedOffset], group_id: str | None = None
    ) -> tuple[dict[TopicPartition, ErrorCode | None], dict[TopicPartition, CommittedOffset]]:
        """Judge offsets one by one; return what is wrong with each, and those to be stored.

        Commits without a commit time get the present.

        Args:
            group_id: whose they are; without it there is room for all, as they were judged before.
        """
        now_ms = self._now_ms()
        without_room = frozenset() if group_id is None else self._without_room(group_id, offsets)
        outcomes: dict[TopicPartition, ErrorCode | None] = {}
        accepted: dict[TopicPartition, CommittedOffset] = {}
        for partition, offset in offsets.items():
            outcomes[partition] = self._refuse(partition, offset)
            if outcomes[partition] is None and partition in without_room:
                outcomes[partition] = ErrorCode.OFFSET_LIMIT
            if outcomes[partition] is None:
                if offset.commit_time_ms == NO_TIMESTAMP:
                    offset = offset._replace(commit_time_ms=now_ms)
                accepted[partition] = offset
        return outcomes, accepted

    def _without_room(self, group_id: str, partitions: Collection[TopicPartition]) -> Set[TopicPartition]:
        """Return the partitions that the group has no offset of yet, if there is no room for all of them."""
        if len(self._offsets) + len(partitions) <= self._settings.max_offsets:
            return frozenset()
        fresh = self._offsets.fresh(group_id, partitions)
        if not fresh or len(self._offsets) + len(fresh) <= self._settings.max_offsets:
            return frozenset()
        self._room.refuse_offsets(len(fresh))
        return fresh

    def _refuse(self, partition: TopicPartition, offset: CommittedOffset) -> ErrorCode | None:
        if not self._topic_exists(partition):
            return ErrorCode.UNKNOWN_PARTITION
        if len(offset.metadata) > self._settings.offset_metadata_max_chars:
            return ErrorCode.OFFSET_METADATA_TOO_LARGE
        return None

    def check(
        self,
        group_id: str,
        generation: int,
        member_id: str,
        instance_id: str | None,
        *,
        transactional: bool = False,
    ) -> None:
        """Raise BrokerError unless this member may commit now.

        An empty group id is allowed here, as Kafka does for clients that commit without a group.
        """
        keeper = self._directory.keeper(group_id)
        if keeper is not None:
            keeper.check_commit(group_id, member_id, generation)
            return
        group = self._directory.classic.get(group_id)
        if group is None:
            if generation >= 0:
                raise refusal(ErrorCode.ILLEGAL_GENERATION)
            return
        try:
            group.automaton.check_commit(generation, member_id, instance_id, transactional=transactional)
        finally:
            self._directory.carry_out(group)

    # --- deleting ---------------------------------------------------------------------------------

    def delete(self, group_id: str, partitions: Sequence[TopicPartition]) -> Deferred[Outcomes]:
        """Delete offsets of partitions nobody in the group is subscribed to; fires when that is on disk."""
        try:
            subscribed = self._subscribed(group_id)
        except BrokerError as error:
            return fail(error)
        outcomes: dict[TopicPartition, ErrorCode | None] = {}
        for partition in partitions:
            if not self._topic_exists(partition):
                outcomes[partition] = ErrorCode.UNKNOWN_PARTITION
            elif partition.topic in subscribed:
                outcomes[partition] = ErrorCode.SUBSCRIBED_TO_TOPIC
            else:
                outcomes[partition] = None
        removed = [partition for partition, outcome in outcomes.items() if outcome is None]
        if not removed:
            return succeed(outcomes)
        stored = self._offsets.remove({group_id: removed}, lambda: None)
        return stored.addCallback(lambda _: outcomes)

    def _subscribed(self, group_id: str) -> Set[str]:
        keeper = self._directory.keeper(group_id)
        if keeper is not None:
            return keeper.subscribed_topics(group_id)
        group = self._directory.classic.get(group_id)
        if group is None:
            raise refusal(ErrorCode.GROUP_NOT_FOUND)
        subscribed = subscribed_topics(group.automaton, self.subscribed_topics)
        if subscribed is None:
            raise refusal(ErrorCode.GROUP_NOT_EMPTY)
        return subscribed

    def topic_deleted(self, topic: str) -> None:
        """Forget the offsets of a topic."""
        for keeper in self._directory.epochal:
            keeper.look_at_topics()
        gone = self._offsets.of_topic(topic)
        if gone:
            self._offsets.remove(gone, lambda: None).addErrback(_log_failure, "forget a deleted topic")

    def expire(self, now_ms: int) -> int:
        """Delete offsets past their retention and groups without anything; return how many offsets."""
        gone: dict[str, list[TopicPartition]] = {}
        for group in self._directory.classic.values():
            expired = expired_offsets(
                group.automaton,
                self._offsets.get(group.group_id),
                self.subscribed_topics,
                empty_since_ms=group.empty_since_ms,
                retention_ms=self._settings.offsets_retention_ms,
                now_ms=now_ms,
            )
            if expired or not self._offsets.has_any(group.group_id):
                gone[group.group_id] = expired
        for keeper in self._directory.epochal:
            for group_id in keeper.ids():
                expired = past_retention(
                    self._offsets.get(group_id),
                    keeper.subscribed_topics(group_id),
                    since_ms=keeper.empty_since_ms(group_id),
                    retention_ms=self._settings.offsets_retention_ms,
                    now_ms=now_ms,
                )
                if expired or not self._offsets.has_any(group_id):
                    gone[group_id] = expired
        count = sum(map(len, gone.values()))
        if count:
            written = self._offsets.remove(gone, lambda: self._directory.forget_vacant(gone))
            written.addErrback(_log_failure, "expire offsets")
        else:
            self._directory.forget_vacant(gone)
        return count


def _log_failure(failure: Failure, what: str) -> None:
    _log.failure("could not {what}", failure=failure, what=what)
