"""The group of the consumer protocol (KIP-848) as a state machine.

Owns the state of one group: its epochs, its members, who is to have which partition. Takes events, returns
answers or refusals; timers to be set gather as actions (``take_actions``), what is to be stored as the ids of
changed and removed members (``take_changes``). Must never know a clock, a Deferred, a store or a wire.

    Empty --join--> Assigning --next heartbeat--> Reconciling --everybody in the epoch of the target--> Stable
    any --member or subscription or topic changes--> Assigning (group epoch + 1);  --nobody left--> Empty

Three kinds of epochs: the group's counts changes of members, subscriptions and topics; the assignment's is
the group epoch its target was made for; a member's is that of the target it has come into. The rules are
those of KIP-848 and KIP-1082 (member ids chosen by clients). Members of the classic protocol may be among the
others; what they do is ``mixed_automaton``'s.

Invariant: no partition is had by two members; no epoch but that of a member that leaves or rejoins ever goes
back; a member's epoch is at most the assignment's, and that at most the group's.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Collection
from uuid import UUID

from megabroker.core.groups.actions import SetTimer, TimerKey, TimerKind
from megabroker.core.groups.assignors import ASSIGNORS, DEFAULT_ASSIGNOR, Subscriber
from megabroker.core.groups.consumer_members import LEFT_EPOCH, ConsumerMember, ConsumerMembers
from megabroker.core.groups.consumer_topics import TopicsView
from megabroker.core.groups.errors import refusal
from megabroker.core.groups.reconciliation import MemberState, Standing, reconciled, within
from megabroker.core.groups.settings import GroupSettings
from megabroker.core.groups.targets import TargetAutomaton
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import ConsumerHeartbeat, ConsumerHeartbeatAnswer, TopicAssignment

__all__ = ["ConsumerGroupAutomaton", "ConsumerGroupState", "check_heartbeat"]

_JOIN_EPOCH = 0
_LEAVE_EPOCH = -1

_LARGE_GROUP = 100
"""Members from which on targets are not made anew with every change."""

_SOON_MS = 1000
"""When a member is to ask again that will hear something new."""


class ConsumerGroupState(enum.Enum):
    """The values are Kafka's words."""

    EMPTY = "Empty"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    STABLE = "Stable"


def check_heartbeat(request: ConsumerHeartbeat) -> None:
    """Refuse a heartbeat that no group could take. Raises RequestError."""
    if request.member_epoch < LEFT_EPOCH:
        raise refusal(ErrorCode.INVALID_REQUEST, "a member epoch is -2, -1, 0 or more")
    if request.instance_id is not None and not request.instance_id.strip():
        raise refusal(ErrorCode.INVALID_REQUEST, "an instance id must not be empty")
    if request.rack_id is not None and not request.rack_id.strip():
        raise refusal(ErrorCode.INVALID_REQUEST, "a rack id must not be empty")
    if request.rebalance_timeout_ms < -1:
        raise refusal(ErrorCode.INVALID_REQUEST, "a rebalance timeout is not negative")
    if request.assignor and request.assignor not in ASSIGNORS:
        raise refusal(ErrorCode.UNSUPPORTED_ASSIGNOR)
    if request.member_epoch != _JOIN_EPOCH:
        if not request.member_id.strip():
            raise refusal(ErrorCode.INVALID_REQUEST, "a member id must not be empty")
        if request.member_epoch == LEFT_EPOCH and request.instance_id is None:
            raise refusal(ErrorCode.INVALID_REQUEST, "only members with an instance id leave for a while")
        return
    if request.rebalance_timeout_ms < 0:
        raise refusal(ErrorCode.INVALID_REQUEST, "who joins must name a rebalance timeout")
    if request.owned is None or request.owned:
        raise refusal(ErrorCode.INVALID_REQUEST, "who joins must say that it owns no partitions")
    if request.topic_names is None and request.topic_pattern is None:
        raise refusal(ErrorCode.INVALID_REQUEST, "who joins must name topics or a regular expression")


class ConsumerGroupAutomaton(TargetAutomaton):
    """One group.

    Args:
        epoch: the last one known, of the target too; of an empty group or of a classic one before it.
        view: the topics; the caller takes it anew and then calls ``topics_changed``.
    """

    def __init__(self, settings: GroupSettings, view: TopicsView, epoch: int = 0) -> None:
        super().__init__(epoch)
        self.settings = settings
        self.members = ConsumerMembers()
        self._view = view
        self._rests = False
        self._sizes: dict[UUID, int] = {}

    # --- asking -----------------------------------------------------------------------------------

    def member_ids(self) -> Collection[str]:
        """See ``Outbox``."""
        return self.members.ids()

    def kept_member(self, member_id: str) -> ConsumerMember | None:
        """See ``Outbox``."""
        return self.members.get(member_id)

    @property
    def state(self) -> ConsumerGroupState:
        """What the group is doing."""
        if not self.members:
            return ConsumerGroupState.EMPTY
        if self.epoch > self.assignment_epoch:
            return ConsumerGroupState.ASSIGNING
        for member in self.members:
            if member.state is not MemberState.STABLE or member.epoch != self.assignment_epoch:
                return ConsumerGroupState.RECONCILING
        return ConsumerGroupState.STABLE

    @property
    def assignor(self) -> str:
        """The assignor most members ask for."""
        votes = self.members.assignors
        return max(votes, key=lambda name: (votes[name], name), default=DEFAULT_ASSIGNOR)

    # --- life after a restart ---------------------------------------------------------------------

    def restore(self, epoch: int, assignment_epoch: int, members: list[ConsumerMember]) -> None:
        """Go on where a group was stored; what has changed meanwhile makes a new epoch."""
        self.epoch, self.assignment_epoch = epoch, assignment_epoch
        for member in members:
            member.topics = self._resolve(member)
            self.members.add(member)
            self._set_session(member)
            if member.state is MemberState.UNREVOKED and member.classic is None:
                self._set_revocation(member)
        self._sizes = self._present_sizes()
        aimed_at: Counter[UUID] = Counter()
        for member in members:
            for topic, indexes in member.target.items():
                aimed_at[topic] += len(indexes)
        if aimed_at != self._sizes:
            self._bump()

    def take_over(self, members: list[ConsumerMember]) -> None:
        """Begin with the members of a classic group; its generation is the epoch already."""
        self.restore(self.epoch, self.epoch, members)
        self._changed.update(member.member_id for member in members)
        self._group_changed = True

    # --- events -----------------------------------------------------------------------------------

    def heartbeat(self, request: ConsumerHeartbeat, fresh_id: str) -> ConsumerHeartbeatAnswer:
        """A member joins, lives on or leaves; ``check_heartbeat`` has accepted the request.

        Args:
            fresh_id: becomes the id of a member that joins without one.

        Raises:
            BrokerError: refused, and nothing has changed.
        """
        if request.member_epoch in (_LEAVE_EPOCH, LEFT_EPOCH):
            return self._leave(request)
        known = self._find(request)
        names = request.topic_names
        pattern = request.topic_pattern
        if known is not None:
            names = known.topic_names if names is None else names
            pattern = known.topic_pattern if pattern is None else pattern
        names, pattern = names or frozenset(), pattern or ""
        unchanged = (
            known is not None
            and (names, pattern) == (known.topic_names, known.topic_pattern)
            and (not pattern or request.principal == known.principal)
        )
        if known is not None and unchanged:
            topics = known.topics
        else:
            topics = self._view.resolve(names, pattern, request.principal, _plain(request.client_host))

        assignor_before = self.assignor
        member = self._enter(request, known, fresh_id)
        assigned_before = member.assigned
        catches_up = request.member_epoch != member.epoch
        self._describe(member, request, names, pattern)
        if not unchanged:
            self.members.subscribe(member, topics)
            self._sizes = self._present_sizes()
        if not unchanged or self.assignor != assignor_before:
            self._bump()
        if self.epoch > self.assignment_epoch and not self._rests:
            self._aim()
        self._reconcile(member, request.owned)
        self._set_session(member)
        complete = request.member_epoch == _JOIN_EPOCH or (
            request.rebalance_timeout_ms >= 0
            and (request.topic_names is not None or request.topic_pattern is not None)
            and request.owned is not None
        )
        tells = complete or catches_up or member.assigned != assigned_before
        return self._answer(member, tells=tells)

    def topics_changed(self) -> bool:
        """The topics have been looked at anew; return whether that concerns this group."""
        for member in self.members:
            topics = self._resolve(member)
            if topics != member.topics:
                self.members.subscribe(member, topics)
        sizes = self._present_sizes()
        if sizes == self._sizes:
            return False
        self._sizes = sizes
        self._bump()
        return True

    def timer_fired(self, key: TimerKey) -> None:
        """A timer set by an action, and not cancelled since, has run out: its member, if any, is removed."""
        if key.kind is TimerKind.REST:
            self._rests = False
            return
        member = self.members.get(key.member_id)
        if member is not None and (key.kind is not TimerKind.REVOKE or member.state is MemberState.UNREVOKED):
            self._remove(member)

    def check_epoch(self, member_id: str, epoch: int) -> None:
        """Raise StateError unless this is a member, in this epoch.

        UNKNOWN_MEMBER; STALE_MEMBER_EPOCH, which to classic members is ILLEGAL_GENERATION.
        """
        member = self.members.get(member_id)
        if member is None:
            raise refusal(ErrorCode.UNKNOWN_MEMBER)
        if member.epoch != epoch:
            is_classic = member.classic is not None
            raise refusal(ErrorCode.ILLEGAL_GENERATION if is_classic else ErrorCode.STALE_MEMBER_EPOCH)

    # --- who is it --------------------------------------------------------------------------------

    def _find(self, request: ConsumerHeartbeat) -> ConsumerMember | None:
        """Return the member that sends this, or whose place it takes; None when it is new and welcome."""
        joins = request.member_epoch == _JOIN_EPOCH
        member = self.members.get(request.member_id)
        if request.instance_id is not None:
            holder = self.members.of_instance(request.instance_id)
            is_held = holder is not None and holder.classic is None and not holder.has_left
            if joins and is_held and holder is not member:
                raise refusal(ErrorCode.UNRELEASED_INSTANCE)
            if not joins and holder is not None and holder is not member:
                raise refusal(ErrorCode.FENCED_INSTANCE)
            if member is not None and member is not holder:
                raise refusal(ErrorCode.INVALID_REQUEST, "a member keeps the instance id it joined with")
            member = holder
        if member is None:
            if not joins:
                raise refusal(ErrorCode.UNKNOWN_MEMBER)
            if len(self.members) >= self.settings.group_max_size:
                raise refusal(ErrorCode.GROUP_FULL)
        elif not joins:
            self._check_member_epoch(member, request)
        return member

    def _check_member_epoch(self, member: ConsumerMember, request: ConsumerHeartbeat) -> None:
        if request.member_epoch == member.epoch:
            return
        # The answer that told it the new epoch may have been lost; then it has nothing that it was not given.
        lost = request.member_epoch == member.previous_epoch and request.member_epoch < member.epoch
        if not lost or request.owned is None or not within(request.owned, member.assigned):
            raise refusal(ErrorCode.FENCED_MEMBER_EPOCH)

    def _enter(
        self, request: ConsumerHeartbeat, known: ConsumerMember | None, fresh_id: str
    ) -> ConsumerMember:
        if known is None:
            member = ConsumerMember(request.member_id or fresh_id, request.instance_id)
            self.members.add(member)
            self._note(member)
            return member
        was_classic = known.classic is not None
        if was_classic:
            self._drop_classic(known)
        if request.member_epoch != _JOIN_EPOCH:
            return known
        if known.has_left or (was_classic and known.instance_id is not None):
            return self._replace(known, request.member_id or fresh_id)
        # It has given up everything, or its join was answered and the answer lost.
        self.members.stand(known, Standing(MemberState.STABLE, _JOIN_EPOCH, {}, {}))
        known.previous_epoch = _JOIN_EPOCH
        self._cancel(TimerKind.REVOKE, known)
        self._note(known)
        return known

    def _drop_classic(self, member: ConsumerMember) -> None:
        """A member of the classic protocol goes on with the other one."""
        self.members.speak(member, None)
        for kind in (TimerKind.JOIN, TimerKind.SYNC):
            self._cancel(kind, member)
        self._note(member)

    def _replace(self, former: ConsumerMember, member_id: str) -> ConsumerMember:
        """A static member is back, under whatever id: it goes on with what it had."""
        target, topics = former.target, former.topics
        self._forget(former)
        member = ConsumerMember(
            member_id,
            former.instance_id,
            former.rack_id,
            topic_names=former.topic_names,
            topic_pattern=former.topic_pattern,
            assignor=former.assignor,
            topics=topics,
            assigned=former.assigned,
            target=target,
        )
        self.members.add(member)
        self._note(member)
        return member

    def _describe(
        self, member: ConsumerMember, request: ConsumerHeartbeat, names: frozenset[str], pattern: str
    ) -> None:
        """Take over what a member says of itself."""
        says: dict[str, object] = {
            "client_id": request.client_id,
            "client_host": request.client_host,
            "principal": request.principal,
            "topic_names": names,
            "topic_pattern": pattern,
        }
        if request.rack_id is not None:
            says["rack_id"] = request.rack_id
        if request.rebalance_timeout_ms >= 0:
            says["rebalance_timeout_ms"] = request.rebalance_timeout_ms
        if request.assignor is not None and request.assignor != member.assignor:
            self.members.ask_for(member, request.assignor)
            self._note(member)
        for name, value in says.items():
            if getattr(member, name) != value:
                setattr(member, name, value)
                self._note(member)

    # --- leaving ----------------------------------------------------------------------------------

    def _leave(self, request: ConsumerHeartbeat) -> ConsumerHeartbeatAnswer:
        member = self.members.get(request.member_id)
        if request.instance_id is not None:
            holder = self.members.of_instance(request.instance_id)
            if holder is not None and holder is not member:
                raise refusal(ErrorCode.FENCED_INSTANCE)
            member = holder
        if member is None:
            raise refusal(ErrorCode.UNKNOWN_MEMBER)
        if request.member_epoch == LEFT_EPOCH:
            self.members.stand(member, Standing(MemberState.STABLE, LEFT_EPOCH, member.assigned, {}))
            self._cancel(TimerKind.REVOKE, member)
            self._set_session(member)
            self._note(member)
        else:
            self._remove(member)
        return ConsumerHeartbeatAnswer(member.member_id, request.member_epoch, 0)

    @property
    def is_only_classic(self) -> bool:
        """Whether there are members and none of them speaks the consumer protocol."""
        return 0 < len(self.members) == self.members.classics

    @property
    def turns_classic(self) -> bool:
        """Whether the group is to become a classic one, with the epoch it has."""
        return self.is_only_classic and self.settings.may_downgrade

    def _remove(self, member: ConsumerMember) -> None:
        self._forget(member)
        self._sizes = self._present_sizes()
        # The members of what is now a classic group still have to be known by the epoch they have.
        if not self.turns_classic:
            self._bump()

    def _forget(self, member: ConsumerMember) -> None:
        self.members.remove(member)
        self._note_removed(member)
        for kind in TimerKind:
            self._cancel(kind, member)

    def _resolve(self, member: ConsumerMember) -> frozenset[UUID]:
        """Return what a member subscribes to; as before when that cannot be told any more."""
        try:
            return self._view.resolve(
                member.topic_names, member.topic_pattern, member.principal, _plain(member.client_host)
            )
        except BrokerError:
            return member.topics

    # --- assigning --------------------------------------------------------------------------------

    def _present_sizes(self) -> dict[UUID, int]:
        """Return by topic how many partitions there are to be had."""
        return {topic: self._view.partitions(topic) for topic in self.members.subscribers}

    def _aim(self) -> None:
        """Make the target of the present group epoch.

        It costs time in proportion to the members, and a thousand that join together change the group a
        thousand times: a large group then rests for a millisecond a member before it makes the next.
        """
        members = list(self.members)
        wanted = ASSIGNORS[self.assignor](
            [Subscriber(one.member_id, one.instance_id, one.topics, one.target) for one in members],
            self._sizes,
        )
        self._take_targets(members, wanted)
        if len(members) > _LARGE_GROUP:
            self._rests = True
            self._actions.append(SetTimer(TimerKey(TimerKind.REST), len(members)))

    def _reconcile(self, member: ConsumerMember, owned: TopicAssignment | None) -> None:
        before = member.standing
        after = reconciled(before, member.target, self.assignment_epoch, owned, self.members.is_free)
        if after == before:
            return
        self.members.stand(member, after)
        if after.epoch != before.epoch:
            member.previous_epoch = before.epoch
        # Classic members are given time to join and to sync instead.
        if after.state is MemberState.UNREVOKED and member.classic is None:
            self._set_revocation(member)
        elif before.state is MemberState.UNREVOKED:
            self._cancel(TimerKind.REVOKE, member)
        self._note(member)

    # --- small steps ------------------------------------------------------------------------------

    def _answer(self, member: ConsumerMember, *, tells: bool) -> ConsumerHeartbeatAnswer:
        interval_ms = self.settings.consumer_heartbeat_interval_ms
        if self.epoch > self.assignment_epoch or member.state is MemberState.UNRELEASED:
            interval_ms = min(interval_ms, _SOON_MS)
        return ConsumerHeartbeatAnswer(
            member.member_id,
            member.epoch,
            interval_ms,
            member.assigned if tells else None,
        )

    def _set_session(self, member: ConsumerMember) -> None:
        classic = member.classic
        delay_ms = (
            self.settings.consumer_session_timeout_ms if classic is None else classic.session_timeout_ms
        )
        self._set_timer(TimerKind.SESSION, member, delay_ms)

    def _set_revocation(self, member: ConsumerMember) -> None:
        self._set_timer(TimerKind.REVOKE, member, member.rebalance_timeout_ms)


def _plain(client_host: str) -> str:
    """Return the address in what Kafka's tools show of it."""
    return client_host.removeprefix("/")
