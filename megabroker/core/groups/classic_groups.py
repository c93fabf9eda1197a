"""One classic group beside its automaton, and the carrying out of what automata want done.

Owns the table ``groups`` and the timers of classic groups. Must never decide anything about members.

Table ``groups``, one row per group that had members: key the group id, value ``{"generation": int,
"protocol_type": str, "empty_since_ms": int or null}``. It is written when a generation begins, and nobody
is told of the generation before that is committed: members do not survive a restart, so the row only keeps
generations from being used twice and the retention of offsets from starting over. If it cannot be written,
those who joined are told to ask again.

Invariant: actions are carried out in the order the automata gave them, also when a Deferred's callback
calls back into the service.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.core.groups.actions import Action, Answer, CancelTimer, Persist, SetTimer, TimerKey
from megabroker.core.groups.automaton import GroupAutomaton, GroupState
from megabroker.core.groups.offsets import OrderedWrites
from megabroker.core.timers import TimerHandle, TimerWheel
from megabroker.errors import BrokerError, ErrorCode, StateError
from megabroker.model import Change, GroupDescription, GroupMember, JoinedGroup

__all__ = ["GROUPS_TABLE", "ActionCarrier", "ClassicGroup"]

GROUPS_TABLE = "groups"

_log = Logger()


class ClassicGroup:
    """One automaton and what is kept for it."""

    __slots__ = (
        "automaton",
        "counted",
        "dead",
        "empty_since_ms",
        "group_id",
        "held",
        "stored",
        "storing",
        "timers",
    )

    def __init__(self, group_id: str, automaton: GroupAutomaton, empty_since_ms: int) -> None:
        self.group_id = group_id
        self.automaton = automaton
        self.empty_since_ms = empty_since_ms
        self.timers: dict[TimerKey, TimerHandle] = {}
        self.dead = False
        self.counted = automaton.generation  # the last that is among the rebalances
        self.stored = automaton.generation  # the last that is in a row
        self.storing = 0  # rows under way
        self.held: list[Answer] = []  # those that tell of a generation which is not

    def end(self) -> None:
        """Set no timers any more."""
        self.dead = True
        for timer in self.timers.values():
            timer.cancel()
        self.timers.clear()

    def row(self) -> Change:
        """Return the change that keeps its generation."""
        automaton = self.automaton
        return Change(
            GROUPS_TABLE,
            self.group_id,
            {
                "generation": automaton.generation,
                "protocol_type": automaton.protocol_type,
                "empty_since_ms": None if automaton.members else self.empty_since_ms,
            },
        )

    def description(self) -> GroupDescription:
        """Describe the group: the assignments in force, and the metadata while the group is stable."""
        automaton = self.automaton
        stable = automaton.state is GroupState.STABLE
        members = tuple(
            GroupMember(
                member.member_id,
                member.instance_id,
                member.client_id,
                member.client_host,
                member.metadata(automaton.protocol_name) if stable else b"",
                member.assignment,
            )
            for member in automaton.members
        )
        protocol_name = (automaton.protocol_name or "") if stable else ""
        return GroupDescription(
            self.group_id, automaton.state.value, automaton.protocol_type, protocol_name, members
        )


class ActionCarrier:
    """Does what automata want done.

    Args:
        timer_fired: called when a timer has given its automaton something to do.

    Attributes:
        rebalances: how many generations have begun.
    """

    def __init__(
        self, timers: TimerWheel, writes: OrderedWrites, timer_fired: Callable[[ClassicGroup], None]
    ) -> None:
        self._timers = timers
        self._writes = writes
        self._after_timer = timer_fired
        self._actions: deque[tuple[ClassicGroup, Action]] = deque()
        self._acting = False
        self.rebalances = 0

    def carry_out(self, group: ClassicGroup) -> None:
        """Queue what the automaton wants done; whoever is outermost does it, in order."""
        self.rebalances += group.automaton.generation - group.counted
        group.counted = group.automaton.generation
        self._actions.extend((group, action) for action in group.automaton.take_actions())
        if not self._acting:
            self._acting = True
            try:
                while self._actions:
                    owner, action = self._actions.popleft()
                    _CARRIERS[type(action)](self, owner, action)
            finally:
                self._acting = False

    def _do_answer(self, group: ClassicGroup, action: Answer) -> None:
        result = action.result
        if not isinstance(result, JoinedGroup) or result.generation <= group.stored:
            self._answer(action)
            return
        group.held.append(action)
        if not group.storing:
            self._store(group, result.generation, group.row())

    def _answer(self, action: Answer) -> None:
        ticket: Deferred[Any] = action.ticket
        if not ticket.called:
            if isinstance(action.result, BrokerError):
                ticket.errback(action.result)
            else:
                ticket.callback(action.result)

    def _do_set_timer(self, group: ClassicGroup, action: SetTimer) -> None:
        key = action.key
        self._do_cancel_timer(group, CancelTimer(key))
        if not group.dead:
            group.timers[key] = self._timers.call_later(
                action.delay_ms, lambda: self._timer_fired(group, key)
            )

    def _do_cancel_timer(self, group: ClassicGroup, action: CancelTimer) -> None:
        timer = group.timers.pop(action.key, None)
        if timer is not None:
            timer.cancel()

    def _timer_fired(self, group: ClassicGroup, key: TimerKey) -> None:
        del group.timers[key]
        group.automaton.timer_fired(key)
        self._after_timer(group)

    def _do_persist(self, group: ClassicGroup, action: Persist) -> None:
        if group.dead:
            return  # what was stored of it went with it
        group.empty_since_ms = self._timers.now_ms()
        row = {
            "generation": action.generation,
            "protocol_type": action.protocol_type,
            "empty_since_ms": group.empty_since_ms if action.empty else None,
        }
        self._store(group, action.generation, Change(GROUPS_TABLE, group.group_id, row))

    def _store(self, group: ClassicGroup, generation: int, row: Change) -> None:
        group.storing += 1
        written = self._writes.write([row], lambda: None)
        written.addCallbacks(lambda _: None, _generation_failed).addCallback(self._stored, group, generation)

    def _stored(self, refusal: BrokerError | None, group: ClassicGroup, generation: int) -> None:
        """A row is written, or could not be: tell those who wait for it."""
        group.storing -= 1
        if refusal is None:
            group.stored = max(group.stored, generation)
        held, group.held = group.held, []
        for action in held:
            if isinstance(action.result, JoinedGroup) and action.result.generation <= group.stored:
                self._answer(action)
            elif group.storing or refusal is None:
                group.held.append(action)
            else:
                self._answer(action._replace(result=refusal))


_CARRIERS: dict[type[Any], Callable[[ActionCarrier, ClassicGroup, Any], None]] = {
    Answer: ActionCarrier._do_answer,
    SetTimer: ActionCarrier._do_set_timer,
    CancelTimer: ActionCarrier._do_cancel_timer,
    Persist: ActionCarrier._do_persist,
}


def _generation_failed(failure: Failure) -> BrokerError:
    _log.error("could not store a group's generation: {error}", error=failure.getErrorMessage())
    return StateError(
        ErrorCode.COORDINATOR_LOADING, "the generation of the group could not be stored", retriable=True
    )
