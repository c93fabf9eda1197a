"""The group coordinator: the automata of all groups, their time, their Deferreds and what is stored of them.

Owns the clock side (one timer wheel), which groups there are, and what groups of both protocols share: their
names and the rules of their offsets. The rules of membership are the automaton's, committed offsets are
``offsets``', what is done and stored for a classic group ``classic_groups``', groups of the consumer protocol
``consumer_service``'s. Must never decide who is a member.

A group without members changes its protocol with the first member that speaks the other one; its epoch goes
on, and its offsets stay. A group with members refuses the other protocol: INCONSISTENT_PROTOCOL to classic
members, GROUP_NOT_FOUND to those of the consumer protocol.

Invariant: actions are carried out in the order the automata gave them, also when a Deferred's callback
calls back into the service; every Deferred given out fires exactly once, at the latest in ``stop``; no group
id is of both protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from uuid import uuid4

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from megabroker.core.groups.automaton import GroupAutomaton, GroupState
from megabroker.core.groups.classic_groups import GROUPS_TABLE, ActionCarrier, ClassicGroup
from megabroker.core.groups.consumer_service import CONSUMER_GROUPS_TABLE, ConsumerGroups
from megabroker.core.groups.errors import refusal, stopped
from megabroker.core.groups.offsets import OFFSETS_TABLE, CommittedOffsets, OrderedWrites
from megabroker.core.groups.retention import (
    SubscribedTopics,
    expired_offsets,
    past_retention,
    subscribed_topics,
)
from megabroker.core.groups.settings import GroupSettings
from megabroker.core.groups.transactional import IUnstableOffsets, TransactionalOffsets
from megabroker.core.timers import TimerWheel
from megabroker.errors import BrokerError, ErrorCode
from megabroker.interfaces import IGroupService, IMetadataStore
from megabroker.model import (
    NO_TIMESTAMP,
    Change,
    CommittedOffset,
    ConsumerGroupDescription,
    ConsumerHeartbeat,
    ConsumerHeartbeatAnswer,
    GroupDescription,
    GroupSummary,
    JoinedGroup,
    JoinRequest,
    LeavingMember,
    SyncedGroup,
    SyncRequest,
    Topic,
    TopicPartition,
)

__all__ = ["GROUPS_TABLE", "GroupService", "new_member_id"]

_log = Logger()


def new_member_id(prefix: str) -> str:
    """Return a member id never given out before, beginning with the client's or instance's name."""
    return f"{prefix}-{uuid4()}"


@implementer(IGroupService, IUnstableOffsets)
class GroupService:
    """All groups this broker coordinates.

    Args:
        clock: source of time and delayed calls.
        topic_exists: whether a partition's offsets may be committed.
        subscribed_topics: reads a member's subscription; without it the offsets of a group that has
            members cannot be deleted. May be assigned later.
        topics: returns all topics; without it groups of the consumer protocol see none.
        new_member_id: makes a fresh id of a client's or instance's name.

    Attributes:
        transactional: the part that the transaction coordinator works with.
    """

    def __init__(
        self,
        clock: IReactorTime,
        metadata: IMetadataStore,
        settings: GroupSettings,
        topic_exists: Callable[[TopicPartition], bool],
        *,
        subscribed_topics: SubscribedTopics | None = None,
        topics: Callable[[], Sequence[Topic]] = tuple,
        new_member_id: Callable[[str], str] = new_member_id,
    ) -> None:
        self.settings = settings
        self.subscribed_topics = subscribed_topics
        self._metadata = metadata
        self._topic_exists = topic_exists
        self._new_member_id = new_member_id
        self._timers = TimerWheel(clock)
        self._writes = OrderedWrites(metadata)
        self._offsets = CommittedOffsets(self._writes)
        self.transactional = TransactionalOffsets(
            self._writes, self._offsets, self._check_transactional, self._outcomes, self._committed
        )
        self._groups: dict[str, ClassicGroup] = {}
        self._consumers = ConsumerGroups(self._timers, self._writes, settings, topics, new_member_id)
        self._carrier = ActionCarrier(self._timers, self._writes, self._carry_out)
        self._stopped = False

    # --- life of the service ----------------------------------------------------------------------

    def load(self) -> None:
        """Read what the store holds and begin to look for expired offsets. Blocking; call once, first."""
        now_ms = self._timers.now_ms()
        self._offsets.load(self._metadata.rows(OFFSETS_TABLE))
        for group_id, row in self._metadata.rows(GROUPS_TABLE).items():
            try:
                automaton = GroupAutomaton(self.settings, int(row["generation"]), str(row["protocol_type"]))
                since_ms = row.get("empty_since_ms")
                since_ms = now_ms if since_ms is None else int(since_ms)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                _log.error("unreadable group {group!r}: {error}", group=group_id, error=error)
                continue
            self._groups[group_id] = ClassicGroup(group_id, automaton, since_ms)
        self._consumers.load(self._metadata.rows(CONSUMER_GROUPS_TABLE))
        for group_id in self._offsets.groups():
            self._committed(group_id)
        self._expire_later()

    def stop(self) -> None:
        """Answer all who wait with NOT_COORDINATOR and refuse everything from now on.

        Commits already written to the store are still answered by it.
        """
        self._stopped = True
        for group in list(self._groups.values()):
            group.automaton.abandon(stopped)
            self._carry_out(group)
        self._timers.stop()

    def _check_running(self) -> None:
        if self._stopped:
            raise stopped()

    # --- membership -------------------------------------------------------------------------------

    def join(self, request: JoinRequest) -> Deferred[JoinedGroup]:
        """See ``IGroupService.join``."""
        ticket: Deferred[JoinedGroup] = Deferred()
        error = self._refuse_join(request)
        if error is not None:
            ticket.errback(error)
            return ticket
        self._take_over(request.group_id)
        fresh_id = "" if request.member_id else self._new_member_id(request.instance_id or request.client_id)
        group = self._ensure(request.group_id)
        group.automaton.join(request, ticket, fresh_id)
        self._carry_out(group)
        return ticket

    def _refuse_join(self, request: JoinRequest) -> BrokerError | None:
        settings = self.settings
        if self._stopped:
            return stopped()
        if not request.group_id:
            return refusal(ErrorCode.INVALID_GROUP)
        if (
            not settings.min_session_timeout_ms
            <= request.session_timeout_ms
            <= settings.max_session_timeout_ms
        ):
            return refusal(ErrorCode.INVALID_SESSION_TIMEOUT)
        if request.group_id in self._consumers and not self._consumers.is_vacant(request.group_id):
            return refusal(ErrorCode.INCONSISTENT_PROTOCOL)
        if request.member_id and request.group_id not in self._groups:
            return refusal(ErrorCode.UNKNOWN_MEMBER)
        return None

    def _take_over(self, group_id: str) -> None:
        """Make an empty group of the consumer protocol a classic one."""
        if group_id in self._consumers:
            epoch = self._consumers.epoch(group_id)
            self._consumers.forget(group_id)
            group = self._ensure(group_id)
            group.automaton.generation = epoch
            row = {"generation": epoch, "protocol_type": "", "empty_since_ms": group.empty_since_ms}
            rows = [*self._consumers.removal(group_id), Change(GROUPS_TABLE, group_id, row)]
            self._writes.write(rows, lambda: None).addErrback(_log_failure, "change a group's protocol")

    def sync(self, request: SyncRequest) -> Deferred[SyncedGroup]:
        """See ``IGroupService.sync``."""
        ticket: Deferred[SyncedGroup] = Deferred()
        try:
            group = self._group_of_member(request.group_id)
        except BrokerError as error:
            ticket.errback(error)
            return ticket
        group.automaton.sync(request, ticket)
        self._carry_out(group)
        return ticket

    def heartbeat(self, group_id: str, generation: int, member_id: str, instance_id: str | None) -> None:
        """See ``IGroupService.heartbeat``."""
        group = self._group_of_member(group_id)
        try:
            group.automaton.heartbeat(generation, member_id, instance_id)
        finally:
            self._carry_out(group)

    def leave(self, group_id: str, members: Sequence[LeavingMember]) -> Sequence[BrokerError | None]:
        """See ``IGroupService.leave``."""
        group = self._group_of_member(group_id)
        outcomes = group.automaton.leave(members)
        self._carry_out(group)
        return outcomes

    def consumer_heartbeat(self, request: ConsumerHeartbeat) -> Deferred[ConsumerHeartbeatAnswer]:
        """See ``IGroupService.consumer_heartbeat``."""
        if self._stopped:
            return fail(stopped())
        group_id = request.group_id
        if not group_id.strip():
            return fail(refusal(ErrorCode.INVALID_GROUP))
        classic = self._groups.get(group_id)
        if classic is None:
            return self._consumers.heartbeat(request)
        if not classic.automaton.vacant:
            return fail(refusal(ErrorCode.GROUP_NOT_FOUND, "the group has members of the classic protocol"))
        return self._consumers.heartbeat(
            request,
            classic.automaton.generation,
            [Change(GROUPS_TABLE, group_id, None)],
            lambda: self._forget(classic),
        )

    def check_member(self, group_id: str, member_id: str, member_epoch: int) -> None:
        """See ``IGroupService.check_member``; members of classic groups have no epoch to check."""
        self._check_running()
        if group_id in self._consumers:
            self._consumers.check_member(group_id, member_id, member_epoch)

    def _group_of_member(self, group_id: str) -> ClassicGroup:
        self._check_running()
        if not group_id:
            raise refusal(ErrorCode.INVALID_GROUP)
        group = self._groups.get(group_id)
        if group is None:
            raise refusal(ErrorCode.UNKNOWN_MEMBER)
        return group

    # --- committed offsets ------------------------------------------------------------------------

    def commit(
        self,
        group_id: str,
        generation: int,
        member_id: str,
        instance_id: str | None,
        offsets: Mapping[TopicPartition, CommittedOffset],
    ) -> Deferred[Mapping[TopicPartition, ErrorCode | None]]:
        """See ``IGroupService.commit``; commits without a commit time get the present."""
        try:
            self._check_commit(group_id, generation, member_id, instance_id)
        except BrokerError as error:
            return fail(error)
        outcomes, accepted = self._outcomes(offsets)
        if not accepted:
            return succeed(outcomes)
        stored = self._offsets.commit(group_id, accepted, lambda: self._committed(group_id))
        return stored.addCallback(lambda _: outcomes)

    def _outcomes(
        self, offsets: Mapping[TopicPartition, CommittedOffset]
    ) -> tuple[dict[TopicPartition, ErrorCode | None], dict[TopicPartition, CommittedOffset]]:
        """Judge offsets one by one; return what is wrong with each, and those to be stored."""
        now_ms = self._timers.now_ms()
        outcomes: dict[TopicPartition, ErrorCode | None] = {}
        accepted: dict[TopicPartition, CommittedOffset] = {}
        for partition, offset in offsets.items():
            outcomes[partition] = self._refuse_offset(partition, offset)
            if outcomes[partition] is None:
                if offset.commit_time_ms == NO_TIMESTAMP:
                    offset = offset._replace(commit_time_ms=now_ms)
                accepted[partition] = offset
        return outcomes, accepted

    def _check_transactional(
        self, group_id: str, generation: int, member_id: str, instance_id: str | None
    ) -> None:
        if not group_id:
            raise refusal(ErrorCode.INVALID_GROUP)
        self._check_commit(group_id, generation, member_id, instance_id, transactional=True)

    def _check_commit(
        self,
        group_id: str,
        generation: int,
        member_id: str,
        instance_id: str | None,
        *,
        transactional: bool = False,
    ) -> None:
        """An empty group id is allowed here, as Kafka does for clients that commit without a group."""
        self._check_running()
        if group_id in self._consumers:
            self._consumers.check_commit(group_id, member_id, generation)
            return
        group = self._groups.get(group_id)
        if group is None:
            if generation >= 0:
                raise refusal(ErrorCode.ILLEGAL_GENERATION)
            return
        try:
            group.automaton.check_commit(generation, member_id, instance_id, transactional=transactional)
        finally:
            self._carry_out(group)

    def _refuse_offset(self, partition: TopicPartition, offset: CommittedOffset) -> ErrorCode | None:
        if not self._topic_exists(partition):
            return ErrorCode.UNKNOWN_PARTITION
        if len(offset.metadata) > self.settings.offset_metadata_max_chars:
            return ErrorCode.OFFSET_METADATA_TOO_LARGE
        return None

    def _committed(self, group_id: str) -> None:
        if not self._stopped and group_id not in self._consumers:
            self._ensure(group_id)

    def committed(
        self, group_id: str, partitions: Iterable[TopicPartition] | None
    ) -> Mapping[TopicPartition, CommittedOffset]:
        """See ``IGroupService.committed``."""
        self._check_running()
        return self._offsets.get(group_id, partitions)

    def unstable(self, group_id: str) -> Set[TopicPartition]:
        """See ``IUnstableOffsets``."""
        return self._offsets.held(group_id)

    def delete_offsets(
        self, group_id: str, partitions: Sequence[TopicPartition]
    ) -> Deferred[Mapping[TopicPartition, ErrorCode | None]]:
        """See ``IGroupService.delete_offsets``."""
        try:
            self._check_running()
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
        if group_id in self._consumers:
            return self._consumers.subscribed_topics(group_id)
        group = self._groups.get(group_id)
        if group is None:
            raise refusal(ErrorCode.GROUP_NOT_FOUND)
        subscribed = subscribed_topics(group.automaton, self.subscribed_topics)
        if subscribed is None:
            raise refusal(ErrorCode.GROUP_NOT_EMPTY)
        return subscribed

    def topic_deleted(self, topic: str) -> None:
        """See ``IGroupService.topic_deleted``."""
        self._consumers.look_at_topics()
        gone = self._offsets.of_topic(topic)
        if gone:
            self._offsets.remove(gone, lambda: None).addErrback(_log_failure, "forget a deleted topic")

    def expire(self, now_ms: int) -> int:
        """Delete offsets past their retention and groups without anything; return how many offsets."""
        gone: dict[str, list[TopicPartition]] = {}
        for group in self._groups.values():
            expired = expired_offsets(
                group.automaton,
                self._offsets.get(group.group_id),
                self.subscribed_topics,
                empty_since_ms=group.empty_since_ms,
                retention_ms=self.settings.offsets_retention_ms,
                now_ms=now_ms,
            )
            if expired or not self._offsets.has_any(group.group_id):
                gone[group.group_id] = expired
        for group_id in self._consumers.ids():
            expired = past_retention(
                self._offsets.get(group_id),
                self._consumers.subscribed_topics(group_id),
                since_ms=self._consumers.empty_since_ms(group_id),
                retention_ms=self.settings.offsets_retention_ms,
                now_ms=now_ms,
            )
            if expired or not self._offsets.has_any(group_id):
                gone[group_id] = expired
        count = sum(map(len, gone.values()))
        if count:
            written = self._offsets.remove(gone, lambda: self._forget_vacant(gone))
            written.addErrback(_log_failure, "expire offsets")
        else:
            self._forget_vacant(gone)
        return count

    def _expire_later(self) -> None:
        if self.settings.offsets_check_interval_ms > 0:
            self._timers.call_later(self.settings.offsets_check_interval_ms, self._expire_now)

    def _expire_now(self) -> None:
        self._expire_later()
        self.expire(self._timers.now_ms())

    # --- administration ---------------------------------------------------------------------------

    def describe(self, group_id: str) -> GroupDescription:
        """See ``IGroupService.describe``; metadata is shown in a stable group only."""
        self._check_running()
        group = self._groups.get(group_id)
        if group is None:
            return GroupDescription(group_id, "Dead", "", "")
        return group.description()

    def describe_consumers(self, group_id: str) -> ConsumerGroupDescription:
        """See ``IGroupService.describe_consumers``."""
        self._check_running()
        return self._consumers.describe(group_id)

    def all(self) -> Sequence[GroupSummary]:
        """See ``IGroupService.all``."""
        self._check_running()
        classic = [
            GroupSummary(group_id, group.automaton.protocol_type, group.automaton.state.value, "classic")
            for group_id, group in self._groups.items()
        ]
        return sorted([*classic, *self._consumers.summaries()])

    def delete(self, group_id: str) -> Deferred[None]:
        """See ``IGroupService.delete``; may also fail with StorageError, and then nothing is deleted."""
        group = self._groups.get(group_id)
        if self._stopped:
            return fail(stopped())
        if group_id in self._consumers:
            return self._delete_consumers(group_id)
        if group is None:
            return fail(refusal(ErrorCode.GROUP_NOT_FOUND))
        if group.automaton.state is not GroupState.EMPTY:
            return fail(refusal(ErrorCode.GROUP_NOT_EMPTY))

        def applied() -> None:
            current = self._groups.get(group_id)
            if current is not None and current.automaton.state is GroupState.EMPTY:
                self._forget(current)

        rows = [Change(GROUPS_TABLE, group_id, None)]
        return self._offsets.remove({group_id: self._offsets.known(group_id)}, applied, rows)

    def _delete_consumers(self, group_id: str) -> Deferred[None]:
        if not self._consumers.is_vacant(group_id):
            return fail(refusal(ErrorCode.GROUP_NOT_EMPTY))

        def applied() -> None:
            if self._consumers.is_vacant(group_id):
                self._consumers.forget(group_id)

        rows = self._consumers.removal(group_id)
        return self._offsets.remove({group_id: self._offsets.known(group_id)}, applied, rows)

    # --- groups coming and going ------------------------------------------------------------------

    def _ensure(self, group_id: str) -> ClassicGroup:
        group = self._groups.get(group_id)
        if group is None:
            automaton = GroupAutomaton(self.settings)
            group = self._groups[group_id] = ClassicGroup(group_id, automaton, self._timers.now_ms())
        return group

    def _forget(self, group: ClassicGroup) -> None:
        group.end()
        del self._groups[group.group_id]

    def _forget_vacant(self, group_ids: Iterable[str]) -> None:
        rows = []
        for group_id in group_ids:
            group = self._groups.get(group_id)
            if group is not None and group.automaton.vacant and not self._offsets.has_any(group_id):
                if group.automaton.generation:
                    rows.append(Change(GROUPS_TABLE, group_id, None))
                self._forget(group)
            elif self._consumers.is_vacant(group_id) and not self._offsets.has_any(group_id):
                rows += self._consumers.removal(group_id)
                self._consumers.forget(group_id)
        if rows:
            self._writes.write(rows, lambda: None).addErrback(_log_failure, "forget groups")

    def _carry_out(self, group: ClassicGroup) -> None:
        self._carrier.carry_out(group)
        # Refused joins and ids never used must not leave groups behind.
        if group.automaton.vacant and not group.automaton.generation:
            self._forget_vacant([group.group_id])


def _log_failure(failure: Failure, what: str) -> None:
    _log.failure("could not {what}", failure=failure, what=what)
