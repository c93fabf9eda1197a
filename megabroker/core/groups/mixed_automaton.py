"""Members of the classic protocol in a group of the consumer protocol, while it is upgraded (KIP-848).

Owns what such members ask: to them the group is one whose leader is the broker. A join is answered at once,
with the member's epoch as its generation, and nobody leads; the sync that follows brings what the member may
consume now. What is to be given up is missing there: a cooperative member then gives it up and joins again by
itself, an eager one has given up everything before it joined. Heartbeats tell a member to join when there is
something new for it. Must never decide who gets what, which is the automaton's below.

A member that was told to join, or to sync, has its rebalance timeout for it. Source: KIP-848 ("Upgrade") and
the behaviour of Apache Kafka 4.

Invariant: what a classic member consumes is assigned to it or being revoked from it, as it tells with its
join what it still owns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from megabroker.core.groups.actions import SetTimer, TimerKey, TimerKind
from megabroker.core.groups.consumer_automaton import ConsumerGroupAutomaton
from megabroker.core.groups.consumer_members import ClassicSide, ConsumerMember
from megabroker.core.groups.errors import MemberIdRequired, refusal
from megabroker.core.groups.members import rebalance_timeout_ms
from megabroker.core.groups.reconciliation import MemberState
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import (
    JoinedGroup,
    JoinRequest,
    LeavingMember,
    Subscription,
    SyncRequest,
    TopicAssignment,
)

__all__ = ["CONSUMER", "MixedGroupAutomaton"]

CONSUMER = "consumer"
"""The protocol type of consumers, the only one whose members can be among those of the consumer protocol."""


class MixedGroupAutomaton(ConsumerGroupAutomaton):
    """A group of the consumer protocol that takes classic members too."""

    # --- joining ----------------------------------------------------------------------------------

    def classic_join(self, request: JoinRequest, subscription: Subscription, fresh_id: str) -> JoinedGroup:
        """A classic member joins or joins again.

        Args:
            subscription: what it says in the metadata of the protocol it prefers.
            fresh_id: becomes the id of a member that joins without one.

        Raises:
            BrokerError: refused, and nothing has changed; MemberIdRequired among them.
        """
        known = self._find_classic(request)
        names = [name for name, _ in request.protocols]
        if request.protocol_type != CONSUMER or not self.members.supports_any(names, known):
            raise refusal(ErrorCode.INCONSISTENT_PROTOCOL)
        if not request.member_id and request.require_known_member_id:
            raise MemberIdRequired(fresh_id)
        owned = self._owned(subscription.owned)
        if known is None and owned:
            # It was removed and does not know yet: what it still consumes may be another's by now.
            raise refusal(ErrorCode.UNKNOWN_MEMBER)
        topics = self._view.resolve(subscription.topics, "")
        member = self._enter_classic(request, known, fresh_id)
        subscribes = (member.topic_names, member.topic_pattern) != (subscription.topics, "")
        self._describe_classic(member, request, subscription)
        if subscribes:
            self.members.subscribe(member, topics)
            self._sizes = self._present_sizes()
        if self.turns_classic:
            # The group keeps the epoch that the others know; its first rebalance begins now.
            return JoinedGroup(self.epoch, CONSUMER, names[0], "", member.member_id)
        if subscribes or known is None:
            self._bump()
        if self.epoch > self.assignment_epoch:
            self._aim()
        self._reconcile(member, owned)
        self._set_session(member)
        self._cancel(TimerKind.JOIN, member)
        self._await(TimerKind.SYNC, member)
        return JoinedGroup(member.epoch, CONSUMER, names[0], "", member.member_id)

    def _find_classic(self, request: JoinRequest) -> ConsumerMember | None:
        """Return the member that joins again, or whose place is taken; None when it is new and welcome."""
        member = self.members.get(request.member_id)
        if request.instance_id is not None:
            holder = self.members.of_instance(request.instance_id)
            if request.member_id and (holder is None or holder is not member):
                raise refusal(ErrorCode.UNKNOWN_MEMBER if holder is None else ErrorCode.FENCED_INSTANCE)
            member = holder
        if member is None and len(self.members) >= self.settings.group_max_size:
            raise refusal(ErrorCode.GROUP_FULL)
        return member

    def _enter_classic(
        self, request: JoinRequest, known: ConsumerMember | None, fresh_id: str
    ) -> ConsumerMember:
        if known is None:
            member = ConsumerMember(request.member_id or fresh_id, request.instance_id)
            self.members.add(member)
            return member
        # With an instance id and no other it is another process, which owns nothing yet.
        return known if request.member_id else self._replace(known, fresh_id)

    def _describe_classic(
        self, member: ConsumerMember, request: JoinRequest, subscription: Subscription
    ) -> None:
        """Take over what a classic member says of itself."""
        side = ClassicSide(request.session_timeout_ms, subscription.version, request.protocols)
        if member.classic != side:
            self.members.speak(member, side)
        self.members.ask_for(member, "")
        self._cancel(TimerKind.REVOKE, member)
        member.client_id, member.client_host = request.client_id, request.client_host
        member.rack_id = subscription.rack_id or member.rack_id
        member.rebalance_timeout_ms = rebalance_timeout_ms(request)
        member.topic_names, member.topic_pattern = subscription.topics, ""
        self._note(member)

    def _owned(self, partitions: Mapping[str, frozenset[int]]) -> dict[UUID, frozenset[int]]:
        """Return what a member owns of the topics there are."""
        owned: dict[UUID, frozenset[int]] = {}
        for name, indexes in partitions.items():
            for topic in self._view.resolve([name], ""):
                owned[topic] = indexes
        return owned

    # --- syncing, living, leaving -----------------------------------------------------------------

    def classic_sync(self, request: SyncRequest) -> tuple[str, int, TopicAssignment]:
        """A classic member asks what it may consume; return protocol name, format version and partitions.

        Raises:
            BrokerError: it is not who or where it thinks; REBALANCE_IN_PROGRESS tells it to join again.
        """
        member, side = self._classic_in_epoch(request.member_id, request.instance_id, request.generation)
        name = side.protocols[0][0]
        if request.protocol_type not in (None, CONSUMER) or request.protocol_name not in (None, name):
            raise refusal(ErrorCode.INCONSISTENT_PROTOCOL)
        if member.epoch < self.epoch and member.state is not MemberState.UNREVOKED:
            self._await(TimerKind.JOIN, member)
            raise refusal(ErrorCode.REBALANCE_IN_PROGRESS)
        self._cancel(TimerKind.SYNC, member)
        self._set_session(member)
        return name, side.version, member.assigned

    def classic_heartbeat(self, generation: int, member_id: str, instance_id: str | None) -> None:
        """A classic member is alive.

        Raises:
            BrokerError: it is not who or where it thinks; REBALANCE_IN_PROGRESS tells it to join again.
        """
        member, _ = self._classic_in_epoch(member_id, instance_id, generation)
        self._set_session(member)
        if member.epoch < self.epoch or member.state is MemberState.UNREVOKED or self._may_have_more(member):
            self._await(TimerKind.JOIN, member)
            raise refusal(ErrorCode.REBALANCE_IN_PROGRESS)

    def _may_have_more(self, member: ConsumerMember) -> bool:
        """Whether what others have let go is all there, so that joining again completes the assignment."""
        return member.state is MemberState.UNRELEASED and all(
            self.members.is_free(topic, index)
            for topic, indexes in member.target.items()
            for index in indexes - member.assigned.get(topic, frozenset())
        )

    def classic_leave(self, leaving: Sequence[LeavingMember]) -> list[BrokerError | None]:
        """Members want out by the classic request, which removes members of either kind; one outcome each."""
        outcomes: list[BrokerError | None] = []
        gone = False
        for one in leaving:
            try:
                member_id = one.member_id
                if not member_id and one.instance_id is not None:
                    member_id = self.members.by_instance.get(one.instance_id, "")
                self._forget(self._known(member_id, one.instance_id))
                gone = True
                outcomes.append(None)
            except BrokerError as error:
                outcomes.append(error)
        if gone:
            self._sizes = self._present_sizes()
            if not self.turns_classic:
                self._bump()
        return outcomes

    # --- small steps ------------------------------------------------------------------------------

    def _known(self, member_id: str, instance_id: str | None) -> ConsumerMember:
        member = self.members.get(member_id)
        if instance_id is not None:
            holder = self.members.of_instance(instance_id)
            if holder is not None and holder is not member:
                raise refusal(ErrorCode.FENCED_INSTANCE)
            member = holder
        if member is None:
            raise refusal(ErrorCode.UNKNOWN_MEMBER)
        return member

    def _classic(self, member_id: str, instance_id: str | None) -> tuple[ConsumerMember, ClassicSide]:
        member = self._known(member_id, instance_id)
        if member.classic is None:
            raise refusal(ErrorCode.UNKNOWN_MEMBER)
        return member, member.classic

    def _classic_in_epoch(
        self, member_id: str, instance_id: str | None, generation: int
    ) -> tuple[ConsumerMember, ClassicSide]:
        member, side = self._classic(member_id, instance_id)
        if generation != member.epoch:
            raise refusal(ErrorCode.ILLEGAL_GENERATION)
        return member, side

    def _await(self, kind: TimerKind, member: ConsumerMember) -> None:
        """Remove the member unless it comes in time; from when it was told first."""
        key = TimerKey(kind, member.member_id)
        self._actions.append(SetTimer(key, member.rebalance_timeout_ms, keep=kind is TimerKind.JOIN))
