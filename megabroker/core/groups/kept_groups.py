"""Groups whose members outlive a restart: the timers of their automata, and what is stored of them.

Owns what the services of such groups (consumer, streams, share) do alike: one row a group and one a member in
a table, an answer that leaves when what it says is stored, timers set and cancelled as automata want, a look
at the topics now and then while there are members. Must never decide who is a member.

A table has key ``["<group>"]`` for a group's head, as the service says, and ``["<group>","<member>"]`` for a
member, as it says itself.

Invariant: what an automaton has changed is stored in the order it changed; what could not be stored is stored
with the next change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.core.groups.actions import CancelTimer, SetTimer, TimerKey
from megabroker.core.groups.consumer_topics import TopicsView
from megabroker.core.groups.offsets import OrderedWrites
from megabroker.core.groups.outbox import Changes, KeptMember
from megabroker.core.timers import TimerHandle, TimerWheel
from megabroker.model import Change

__all__ = ["KeptAutomaton", "KeptGroup", "KeptGroups"]

_log = Logger()


class KeptAutomaton(Protocol):
    """What the rules of a group are asked; ``outbox.Outbox`` has most of it."""

    epoch: int

    def take_actions(self) -> list[SetTimer | CancelTimer]: ...

    def take_changes(self) -> Changes: ...

    def give_back(self, changes: Changes) -> None: ...

    @property
    def removed(self) -> frozenset[str]: ...

    def member_ids(self) -> Collection[str]: ...

    def kept_member(self, member_id: str) -> KeptMember | None: ...

    def timer_fired(self, key: TimerKey) -> None: ...

    def topics_changed(self) -> bool: ...


A = TypeVar("A", bound=KeptAutomaton)
H = TypeVar("H")
M = TypeVar("M")


class KeptGroup(Generic[A]):
    """One automaton and what is kept for it.

    Attributes:
        writes: how many are on their way to the store.
        dead: whether it has been forgotten.
    """

    __slots__ = ("automaton", "counted", "dead", "empty_since_ms", "group_id", "timers", "writes")

    def __init__(self, group_id: str, automaton: A, empty_since_ms: int) -> None:
        self.group_id = group_id
        self.automaton = automaton
        self.empty_since_ms = empty_since_ms
        self.timers: dict[TimerKey, TimerHandle] = {}
        self.writes = 0
        self.dead = False
        self.counted = automaton.epoch  # the last that is among the rebalances

    @property
    def vacant(self) -> bool:
        """Whether it has no members."""
        return not self.automaton.member_ids()


class KeptGroups(Generic[A]):
    """All groups of one kind.

    Args:
        view: the topics as these groups see them.
        topics_interval_ms: how often they look whether topics have changed, while there are members.

    Attributes:
        table: where they are stored.
        rebalances: how often the epoch of a group has grown.
    """

    table: ClassVar[str]

    def __init__(
        self, timers: TimerWheel, writes: OrderedWrites, view: TopicsView, topics_interval_ms: int
    ) -> None:
        self._timers = timers
        self._writes = writes
        self.view = view
        self._topics_interval_ms = topics_interval_ms
        self._groups: dict[str, KeptGroup[A]] = {}
        self._watch: TimerHandle | None = None
        self.rebalances = 0

    def __contains__(self, group_id: str) -> bool:
        return group_id in self._groups

    def __len__(self) -> int:
        return len(self._groups)

    def automata(self) -> Iterator[A]:
        """Yield the automata of all groups."""
        return (group.automaton for group in self._groups.values())

    def size(self, group_id: str) -> tuple[int, int]:
        """Return how many members a group has, and its epoch."""
        automaton = self._groups[group_id].automaton
        return len(automaton.member_ids()), automaton.epoch

    # --- what each kind says of itself ------------------------------------------------------------

    def _head(self, group: KeptGroup[A]) -> dict[str, Any]:
        """Return the row of a group."""
        raise NotImplementedError

    def _rows(self, group: KeptGroup[A], changes: Changes) -> list[Change]:
        """Return what stores the changes of a group."""
        rows = [Change(self.table, _key(group.group_id), self._head(group))]
        for member_id in sorted(changes.removed):
            rows.append(Change(self.table, _key(group.group_id, member_id), None))
        for member_id in sorted(changes.members):
            member = group.automaton.kept_member(member_id)
            assert member is not None
            rows.append(Change(self.table, _key(group.group_id, member_id), member.to_row()))
        return rows

    # --- rows -------------------------------------------------------------------------------------

    def _read(
        self,
        rows: Mapping[str, Any],
        read_head: Callable[[Any], H],
        read_member: Callable[[str, Any], M],
    ) -> tuple[dict[str, H], dict[str, list[M]]]:
        """Return heads and members by group, as they were stored. A row that is none is logged and left."""
        heads: dict[str, H] = {}
        members: dict[str, list[M]] = {}
        for key, row in rows.items():
            try:
                group_id, *rest = json.loads(key)
                if rest:
                    members.setdefault(group_id, []).append(read_member(rest[0], row))
                else:
                    heads[group_id] = read_head(row)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                _log.error(
                    "unreadable row {key!r} of {table}: {error}", key=key, table=self.table, error=error
                )
        return heads, members

    def _keep(self, group_id: str, automaton: A, empty_since_ms: int | None) -> KeptGroup[A]:
        """Add a group that was stored."""
        since_ms = self._timers.now_ms() if empty_since_ms is None else empty_since_ms
        group = self._groups[group_id] = KeptGroup(group_id, automaton, since_ms)
        self._set_timers(group)
        return group

    def _carry_out(self, group: KeptGroup[A], also: Sequence[Change] = ()) -> Deferred[None] | None:
        """Set the timers, store what has changed; return what fires when that is done, None if it is."""
        self._set_timers(group)
        automaton = group.automaton
        changes = automaton.take_changes()
        # What was changed before may still be on its way, and this answer may tell of it.
        if not (changes or also or group.writes):
            return None
        self.rebalances += automaton.epoch - group.counted
        group.counted = automaton.epoch
        if group.vacant:
            group.empty_since_ms = self._timers.now_ms()
        rows = [*also, *self._rows(group, changes)]
        group.writes += 1

        def ended(result: Any) -> Any:
            group.writes -= 1
            if isinstance(result, Failure):
                automaton.give_back(changes)
            return result

        return self._writes.write(rows, lambda: None).addBoth(ended)

    def _carry_out_later(self, group: KeptGroup[A]) -> None:
        stored = self._carry_out(group)
        if stored is not None:
            stored.addErrback(self._log_failure)

    def _log_failure(self, failure: Failure) -> None:
        _log.failure("could not store a group in {table}", failure=failure, table=self.table)

    # --- time -------------------------------------------------------------------------------------

    def _set_timers(self, group: KeptGroup[A]) -> None:
        for action in group.automaton.take_actions():
            if isinstance(action, SetTimer) and action.keep and action.key in group.timers:
                continue
            timer = group.timers.pop(action.key, None)
            if timer is not None:
                timer.cancel()
            if isinstance(action, SetTimer) and not group.dead:
                callback = partial(self._timer_fired, group, action.key)
                group.timers[action.key] = self._timers.call_later(action.delay_ms, callback)
        self._watch_topics()

    def _timer_fired(self, group: KeptGroup[A], key: TimerKey) -> None:
        del group.timers[key]
        group.automaton.timer_fired(key)
        self._carry_out_later(group)

    # --- topics -----------------------------------------------------------------------------------

    def look_at_topics(self) -> None:
        """Take note of topics that are new, gone or grown."""
        if self.view.look():
            for group in list(self._groups.values()):
                if group.automaton.topics_changed():
                    self._topics_changed(group)
                    self._carry_out_later(group)

    def _topics_changed(self, group: KeptGroup[A]) -> None:
        """Topics have changed, and that concerns a group."""

    def _watch_topics(self) -> None:
        if self._watch is None and any(group.timers for group in self._groups.values()):
            self._watch = self._timers.call_later(self._topics_interval_ms, self._look)

    def _look(self) -> None:
        self._watch = None
        self.look_at_topics()
        self._watch_topics()

    # --- asking and going -------------------------------------------------------------------------

    def ids(self) -> list[str]:
        """Return the ids of all groups."""
        return list(self._groups)

    def empty_since_ms(self, group_id: str) -> int:
        """Return since when a group has had no members, if it has none."""
        return self._groups[group_id].empty_since_ms

    def is_vacant(self, group_id: str) -> bool:
        """Whether there is such a group, without members."""
        group = self._groups.get(group_id)
        return group is not None and group.vacant

    def epoch(self, group_id: str) -> int:
        """Return a group's epoch."""
        return self._groups[group_id].automaton.epoch

    def removal(self, group_id: str) -> list[Change]:
        """Return the changes that delete what is stored of a group and of those that are or were in it."""
        group = self._groups.get(group_id)
        members = set() if group is None else {*group.automaton.member_ids(), *group.automaton.removed}
        return [
            Change(self.table, _key(group_id), None),
            *(Change(self.table, _key(group_id, one), None) for one in sorted(members)),
        ]

    def forget(self, group_id: str) -> None:
        """Forget a group."""
        group = self._groups.pop(group_id, None)
        if group is not None:
            group.dead = True
            for timer in group.timers.values():
                timer.cancel()
            group.timers.clear()


def _key(*parts: str) -> str:
    return json.dumps(parts, separators=(",", ":"))
