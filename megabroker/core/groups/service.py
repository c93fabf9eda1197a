"""The group coordinator: the automata of all groups, their time, their Deferreds and what is stored of them.

Owns the clock side (one timer wheel) and says which part answers: the rules of membership are the automata's,
which groups there are and of which protocol is ``directory``'s, committed offsets are ``commits``' and
``offsets``', what is done and stored for a classic group ``classic_groups``', groups of the consumer protocol
``consumer_service``'s, streams groups ``streams``'. Must never decide who is a member.

Classic members may be in a group of the consumer protocol while it is upgraded: what they ask is answered by
its automaton.

Invariant: actions are carried out in the order the automata gave them, also when a Deferred's callback
calls back into the service; every Deferred given out fires exactly once, at the latest in ``stop``; no group
id is of both protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from uuid import uuid4

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from megabroker.core.groups.automaton import GroupState
from megabroker.core.groups.classic_groups import GROUPS_TABLE, ClassicGroup
from megabroker.core.groups.commits import Commits, Outcomes
from megabroker.core.groups.configs import GroupConfigs
from megabroker.core.groups.consumer_service import CONSUMER_GROUPS_TABLE
from megabroker.core.groups.consumer_topics import Sees
from megabroker.core.groups.conversion import partitions_by_name
from megabroker.core.groups.directory import CreateTopic, GroupDirectory
from megabroker.core.groups.errors import refusal, stopped
from megabroker.core.groups.mixed_automaton import CONSUMER
from megabroker.core.groups.offsets import OFFSETS_TABLE, CommittedOffsets, OrderedWrites
from megabroker.core.groups.retention import SubscribedTopics
from megabroker.core.groups.room import Room, said_bytes
from megabroker.core.groups.settings import GroupSettings
from megabroker.core.groups.streams import STREAMS_GROUPS_TABLE, MayNotCreate, StreamsSettings
from megabroker.core.groups.transactional import IUnstableOffsets, TransactionalOffsets
from megabroker.core.timers import TimerWheel
from megabroker.errors import BrokerError, ErrorCode
from megabroker.interfaces import IConsumerMetadata, IGroupService, IMetadataStore
from megabroker.model import (
    Change,
    CommittedOffset,
    ConsumerGroupDescription,
    ConsumerHeartbeat,
    ConsumerHeartbeatAnswer,
    ConsumerMember,
    GroupDescription,
    GroupSummary,
    JoinedGroup,
    JoinRequest,
    LeavingMember,
    SyncedGroup,
    SyncRequest,
    Topic,
    TopicAssignment,
    TopicPartition,
)
from megabroker.model.streams_groups import StreamsAnswer, StreamsGroupDescription, StreamsHeartbeat

__all__ = ["GROUPS_TABLE", "GroupService", "new_member_id"]


def new_member_id(prefix: str) -> str:
    """Return a member id never given out before, beginning with the client's or instance's name."""
    return f"{prefix}-{uuid4()}"


def _no_topic(name: str, partitions: int, configs: Mapping[str, str]) -> Deferred[Topic]:
    return fail(refusal(ErrorCode.INVALID_REQUEST, "internal topics cannot be made here"))


@implementer(IGroupService, IUnstableOffsets)
class GroupService:
    """All groups this broker coordinates.

    Args:
        clock: source of time and delayed calls.
        topic_exists: whether a partition's offsets may be committed.
        subscribed_topics: reads a member's subscription; without it the offsets of a group that has
            members cannot be deleted. May be assigned later.
        topics: returns all topics; without it groups of the consumer protocol and streams groups see none.
        create_topic: makes the internal topics of streams groups; without it they stay missing.
        new_member_id: makes a fresh id of a client's or instance's name.

    Attributes:
        transactional: the part that the transaction coordinator works with.
        is_share: whether a share group has a name; may be assigned later.
        room: what all groups may take together.
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
        create_topic: CreateTopic = _no_topic,
        new_member_id: Callable[[str], str] = new_member_id,
    ) -> None:
        self.settings = settings
        self.is_share: Callable[[str], bool] = lambda group_id: False
        self._metadata = metadata
        self._new_member_id = new_member_id
        self._timers = TimerWheel(clock, granularity_ms=1)
        self._writes = OrderedWrites(metadata)
        self._offsets = CommittedOffsets(self._writes)
        self._directory = GroupDirectory(
            self._timers, self._writes, self._offsets, settings, topics, create_topic, new_member_id
        )
        directory = self._directory
        self.room = Room(
            settings.max_groups,
            settings.max_member_bytes,
            directory.__len__,
            directory.said_bytes,
            self._timers.now_ms,
        )
        self._commits = Commits(
            directory,
            self._offsets,
            settings,
            topic_exists,
            self._timers.now_ms,
            subscribed_topics,
            self.room,
        )
        self.transactional = TransactionalOffsets(
            self._writes, self._offsets, self._check_transactional, self._commits.judge, self._committed
        )
        self._stopped = False

    def __contains__(self, group_id: str) -> bool:
        directory = self._directory
        return group_id in directory.classic or any(group_id in groups for groups in directory.epochal)

    @property
    def subscribed_topics(self) -> SubscribedTopics | None:
        """See ``IGroupService.subscribed_topics``."""
        return self._commits.subscribed_topics

    @subscribed_topics.setter
    def subscribed_topics(self, parse: SubscribedTopics | None) -> None:
        self._commits.subscribed_topics = parse

    @property
    def consumer_metadata(self) -> IConsumerMetadata | None:
        """See ``IGroupService.consumer_metadata``."""
        return self._directory.metadata

    @consumer_metadata.setter
    def consumer_metadata(self, metadata: IConsumerMetadata | None) -> None:
        self._directory.metadata = metadata

    def configure(self, configs: GroupConfigs) -> None:
        """Have groups follow their own configurations where they have any; called before ``load``."""
        consumers = self._directory.consumers

        def settings_of(group_id: str) -> GroupSettings:
            return attrs.evolve(
                self.settings,
                consumer_heartbeat_interval_ms=configs.number(group_id, "consumer.heartbeat.interval.ms"),
                consumer_session_timeout_ms=configs.number(group_id, "consumer.session.timeout.ms"),
            )

        def streams_settings_of(group_id: str) -> StreamsSettings:
            return attrs.evolve(
                self.settings.streams,
                heartbeat_interval_ms=configs.number(group_id, "streams.heartbeat.interval.ms"),
                session_timeout_ms=configs.number(group_id, "streams.session.timeout.ms"),
                standby_replicas=configs.number(group_id, "streams.num.standby.replicas"),
            )

        consumers.configure(settings_of)
        configs.on_change(consumers.reconfigure)
        self._directory.streams.configure(streams_settings_of)
        configs.on_change(self._directory.streams.reconfigure)

    def restrict(self, sees: Sees, may_not_create: MayNotCreate, generation: Callable[[], int]) -> None:
        """Have groups ask what their members may; called before ``load``.

        Args:
            sees: decides on what regular expressions match.
            may_not_create: decides on the internal topics of streams groups.
            generation: returns what changes whenever an answer of ``sees`` may.
        """
        self._directory.consumers.view.restrict(sees, generation)
        self._directory.streams.restrict(may_not_create)

    # --- life of the service ----------------------------------------------------------------------

    def load(self) -> None:
        """Read what the store holds and begin to look for expired offsets. Blocking; call once, first."""
        self._offsets.load(self._metadata.rows(OFFSETS_TABLE))
        self._directory.load(self._metadata.rows(GROUPS_TABLE))
        self._directory.consumers.load(self._metadata.rows(CONSUMER_GROUPS_TABLE))
        self._directory.streams.load(self._metadata.rows(STREAMS_GROUPS_TABLE))
        for group_id in self._offsets.groups():
            self._committed(group_id)
        self._expire_later()

    def stop(self) -> None:
        """Answer all who wait with NOT_COORDINATOR and refuse everything from now on.

        Commits already written to the store are still answered by it.
        """
        self._stopped = True
        for group in list(self._directory.classic.values()):
            group.automaton.abandon(stopped)
            self._directory.carry_out(group)
        self._timers.stop()

    def _check_running(self) -> None:
        if self._stopped:
            raise stopped()

    # --- membership -------------------------------------------------------------------------------

    def join(self, request: JoinRequest) -> Deferred[JoinedGroup]:
        """See ``IGroupService.join``."""
        error = self._refuse_join(request) or self._refuse_for_room(request.group_id, said_bytes(request))
        if error is not None:
            return fail(error)
        consumers = self._directory.consumers
        if request.group_id in consumers and not consumers.is_vacant(request.group_id):
            return self._join_consumers(request)
        streams = self._directory.streams
        if request.group_id in streams and not streams.is_vacant(request.group_id):
            return fail(refusal(ErrorCode.INCONSISTENT_PROTOCOL, "the group is a streams group"))
        if request.member_id and request.group_id not in self._directory.classic:
            return fail(refusal(ErrorCode.UNKNOWN_MEMBER))
        ticket: Deferred[JoinedGroup] = Deferred()
        fresh_id = "" if request.member_id else self._new_member_id(request.instance_id or request.client_id)
        group = self._directory.make_classic(request.group_id)
        group.automaton.join(request, ticket, fresh_id)
        self._directory.carry_out(group)
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
        if self.is_share(request.group_id):
            return refusal(ErrorCode.INCONSISTENT_PROTOCOL, "the group is a share group")
        return None

    def _join_consumers(self, request: JoinRequest) -> Deferred[JoinedGroup]:
        """A classic member joins a group of the consumer protocol that has members."""
        metadata = self._directory.metadata
        if metadata is None or request.protocol_type != CONSUMER or not request.protocols:
            return fail(refusal(ErrorCode.INCONSISTENT_PROTOCOL))
        subscription = metadata.read_subscription(request.protocols[0][1])
        if subscription is None:
            return fail(refusal(ErrorCode.INCONSISTENT_PROTOCOL, "the subscription cannot be read"))
        return self._directory.consumers.classic_join(request, subscription)

    def sync(self, request: SyncRequest) -> Deferred[SyncedGroup]:
        """See ``IGroupService.sync``."""
        try:
            group = self._group_of_member(request.group_id)
        except BrokerError as error:
            return fail(error)
        if group is None:
            synced = self._directory.consumers.classic_sync(request)
            return synced.addCallback(self._synced)
        if request.assignments:
            refused = self._refuse_for_room(request.group_id, said_bytes(request))
            if refused is not None:
                return fail(refused)
        ticket: Deferred[SyncedGroup] = Deferred()
        group.automaton.sync(request, ticket)
        self._directory.carry_out(group)
        return ticket

    def _synced(self, synced: tuple[str, int, TopicAssignment]) -> SyncedGroup:
        name, version, assignment = synced
        metadata = self._directory.metadata
        assert metadata is not None
        partitions = partitions_by_name(assignment, self._directory.consumers.view)
        return SyncedGroup(CONSUMER, name, metadata.write_assignment(version, partitions))

    def heartbeat(self, group_id: str, generation: int, member_id: str, instance_id: str | None) -> None:
        """See ``IGroupService.heartbeat``."""
        group = self._group_of_member(group_id)
        if group is None:
            self._directory.consumers.classic_heartbeat(group_id, generation, member_id, instance_id)
            return
        try:
            group.automaton.heartbeat(generation, member_id, instance_id)
        finally:
            self._directory.carry_out(group)

    def leave(self, group_id: str, members: Sequence[LeavingMember]) -> Sequence[BrokerError | None]:
        """See ``IGroupService.leave``."""
        group = self._group_of_member(group_id)
        if group is None:
            return self._directory.consumers.classic_leave(group_id, members)
        outcomes = group.automaton.leave(members)
        self._directory.carry_out(group)
        return outcomes

    def consumer_heartbeat(self, request: ConsumerHeartbeat) -> Deferred[ConsumerHeartbeatAnswer]:
        """See ``IGroupService.consumer_heartbeat``."""
        if self._stopped:
            return fail(stopped())
        if not request.group_id.strip():
            return fail(refusal(ErrorCode.INVALID_REQUEST, "the group id must not be empty"))
        if self.is_share(request.group_id):
            return fail(refusal(ErrorCode.GROUP_NOT_FOUND, "the group is a share group"))
        error = self._refuse_heartbeat(request)
        return self._directory.heartbeat(request) if error is None else fail(error)

    def streams_heartbeat(self, request: StreamsHeartbeat) -> Deferred[StreamsAnswer]:
        """See ``IGroupService.streams_heartbeat``."""
        if self._stopped:
            return fail(stopped())
        if not request.group_id.strip():
            return fail(refusal(ErrorCode.INVALID_REQUEST, "the group id must not be empty"))
        if self.is_share(request.group_id):
            return fail(refusal(ErrorCode.GROUP_NOT_FOUND, "the group is a share group"))
        error = self._refuse_heartbeat(request)
        return self._directory.streams_heartbeat(request) if error is None else fail(error)

    def _refuse_heartbeat(self, request: ConsumerHeartbeat | StreamsHeartbeat) -> BrokerError | None:
        """Return why there is no room for a member that joins or says something else of itself."""
        size_bytes = said_bytes(request) if request.member_epoch >= 0 else 0
        if request.member_epoch and not size_bytes:
            return None
        return self._refuse_for_room(request.group_id, size_bytes)

    def check_member(self, group_id: str, member_id: str, member_epoch: int) -> None:
        """See ``IGroupService.check_member``; members of classic groups have no epoch to check."""
        self._check_running()
        keeper = self._directory.keeper(group_id)
        if keeper is not None:
            keeper.check_member(group_id, member_id, member_epoch)

    def _group_of_member(self, group_id: str) -> ClassicGroup | None:
        """Return the classic group; None when it is one of the consumer protocol."""
        self._check_running()
        if not group_id:
            raise refusal(ErrorCode.INVALID_GROUP)
        group = self._directory.classic.get(group_id)
        if group is None and group_id not in self._directory.consumers:
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
    ) -> Deferred[Outcomes]:
        """See ``IGroupService.commit``; commits without a commit time get the present."""
        if self._stopped:
            return fail(stopped())
        if self.is_share(group_id):
            return fail(refusal(ErrorCode.GROUP_NOT_FOUND, "the group is a share group"))
        error = self._refuse_for_room(group_id)
        if error is not None:
            return fail(error)
        return self._commits.commit(group_id, generation, member_id, instance_id, offsets, self._committed)

    def _check_transactional(
        self, group_id: str, generation: int, member_id: str, instance_id: str | None
    ) -> None:
        self._check_running()
        if not group_id:
            raise refusal(ErrorCode.INVALID_GROUP)
        if self.is_share(group_id):
            raise refusal(ErrorCode.GROUP_NOT_FOUND, "the group is a share group")
        error = self._refuse_for_room(group_id)
        if error is not None:
            raise error
        self._commits.check(group_id, generation, member_id, instance_id, transactional=True)

    def _refuse_for_room(self, group_id: str, size_bytes: int = 0) -> BrokerError | None:
        """Return why there is no room for a group, or for what a member says of itself."""
        try:
            if group_id not in self and not self._offsets.has_any(group_id):
                self.room.check_group()
            if size_bytes:
                self.room.take(size_bytes)
        except BrokerError as error:
            return error
        return None

    def _committed(self, group_id: str) -> None:
        if not self._stopped and self._directory.keeper(group_id) is None:
            self._directory.ensure(group_id)

    def committed(
        self, group_id: str, partitions: Iterable[TopicPartition] | None
    ) -> Mapping[TopicPartition, CommittedOffset]:
        """See ``IGroupService.committed``."""
        self._check_running()
        return self._offsets.get(group_id, partitions)

    def unstable(self, group_id: str) -> Set[TopicPartition]:
        """See ``IUnstableOffsets``."""
        return self._offsets.held(group_id)

    def delete_offsets(self, group_id: str, partitions: Sequence[TopicPartition]) -> Deferred[Outcomes]:
        """See ``IGroupService.delete_offsets``."""
        if self._stopped:
            return fail(stopped())
        return self._commits.delete(group_id, partitions)

    def topic_deleted(self, topic: str) -> None:
        """See ``IGroupService.topic_deleted``."""
        self._commits.topic_deleted(topic)

    def expire(self, now_ms: int) -> int:
        """Delete offsets past their retention and groups without anything; return how many offsets."""
        return self._commits.expire(now_ms)

    def _expire_later(self) -> None:
        if self.settings.offsets_check_interval_ms > 0:
            self._timers.call_later(self.settings.offsets_check_interval_ms, self._expire_now)

    def _expire_now(self) -> None:
        self._expire_later()
        self.expire(self._timers.now_ms())

    # --- administration ---------------------------------------------------------------------------

    def describe(self, group_id: str) -> GroupDescription:
        """See ``IGroupService.describe``; metadata is shown while the group is stable."""
        self._check_running()
        group = self._directory.classic.get(group_id)
        if group is None:
            return GroupDescription(group_id, "Dead", "", "")
        return group.description()

    def describe_consumers(self, group_id: str) -> ConsumerGroupDescription:
        """See ``IGroupService.describe_consumers``."""
        self._check_running()
        return self._directory.consumers.describe(group_id)

    def consumer_member(self, group_id: str, member_id: str) -> ConsumerMember | None:
        """See ``IGroupService.consumer_member``."""
        self._check_running()
        return self._directory.consumers.member(group_id, member_id)

    def describe_streams(self, group_id: str) -> StreamsGroupDescription:
        """See ``IGroupService.describe_streams``."""
        self._check_running()
        return self._directory.streams.describe(group_id)

    def all(self) -> Sequence[GroupSummary]:
        """See ``IGroupService.all``."""
        self._check_running()
        return sorted(self.overview())

    def ids(self) -> Collection[str]:
        """Return every group that there is, or of which there are offsets."""
        return {*self._offsets.groups(), *(group.group_id for group in self.overview())}

    def size(self, group_id: str) -> tuple[int, int] | None:
        """Return a group's number of members, and its generation or epoch; None if it has offsets only."""
        group = self._directory.classic.get(group_id)
        if group is not None:
            return len(group.automaton.members), group.automaton.generation
        keeper = self._directory.keeper(group_id)
        return None if keeper is None else keeper.size(group_id)

    def visible_offsets(self, group_id: str) -> Mapping[TopicPartition, CommittedOffset]:
        """Return what a group has committed."""
        return self._offsets.get(group_id)

    def overview(self) -> Sequence[GroupSummary]:
        """Return every group, in no order, whether requests are answered or not any more."""
        classic = [
            GroupSummary(group_id, group.automaton.protocol_type, group.automaton.state.value, "classic")
            for group_id, group in self._directory.classic.items()
        ]
        epochal = [row for keeper in self._directory.epochal for row in keeper.summaries()]
        return [*classic, *epochal]

    def rebalances(self) -> Mapping[str, int]:
        """Return how often members were given partitions anew since the start, by the type of the groups."""
        return self._directory.rebalances()

    def delete(self, group_id: str) -> Deferred[None]:
        """See ``IGroupService.delete``; may also fail with StorageError, and then nothing is deleted."""
        group = self._directory.classic.get(group_id)
        if self._stopped:
            return fail(stopped())
        if self._directory.keeper(group_id) is not None:
            return self._delete_epochal(group_id)
        if group is None:
            return fail(refusal(ErrorCode.GROUP_NOT_FOUND))
        if group.automaton.state is not GroupState.EMPTY:
            return fail(refusal(ErrorCode.GROUP_NOT_EMPTY))

        def applied() -> None:
            current = self._directory.classic.get(group_id)
            if current is not None and current.automaton.state is GroupState.EMPTY:
                self._directory.forget(current)

        rows = [Change(GROUPS_TABLE, group_id, None)]
        return self._offsets.remove({group_id: self._offsets.known(group_id)}, applied, rows)

    def _delete_epochal(self, group_id: str) -> Deferred[None]:
        keeper = self._directory.keeper(group_id)
        assert keeper is not None
        if not keeper.is_vacant(group_id):
            return fail(refusal(ErrorCode.GROUP_NOT_EMPTY))

        def applied() -> None:
            if keeper.is_vacant(group_id):
                keeper.forget(group_id)

        rows = keeper.removal(group_id)
        return self._offsets.remove({group_id: self._offsets.known(group_id)}, applied, rows)
