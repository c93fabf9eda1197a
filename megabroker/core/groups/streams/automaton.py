"""A streams group (KIP-1071) as a state machine.

Owns the state of one group: its epochs, its topology and what that needs, its members, who is to do which
task. Takes events, returns answers or refusals; timers to be set gather as actions (``take_actions``), what
is to be stored as the ids of changed and removed members (``take_changes``). Must never know a clock, a
Deferred, a store or a wire.

    Empty --join--> NotReady --all topics are there--> Assigning --next heartbeat--> Reconciling --> Stable
    any --members, topology or topics change--> Assigning or NotReady (group epoch + 1)
    any --nobody is left--> Empty

Epochs and the way of a member to its target are those of groups of the consumer protocol; what is handed out
are tasks of subtopologies and not partitions of topics. While the topology is not ready nobody has a task.

Invariant: no task is active in two members; no process has a task twice; a member's epoch is at most the
assignment's, and that at most the group's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

from megabroker.core.groups.actions import TimerKey, TimerKind
from megabroker.core.groups.errors import refusal
from megabroker.core.groups.reconciliation import MemberState, reconciled, within
from megabroker.core.groups.streams.assignor import Worker, assign
from megabroker.core.groups.streams.members import StreamsMember, StreamsMembers
from megabroker.core.groups.streams.settings import StreamsSettings
from megabroker.core.groups.streams.topology import Plan, check_topology, plan
from megabroker.core.groups.targets import TargetAutomaton
from megabroker.errors import ErrorCode
from megabroker.model.streams_groups import (
    Role,
    StreamsAnswer,
    StreamsEndpoint,
    StreamsHeartbeat,
    StreamsStatus,
    TaskAssignment,
    Topology,
)

__all__ = ["StreamsGroupAutomaton", "check_heartbeat"]

_JOIN_EPOCH = 0
_LEAVE_EPOCH = -1


def check_heartbeat(request: StreamsHeartbeat) -> None:
    """Refuse a heartbeat that no group could take. Raises RequestError."""
    if not request.member_id.strip():
        raise refusal(ErrorCode.INVALID_REQUEST, "a member id must not be empty")
    if request.member_epoch < _LEAVE_EPOCH:
        raise refusal(ErrorCode.INVALID_REQUEST, "a member epoch is -1, 0 or more")
    if request.rack_id is not None and not request.rack_id.strip():
        raise refusal(ErrorCode.INVALID_REQUEST, "a rack id must not be empty")
    if request.member_epoch != _JOIN_EPOCH:
        if request.topology is not None:
            raise refusal(ErrorCode.INVALID_REQUEST, "only who joins says what the topology is")
        return
    if request.rebalance_timeout_ms < 0:
        raise refusal(ErrorCode.INVALID_REQUEST, "who joins must name a rebalance timeout")
    if request.owned:
        raise refusal(ErrorCode.INVALID_REQUEST, "who joins must not have tasks")
    if request.topology is None:
        raise refusal(ErrorCode.INVALID_REQUEST, "who joins must say what the topology is")
    check_topology(request.topology)


class StreamsGroupAutomaton(TargetAutomaton):
    """One group.

    Args:
        partitions_of: how many partitions a topic has, None when there is no such topic.
        epoch: the last one known, of an empty group or of one of another kind before it.
    """

    def __init__(
        self, settings: StreamsSettings, partitions_of: Callable[[str], int | None], epoch: int = 0
    ) -> None:
        super().__init__(epoch)
        self.settings = settings
        self.endpoint_epoch = 0
        self.members = StreamsMembers()
        self.plan: Plan | None = None
        self._topology: Topology | None = None
        self._partitions_of = partitions_of
        self._stops_for = ""

    # --- asking -----------------------------------------------------------------------------------

    def member_ids(self) -> Collection[str]:
        """See ``Outbox``."""
        return self.members.ids()

    def kept_member(self, member_id: str) -> StreamsMember | None:
        """See ``Outbox``."""
        return self.members.get(member_id)

    @property
    def topology(self) -> Topology | None:
        """The topology as the members said it."""
        return self._topology

    @property
    def state(self) -> str:
        """What the group is doing, in Kafka's words."""
        if not self.members:
            return "Empty"
        if self.plan is None or not self.plan.ready:
            return "NotReady"
        if self.epoch > self.assignment_epoch:
            return "Assigning"
        for member in self.members:
            if member.state is not MemberState.STABLE or member.epoch != self.assignment_epoch:
                return "Reconciling"
        return "Stable"

    # --- life after a restart ---------------------------------------------------------------------

    def restore(
        self, epoch: int, assignment_epoch: int, topology: Topology | None, members: list[StreamsMember]
    ) -> None:
        """Go on where a group was stored; what has changed meanwhile makes a new epoch."""
        self.epoch, self.assignment_epoch, self._topology = epoch, assignment_epoch, topology
        for member in members:
            self.members.add(member)
            self._set_session(member)
            if member.state is MemberState.UNREVOKED:
                self._set_revocation(member)
        if topology is not None:
            self.plan = plan(topology, self._partitions_of)
            aimed_at = {tasks.subtopology for member in members for tasks in member.target}
            if members and aimed_at != set(self.plan.tasks):
                self._bump()

    # --- events -----------------------------------------------------------------------------------

    def heartbeat(self, request: StreamsHeartbeat) -> StreamsAnswer:
        """Take a member's heartbeat.

        Raises:
            BrokerError: UNKNOWN_MEMBER, FENCED_MEMBER_EPOCH, GROUP_FULL, INVALID_REQUEST,
                STREAMS_INVALID_TOPOLOGY; nothing has changed then.
        """
        known = self.members.get(request.member_id)
        if request.member_epoch == _LEAVE_EPOCH:
            return self._leave(request, known)
        self._check_member(request, known)
        topology = self._next_topology(request)
        next_plan = self.plan if topology is self._topology else plan(topology, self._partitions_of)
        _check_owned(request.owned, next_plan)

        if next_plan is not self.plan:
            self._topology, self.plan = topology, next_plan
            self._bump()
        member = self._enter(request, known)
        tells = request.member_epoch == _JOIN_EPOCH or request.member_epoch != member.epoch
        assigned_before = member.assigned
        self._describe(member, request)
        if self.epoch > self.assignment_epoch:
            self._aim()
        self._reconcile(member, request.owned)
        self._set_session(member)
        if request.shutdown:
            self._stops_for = member.member_id
        if member.assigned != assigned_before and member.endpoint is not None:
            self.endpoint_epoch += 1
        if member.assigned != (assigned_before if request.owned is None else request.owned):
            tells = True
        return StreamsAnswer(
            member.member_id,
            member.epoch,
            self.settings.heartbeat_interval_ms,
            member.assigned if tells else None,
            self._status(member),
            self.endpoint_epoch,
            None if request.endpoint_epoch == self.endpoint_epoch else self._endpoints(),
        )

    def topics_changed(self) -> bool:
        """The topics have been looked at anew; return whether that concerns this group."""
        if self._topology is None:
            return False
        fresh = plan(self._topology, self._partitions_of)
        if fresh == self.plan:
            return False
        self.plan = fresh
        self._bump()
        return True

    def reconfigure(self, settings: StreamsSettings) -> None:
        """Follow other settings; sessions do so from the next heartbeat on."""
        if settings.standby_replicas != self.settings.standby_replicas and self.members:
            self._bump()
        self.settings = settings

    def timer_fired(self, key: TimerKey) -> None:
        """A timer set by an action, and not cancelled since, has run out: the member is removed."""
        member = self.members.get(key.member_id)
        if member is not None and (key.kind is TimerKind.SESSION or member.state is MemberState.UNREVOKED):
            self._remove(member)

    def check_epoch(self, member_id: str, epoch: int) -> None:
        """Raise StateError unless a member may commit in this epoch: UNKNOWN_MEMBER, STALE_MEMBER_EPOCH.

        An epoch it has had since it joined will do: its tasks are nobody else's before it has given them up.
        """
        member = self.members.get(member_id)
        if member is None:
            raise refusal(ErrorCode.UNKNOWN_MEMBER)
        if not member.joined_epoch <= epoch <= member.epoch:
            raise refusal(ErrorCode.STALE_MEMBER_EPOCH)

    # --- who is it --------------------------------------------------------------------------------

    def _check_member(self, request: StreamsHeartbeat, member: StreamsMember | None) -> None:
        if member is None:
            if request.member_epoch != _JOIN_EPOCH:
                raise refusal(ErrorCode.UNKNOWN_MEMBER)
            if len(self.members) >= self.settings.group_max_size:
                raise refusal(ErrorCode.GROUP_FULL)
        elif request.member_epoch not in (_JOIN_EPOCH, member.epoch):
            # The answer that told it the new epoch may have been lost; then it has nothing it was not given.
            lost = request.member_epoch == member.previous_epoch and request.member_epoch < member.epoch
            if not lost or request.owned is None or not within(request.owned, member.assigned):
                raise refusal(ErrorCode.FENCED_MEMBER_EPOCH)

    def _next_topology(self, request: StreamsHeartbeat) -> Topology:
        """Return the group's topology as it is with this request."""
        said, current = request.topology, self._topology
        if current is None or (said is not None and not self.members):
            assert said is not None  # a member exists only where a topology does
            return said
        if said is not None and said != current and said.epoch >= current.epoch:
            raise refusal(
                ErrorCode.INVALID_REQUEST,
                "the group has another topology: it can be changed when no member is left",
            )
        return current

    def _enter(self, request: StreamsHeartbeat, member: StreamsMember | None) -> StreamsMember:
        if member is None:
            member = StreamsMember(request.member_id)
            self.members.add(member)
            self._bump()
            self._note(member)
        elif request.member_epoch == _JOIN_EPOCH and member.state is MemberState.UNREVOKED:
            # Who joins again has given up everything.
            self.members.stand(member, member.standing._replace(state=MemberState.STABLE, revoking={}))
            self._cancel(TimerKind.REVOKE, member)
            self._note(member)
        return member

    def _describe(self, member: StreamsMember, request: StreamsHeartbeat) -> None:
        """Take over what a member says of itself; what matters for the assignment makes a new epoch."""
        says: dict[str, object] = {"client_id": request.client_id, "client_host": request.client_host}
        if request.rebalance_timeout_ms >= 0:
            says["rebalance_timeout_ms"] = request.rebalance_timeout_ms
        for name in ("rack_id", "endpoint", "tags"):
            value = getattr(request, name)
            if value is not None:
                says[name] = value
        if request.topology is not None:
            says["topology_epoch"] = request.topology.epoch
        for name, value in says.items():
            if getattr(member, name) != value:
                setattr(member, name, value)
                self._note(member)
        if request.process_id is not None and request.process_id != member.process_id:
            self.members.move(member, request.process_id)
            self._bump()
            self._note(member)

    # --- leaving ----------------------------------------------------------------------------------

    def _leave(self, request: StreamsHeartbeat, member: StreamsMember | None) -> StreamsAnswer:
        if member is None:
            raise refusal(ErrorCode.UNKNOWN_MEMBER)
        if request.shutdown:
            self._stops_for = member.member_id
        self._remove(member)
        return StreamsAnswer(request.member_id, _LEAVE_EPOCH)

    def _remove(self, member: StreamsMember) -> None:
        self.members.remove(member)
        self._cancel(TimerKind.SESSION, member)
        self._cancel(TimerKind.REVOKE, member)
        self._note_removed(member)
        if member.endpoint is not None:
            self.endpoint_epoch += 1
        self._bump()
        if not self.members:
            self.assignment_epoch = self.epoch
            self._stops_for = ""

    # --- handing out ------------------------------------------------------------------------------

    def _aim(self) -> None:
        """Make a target for the group's epoch."""
        tasks: Mapping[str, int] = self.plan.tasks if self.plan is not None and self.plan.ready else {}
        workers = [Worker(one.member_id, one.process_id, one.target) for one in self.members]
        targets = assign(workers, tasks, self.settings.standby_replicas)
        self._take_targets(self.members, targets)

    def _reconcile(self, member: StreamsMember, owned: TaskAssignment | None) -> None:
        before = member.standing
        is_free = partial(self.members.is_free, member)
        after = reconciled(before, member.target, self.assignment_epoch, owned, is_free)
        if after == before:
            return
        self.members.stand(member, after)
        if after.epoch != before.epoch:
            member.previous_epoch = before.epoch
            if not before.epoch:
                member.joined_epoch = after.epoch
        if after.state is MemberState.UNREVOKED:
            self._set_revocation(member)
        elif before.state is MemberState.UNREVOKED:
            self._cancel(TimerKind.REVOKE, member)
        self._note(member)

    # --- telling ----------------------------------------------------------------------------------

    def _status(self, member: StreamsMember) -> list[tuple[StreamsStatus, str]]:
        status = []
        assert self._topology is not None
        assert self.plan is not None
        if member.topology_epoch < self._topology.epoch:
            sentence = (
                f"the group's topology has epoch {self._topology.epoch}, the member's {member.topology_epoch}"
            )
            status.append((StreamsStatus.STALE_TOPOLOGY, sentence))
        if self.plan.problem is not None:
            status.append(self.plan.problem)
        if self._stops_for:
            sentence = f"the member {self._stops_for} asked for the end of the whole application"
            status.append((StreamsStatus.SHUTDOWN_APPLICATION, sentence))
        return status

    def _endpoints(self) -> list[StreamsEndpoint]:
        return [
            StreamsEndpoint(
                member.endpoint, self._partitions(member, Role.ACTIVE), self._partitions(member, Role.STANDBY)
            )
            for member in self.members
            if member.endpoint is not None
        ]

    def _partitions(self, member: StreamsMember, role: Role) -> dict[str, list[int]]:
        """Return the partitions of the topics that a member's tasks read."""
        assert self._topology is not None
        reads = {part.id: part.reads for part in self._topology.subtopologies}
        found: dict[str, list[int]] = {}
        for tasks, indexes in member.assigned.items():
            if tasks.role is role:
                for topic in reads.get(tasks.subtopology, ()):
                    size = self._partitions_of(topic) or 0
                    found.setdefault(topic, []).extend(sorted(index for index in indexes if index < size))
        return found

    # --- small steps ------------------------------------------------------------------------------

    def _set_session(self, member: StreamsMember) -> None:
        self._set_timer(TimerKind.SESSION, member, self.settings.session_timeout_ms)

    def _set_revocation(self, member: StreamsMember) -> None:
        self._set_timer(TimerKind.REVOKE, member, member.rebalance_timeout_ms)


def _check_owned(owned: TaskAssignment | None, current: Plan | None) -> None:
    """Refuse tasks that the topology does not have."""
    if not owned or current is None or not current.ready:
        return
    for tasks, indexes in owned.items():
        count = current.tasks.get(tasks.subtopology, 0)
        if any(not 0 <= index < count for index in indexes):
            raise refusal(
                ErrorCode.INVALID_REQUEST, f"subtopology {tasks.subtopology!r} has the tasks 0 to {count - 1}"
            )
