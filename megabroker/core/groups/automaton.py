"""The classic consumer group as a state machine.

Owns the state of one group: generation, members, who waits for what. Takes events and returns nothing but
refusals; what is to be done about the world gathers as actions, taken with ``take_actions``. Must never
know a clock, a Deferred, a store or a wire: the same events give the same actions.

    Empty --join--> PreparingRebalance --all joined, or time is up--> CompletingRebalance --leader's sync-->
    Stable --join, leave, expiry--> PreparingRebalance ... --nobody left--> Empty

The rules are those of Apache Kafka's classic groups with KIP-62 (rebalance timeout), KIP-134 (initial
delay), KIP-345 (static members), KIP-394 (known member id), KIP-814 (skipped assignment).

Invariant: between events every ticket taken in is held by exactly one member or has been given back in one
``Answer``; the generation never decreases; in CompletingRebalance and Stable no join waits, in Stable and
PreparingRebalance no sync waits.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence

from megabroker.core.groups.actions import (
    Action,
    Answer,
    CancelTimer,
    Persist,
    SetTimer,
    Ticket,
    TimerKey,
    TimerKind,
)
from megabroker.core.groups.errors import MemberIdRequired, refusal
from megabroker.core.groups.members import Member, Members, rebalance_timeout_ms
from megabroker.core.groups.settings import GroupSettings
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import JoinedGroup, JoinRequest, LeavingMember, SyncedGroup, SyncRequest

__all__ = ["GroupAutomaton", "GroupState"]

_JOIN = TimerKey(TimerKind.JOIN)
_SYNC = TimerKey(TimerKind.SYNC)

_RETRY_FLOOR_MS = 1000
"""Least wait for static members that stay away, so that a rebalance timeout of 0 does not spin."""


class GroupState(enum.Enum):
    """The values are Kafka's words."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


class GroupAutomaton:
    """One group.

    Args:
        generation: the last one known before a restart.
        protocol_type: likewise; empty for a group that never had members.
    """

    def __init__(self, settings: GroupSettings, generation: int = 0, protocol_type: str = "") -> None:
        self.settings = settings
        self.state = GroupState.EMPTY
        self.generation = generation
        self.protocol_type = protocol_type
        self.protocol_name: str | None = None
        self.members = Members()
        self.pending: set[str] = set()
        self._unsynced: set[str] = set()
        self._initial = False
        self._member_added = False
        self._initial_left_ms = 0
        self._actions: list[Action] = []

    def take_actions(self) -> list[Action]:
        """Return what is to be done since the last call, in order."""
        actions, self._actions = self._actions, []
        return actions

    def take_over(self, members: Sequence[Member]) -> None:
        """Begin with the members of a group of the consumer protocol, and with a rebalance of them."""
        for member in members:
            self.members.add(member)
            self._set_session(member.member_id, member.session_timeout_ms)
        self.state = GroupState.STABLE
        self.protocol_name = self.members.select_protocol()
        self._prepare_rebalance()

    @property
    def vacant(self) -> bool:
        """Whether nobody is in the group, nor about to be."""
        return self.state is GroupState.EMPTY and not self.pending

    # --- joining ----------------------------------------------------------------------------------

    def join(self, request: JoinRequest, ticket: Ticket, fresh_id: str) -> None:
        """A member wants in; ``ticket`` is answered now or when the rebalance completes.

        Args:
            fresh_id: never used before; becomes the member's when it has none.
        """
        error = self._refuse_join(request)
        if error is not None:
            self._answer(ticket, error)
        elif request.member_id:
            self._join_again(request, ticket)
        elif request.instance_id is not None and request.instance_id in self.members.by_instance:
            self._replace_static(request, ticket, fresh_id)
        elif request.instance_id is None and request.require_known_member_id:
            self.pending.add(fresh_id)
            self._set_session(fresh_id, request.session_timeout_ms)
            self._answer(ticket, MemberIdRequired(fresh_id))
        else:
            self._add_member(request, ticket, fresh_id)

    def _refuse_join(self, request: JoinRequest) -> BrokerError | None:
        if not self._has_room_for(request):
            member = self.members.get(request.member_id)
            if request.member_id in self.pending:
                self._drop_pending(request.member_id)
            if member is not None:
                self._remove(member, ErrorCode.UNKNOWN_MEMBER)
            self._maybe_complete_join()
            return refusal(ErrorCode.GROUP_FULL)
        if not request.protocol_type or not request.protocols:
            return refusal(ErrorCode.INCONSISTENT_PROTOCOL)
        if self.members and (
            request.protocol_type != self.protocol_type or not self.members.supports_any(request.protocols)
        ):
            return refusal(ErrorCode.INCONSISTENT_PROTOCOL)
        return None

    def _has_room_for(self, request: JoinRequest) -> bool:
        """Whether the group may have the member.

        During a rebalance those who wait count, so that the last to rejoin a shrunk group are left out, and
        static members that are away, because they stay in the group.
        """
        limit = self.settings.group_max_size
        member = self.members.get(request.member_id)
        if request.instance_id is not None and request.instance_id in self.members.by_instance:
            return True
        if not request.member_id and len(self.pending) >= limit:
            return False
        if self.state is GroupState.PREPARING:
            if member is not None and member.join_ticket is not None:
                return True
            return self.members.awaiting + self.members.away < limit
        return member is not None or len(self.members) < limit

    def _join_again(self, request: JoinRequest, ticket: Ticket) -> None:
        if request.member_id in self.pending and request.instance_id is None:
            self._add_member(request, ticket, request.member_id)
            return
        try:
            member = self._member(request.member_id, request.instance_id)
        except BrokerError as error:
            self._answer(ticket, error)
            return
        unchanged = member.protocols == request.protocols
        leads = member.member_id == self.members.leader
        if self.state is GroupState.COMPLETING and unchanged:
            # The answer to its join was lost: nothing changes for the others.
            self._answer(ticket, self._joined(member))
        elif self.state is GroupState.STABLE and unchanged and not leads:
            self._answer(ticket, self._joined(member))
        else:
            self._update(member, request, ticket)
            self._rebalance_or_complete_join()

    def _add_member(self, request: JoinRequest, ticket: Ticket, member_id: str) -> None:
        self.pending.discard(member_id)
        if not self.members:
            self.protocol_type = request.protocol_type
        member = Member(
            member_id,
            request.instance_id,
            request.client_id,
            request.client_host,
            request.session_timeout_ms,
            rebalance_timeout_ms(request),
            request.protocols,
            is_new=True,
            join_ticket=ticket,
        )
        self.members.add(member)
        self._member_added = True
        # Its connection may be gone and it may not know its id: a retry would leave it here for good.
        self._set_session(member_id, self.settings.new_member_join_timeout_ms)
        self._rebalance_or_complete_join()

    def _update(self, member: Member, request: JoinRequest, ticket: Ticket) -> None:
        self.members.update(member, request, rebalance_timeout_ms(request))
        before = self.members.set_join_ticket(member, ticket)
        if before is not None:
            self._answer(before, refusal(ErrorCode.REBALANCE_IN_PROGRESS))

    def _replace_static(self, request: JoinRequest, ticket: Ticket, fresh_id: str) -> None:
        """A static member came back without its id: it takes over the place of its former self."""
        former_leader = self.members.leader
        old_id = self.members.by_instance[request.instance_id or ""]
        member = self.members.get(old_id)
        assert member is not None
        self._answer_waiting(member, ErrorCode.FENCED_INSTANCE)
        self._cancel(TimerKey(TimerKind.SESSION, old_id))
        self._unsynced.discard(old_id)
        self.members.rename(member, fresh_id)
        self._update(member, request, ticket)
        self._set_session(fresh_id, member.session_timeout_ms)
        if self.state is GroupState.STABLE and self.members.select_protocol() == self.protocol_name:
            self.members.set_join_ticket(member, None)
            self._answer(ticket, self._rejoined_static(member, request, former_leader))
        else:
            self._rebalance_or_complete_join()

    def _rejoined_static(self, member: Member, request: JoinRequest, former_leader: str) -> JoinedGroup:
        """Before KIP-814 a leader cannot be told to skip assigning: it is named a leader that it is not."""
        leads = member.member_id == self.members.leader
        if request.supports_skipping_assignment:
            return self._joined(member, skip_assignment=leads)
        return JoinedGroup(
            self.generation, self.protocol_type, self.protocol_name, former_leader, member.member_id
        )

    def _joined(self, member: Member, *, skip_assignment: bool = False) -> JoinedGroup:
        leads = member.member_id == self.members.leader
        return JoinedGroup(
            self.generation,
            self.protocol_type,
            self.protocol_name,
            self.members.leader,
            member.member_id,
            self.members.for_leader(self.protocol_name) if leads else (),
            skip_assignment,
        )

    # --- the rebalance ----------------------------------------------------------------------------

    def _rebalance_or_complete_join(self) -> None:
        if self.state is GroupState.PREPARING:
            self._maybe_complete_join()
        else:
            self._prepare_rebalance()

    def _prepare_rebalance(self) -> None:
        if self.state is GroupState.COMPLETING:
            for member in self.members:
                member.assignment = b""
                self._answer_sync(member, lambda _: refusal(ErrorCode.REBALANCE_IN_PROGRESS))
        self._cancel(_SYNC)
        self._unsynced.clear()
        self._initial = self.state is GroupState.EMPTY
        self.state = GroupState.PREPARING
        if self._initial:
            delay_ms = self.settings.initial_rebalance_delay_ms
            self._member_added = False
            self._initial_left_ms = max(self.members.rebalance_timeout_ms() - delay_ms, 0)
            self._actions.append(SetTimer(_JOIN, delay_ms))
        elif self._all_joined():
            self._complete_join()
        else:
            self._actions.append(SetTimer(_JOIN, self.members.rebalance_timeout_ms()))

    def _all_joined(self) -> bool:
        return len(self.members) <= self.members.awaiting and not self.pending

    def _maybe_complete_join(self) -> None:
        if self.state is GroupState.PREPARING and not self._initial and self._all_joined():
            self._complete_join()

    def _join_time_is_up(self) -> None:
        if self.state is not GroupState.PREPARING:
            return
        delay_ms = min(self.settings.initial_rebalance_delay_ms, self._initial_left_ms)
        if self._initial and self._member_added and delay_ms > 0:
            self._member_added = False
            self._initial_left_ms -= delay_ms
            self._actions.append(SetTimer(_JOIN, delay_ms))
        else:
            self._complete_join()

    def _complete_join(self) -> None:
        """Begin the next generation with those who joined, and with static members who may come back."""
        self._cancel(_JOIN)
        self._initial = False
        for member in self.members:
            if member.join_ticket is None and member.instance_id is None:
                self._remove(member, ErrorCode.UNKNOWN_MEMBER)
        if self.members and not self.members.elect_joined_leader():
            delay_ms = max(self.members.rebalance_timeout_ms(), _RETRY_FLOOR_MS)
            self._actions.append(SetTimer(_JOIN, delay_ms))
            return
        self.generation += 1
        self.protocol_name = self.members.select_protocol()
        self._actions.append(Persist(self.generation, self.protocol_type, not self.members))
        if not self.members:
            self.state = GroupState.EMPTY
            return
        self.state = GroupState.COMPLETING
        for member in self.members:
            self._unsynced.add(member.member_id)
            self._set_session(member.member_id, member.session_timeout_ms)
            member.is_new = False
            ticket = self.members.set_join_ticket(member, None)
            if ticket is not None:
                self._answer(ticket, self._joined(member))
        self._actions.append(SetTimer(_SYNC, self.members.rebalance_timeout_ms()))

    def _sync_time_is_up(self) -> None:
        """Whoever has not asked for its assignment is gone, the leader included."""
        missing = [member for member in self.members if member.member_id in self._unsynced]
        for member in missing:
            self._remove(member, ErrorCode.UNKNOWN_MEMBER)
        if missing:
            self._prepare_rebalance()

    # --- syncing ----------------------------------------------------------------------------------

    def sync(self, request: SyncRequest, ticket: Ticket) -> None:
        """A member asks for its assignment; ``ticket`` is answered now or with the leader's sync."""
        try:
            member = self._member(request.member_id, request.instance_id)
            self._check_sync(request)
        except BrokerError as error:
            self._answer(ticket, error)
            return
        self._synced(member.member_id)
        if self.state is GroupState.STABLE:
            self._set_session(member.member_id, member.session_timeout_ms)
            self._answer(ticket, self._assignment(member))
            return
        before, member.sync_ticket = member.sync_ticket, ticket
        if before is not None:
            self._answer(before, refusal(ErrorCode.REBALANCE_IN_PROGRESS))
        if member.member_id == self.members.leader:
            self._assign(request.assignments)

    def _check_sync(self, request: SyncRequest) -> None:
        if request.generation != self.generation:
            raise refusal(ErrorCode.ILLEGAL_GENERATION)
        if request.protocol_type not in (None, self.protocol_type):
            raise refusal(ErrorCode.INCONSISTENT_PROTOCOL)
        if request.protocol_name not in (None, self.protocol_name):
            raise refusal(ErrorCode.INCONSISTENT_PROTOCOL)
        if self.state is GroupState.PREPARING:
            raise refusal(ErrorCode.REBALANCE_IN_PROGRESS)

    def _synced(self, member_id: str) -> None:
        self._unsynced.discard(member_id)
        if not self._unsynced:
            self._cancel(_SYNC)

    def _assign(self, assignments: Mapping[str, bytes]) -> None:
        self.state = GroupState.STABLE
        for member in self.members:
            member.assignment = assignments.get(member.member_id, b"")
            self._answer_sync(member, self._assignment)

    def _assignment(self, member: Member) -> SyncedGroup:
        return SyncedGroup(self.protocol_type, self.protocol_name, member.assignment)

    # --- living and leaving -----------------------------------------------------------------------

    def heartbeat(self, generation: int, member_id: str, instance_id: str | None) -> None:
        """A member is alive.

        Raises:
            BrokerError: it is not who or where it thinks; REBALANCE_IN_PROGRESS tells it to join again.
        """
        member = self._member(member_id, instance_id)
        if generation != self.generation:
            raise refusal(ErrorCode.ILLEGAL_GENERATION)
        self._set_session(member_id, member.session_timeout_ms)
        if self.state is GroupState.PREPARING:
            raise refusal(ErrorCode.REBALANCE_IN_PROGRESS)

    def leave(self, leaving: Sequence[LeavingMember]) -> list[BrokerError | None]:
        """Members want out; return one outcome each."""
        before = len(self.members)
        outcomes = [self._leave(member) for member in leaving]
        if len(self.members) != before:
            self._rebalance_or_complete_join()
        else:
            self._maybe_complete_join()
        return outcomes

    def _leave(self, leaving: LeavingMember) -> BrokerError | None:
        if leaving.member_id in self.pending and leaving.instance_id is None:
            self._drop_pending(leaving.member_id)
            return None
        member_id = leaving.member_id
        if not member_id and leaving.instance_id is not None:
            member_id = self.members.by_instance.get(leaving.instance_id, "")
        try:
            self._remove(self._member(member_id, leaving.instance_id), ErrorCode.UNKNOWN_MEMBER)
        except BrokerError as error:
            return error
        return None

    def check_commit(
        self, generation: int, member_id: str, instance_id: str | None, *, transactional: bool = False
    ) -> None:
        """Raise BrokerError unless this member may commit offsets now; a commit keeps its session alive.

        A commit within a transaction may come from a producer that does not say which member it works for,
        and during a rebalance (KIP-447).
        """
        if generation < 0 and self.state is GroupState.EMPTY:
            return
        if generation < 0 and not member_id and instance_id is None:
            if transactional:
                return
            raise refusal(ErrorCode.UNKNOWN_MEMBER)
        member = self._member(member_id, instance_id)
        if generation != self.generation:
            raise refusal(ErrorCode.ILLEGAL_GENERATION)
        if self.state is GroupState.COMPLETING:
            if transactional:
                return
            raise refusal(ErrorCode.REBALANCE_IN_PROGRESS)
        self._set_session(member_id, member.session_timeout_ms)

    def timer_fired(self, key: TimerKey) -> None:
        """A timer set by an action, and not cancelled since, has run out."""
        if key == _JOIN:
            self._join_time_is_up()
        elif key == _SYNC:
            self._sync_time_is_up()
        else:
            self._session_expired(key.member_id)

    def _session_expired(self, member_id: str) -> None:
        if member_id in self.pending:
            self._drop_pending(member_id)
            self._maybe_complete_join()
            return
        member = self.members.get(member_id)
        waits = member is not None and (member.join_ticket is not None or member.sync_ticket is not None)
        # Who waits for an answer cannot send heartbeats; answering it sets the timer again.
        if member is not None and (member.is_new or not waits):
            self._remove(member, ErrorCode.UNKNOWN_MEMBER)
            self._rebalance_or_complete_join()

    def abandon(self, error: Callable[[], BrokerError]) -> None:
        """Answer everybody who waits; the group is not to be used after."""
        for member in self.members:
            for ticket in (self.members.set_join_ticket(member, None), member.sync_ticket):
                if ticket is not None:
                    self._answer(ticket, error())
            member.sync_ticket = None

    # --- small steps ------------------------------------------------------------------------------

    def _member(self, member_id: str, instance_id: str | None) -> Member:
        if instance_id is not None:
            holder = self.members.by_instance.get(instance_id)
            if holder is not None and holder != member_id:
                raise refusal(ErrorCode.FENCED_INSTANCE)
            if holder is None:
                raise refusal(ErrorCode.UNKNOWN_MEMBER)
        member = self.members.get(member_id)
        if member is None:
            raise refusal(ErrorCode.UNKNOWN_MEMBER)
        return member

    def _remove(self, member: Member, code: ErrorCode) -> None:
        self._answer_waiting(member, code)
        self.members.remove(member)
        self._unsynced.discard(member.member_id)
        self._cancel(TimerKey(TimerKind.SESSION, member.member_id))

    def _drop_pending(self, member_id: str) -> None:
        self.pending.discard(member_id)
        self._cancel(TimerKey(TimerKind.SESSION, member_id))

    def _answer_waiting(self, member: Member, code: ErrorCode) -> None:
        join_ticket = self.members.set_join_ticket(member, None)
        sync_ticket, member.sync_ticket = member.sync_ticket, None
        for ticket in (join_ticket, sync_ticket):
            if ticket is not None:
                self._answer(ticket, refusal(code))

    def _answer_sync(self, member: Member, result: Callable[[Member], SyncedGroup | BrokerError]) -> None:
        ticket, member.sync_ticket = member.sync_ticket, None
        if ticket is not None:
            self._set_session(member.member_id, member.session_timeout_ms)
            self._answer(ticket, result(member))

    def _answer(self, ticket: Ticket, result: JoinedGroup | SyncedGroup | BrokerError) -> None:
        self._actions.append(Answer(ticket, result))

    def _set_session(self, member_id: str, delay_ms: int) -> None:
        self._actions.append(SetTimer(TimerKey(TimerKind.SESSION, member_id), delay_ms))

    def _cancel(self, key: TimerKey) -> None:
        self._actions.append(CancelTimer(key))
