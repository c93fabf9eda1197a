"""Streams groups: their automata, their time, their internal topics, and what is stored of them.

Owns the table ``streams_groups`` and the timers of such groups; the rules are the automaton's. The group
service asks it for the groups it has, and owns what groups of all kinds share: names and offsets.

Table ``streams_groups``: key ``["<group>"]`` holds ``{"epoch": int, "assignment_epoch": int,
"topology": {...} (``rows``), "empty_since_ms": int or null}``, key ``["<group>","<member>"]`` one member
(``members``). Members outlive a restart: they go on with their epochs and tasks, and have a session timeout
to be heard again.

Invariant: an answer leaves when everything it says is stored, so that after a crash nobody has an epoch or a
task the broker does not know of.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.core.groups.actions import SetTimer, TimerKey
from megabroker.core.groups.consumer_topics import TopicsView
from megabroker.core.groups.errors import refusal
from megabroker.core.groups.offsets import OrderedWrites
from megabroker.core.groups.streams.automaton import StreamsGroupAutomaton, check_heartbeat
from megabroker.core.groups.streams.members import StreamsMember
from megabroker.core.groups.streams.rows import topology_from_row, topology_to_row
from megabroker.core.groups.streams.settings import StreamsSettings
from megabroker.core.timers import TimerHandle, TimerWheel
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import Change, GroupSummary, Topic
from megabroker.streams import (
    InternalTopic,
    StreamsAnswer,
    StreamsGroupDescription,
    StreamsHeartbeat,
    StreamsMemberDescription,
    StreamsStatus,
    Topology,
)

__all__ = ["STREAMS_GROUPS_TABLE", "StreamsGroups"]

STREAMS_GROUPS_TABLE = "streams_groups"

_log = Logger()


class _Group:
    """One automaton and what the service keeps for it."""

    __slots__ = ("automaton", "dead", "empty_since_ms", "group_id", "timers", "writes")

    def __init__(self, group_id: str, automaton: StreamsGroupAutomaton, empty_since_ms: int) -> None:
        self.group_id = group_id
        self.automaton = automaton
        self.empty_since_ms = empty_since_ms
        self.timers: dict[TimerKey, TimerHandle] = {}
        self.writes = 0
        self.dead = False


class StreamsGroups:
    """All streams groups this broker coordinates.

    Args:
        topics: returns all topics.
        create_topic: makes a topic: name, partitions, configuration.
    """

    def __init__(
        self,
        timers: TimerWheel,
        writes: OrderedWrites,
        settings: StreamsSettings,
        topics: Callable[[], Sequence[Topic]],
        create_topic: Callable[[str, int, Mapping[str, str]], Deferred[Topic]],
    ) -> None:
        self._timers = timers
        self._writes = writes
        self._settings = settings
        self._settings_of: Callable[[str], StreamsSettings] = lambda group_id: settings
        self._view = TopicsView(topics)
        self._create_topic = create_topic
        self._creating: set[str] = set()
        self._refused: dict[str, str] = {}
        self._groups: dict[str, _Group] = {}
        self._watch: TimerHandle | None = None

    def __contains__(self, group_id: str) -> bool:
        return group_id in self._groups

    def load(self, rows: Mapping[str, Any]) -> None:
        """Begin from what the store holds. A row that is none is logged and left alone."""
        self._view.look()
        heads: dict[str, tuple[int, int, Topology, int | None]] = {}
        members: dict[str, list[StreamsMember]] = {}
        for key, row in rows.items():
            try:
                group_id, *rest = json.loads(key)
                if rest:
                    members.setdefault(group_id, []).append(StreamsMember.from_row(rest[0], row))
                else:
                    since_ms = row["empty_since_ms"]
                    heads[group_id] = (
                        int(row["epoch"]),
                        int(row["assignment_epoch"]),
                        topology_from_row(row["topology"]),
                        None if since_ms is None else int(since_ms),
                    )
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                _log.error("unreadable streams group {key!r}: {error}", key=key, error=error)
        now_ms = self._timers.now_ms()
        for group_id, (epoch, assignment_epoch, topology, empty_since_ms) in heads.items():
            automaton = StreamsGroupAutomaton(self._settings_of(group_id), self._view.size)
            since_ms = now_ms if empty_since_ms is None else empty_since_ms
            group = self._groups[group_id] = _Group(group_id, automaton, since_ms)
            automaton.restore(epoch, assignment_epoch, topology, members.get(group_id, []))
            self._set_timers(group)

    def configure(self, settings_of: Callable[[str], StreamsSettings]) -> None:
        """Have groups kept as ``settings_of`` says of each."""
        self._settings_of = settings_of
        for group_id in self._groups:
            self.reconfigure(group_id)

    def reconfigure(self, group_id: str) -> None:
        """Follow a group's changed configuration."""
        group = self._groups.get(group_id)
        if group is not None:
            group.automaton.reconfigure(self._settings_of(group_id))
            self._carry_out_later(group)

    # --- membership -------------------------------------------------------------------------------

    def heartbeat(
        self,
        request: StreamsHeartbeat,
        former_epoch: int = 0,
        also: Sequence[Change] = (),
        created: Callable[[], None] | None = None,
    ) -> Deferred[StreamsAnswer]:
        """A member joins, lives on or leaves; fires when what it is told is stored.

        Args:
            former_epoch: of a group of another kind whose place a new group takes.
            also: changes to be stored with those of a new group.
            created: called when the request has made a new group.
        """
        try:
            check_heartbeat(request)
            group = self._groups.get(request.group_id)
            is_new = group is None
            if group is None:
                if request.member_epoch != 0:
                    raise refusal(ErrorCode.GROUP_NOT_FOUND)
                settings = self._settings_of(request.group_id)
                automaton = StreamsGroupAutomaton(settings, self._view.size, former_epoch)
                group = _Group(request.group_id, automaton, self._timers.now_ms())
            if request.topology is not None:
                self.look_at_topics()
            answer = group.automaton.heartbeat(request)
        except BrokerError as error:
            return fail(error)
        if is_new:
            self._groups[request.group_id] = group
            if created is not None:
                created()
        self._make_internal_topics(group)
        answer = self._with_reasons(answer)
        stored = self._carry_out(group, also if is_new else ())
        if stored is None:
            return succeed(answer)
        return stored.addCallback(lambda _: answer)

    def _carry_out(self, group: _Group, also: Sequence[Change] = ()) -> Deferred[None] | None:
        """Set the timers, store what has changed; return what fires when that is done, None if it is."""
        self._set_timers(group)
        automaton = group.automaton
        changed, removed, of_group = automaton.take_changes()
        # What was changed before may still be on its way, and this answer may tell of it.
        if not (changed or removed or of_group or group.writes):
            return None
        if not automaton.members:
            group.empty_since_ms = self._timers.now_ms()
        rows = [*also, Change(STREAMS_GROUPS_TABLE, _key(group.group_id), self._head(group))]
        for member_id in sorted(removed):
            rows.append(Change(STREAMS_GROUPS_TABLE, _key(group.group_id, member_id), None))
        for member_id in sorted(changed):
            member = automaton.members.get(member_id)
            assert member is not None
            rows.append(Change(STREAMS_GROUPS_TABLE, _key(group.group_id, member_id), member.to_row()))
        group.writes += 1

        def ended(result: Any) -> Any:
            group.writes -= 1
            if isinstance(result, Failure):
                automaton.give_back(changed, removed)
            return result

        return self._writes.write(rows, lambda: None).addBoth(ended)

    def _head(self, group: _Group) -> dict[str, Any]:
        automaton = group.automaton
        assert automaton.topology is not None
        return {
            "epoch": automaton.epoch,
            "assignment_epoch": automaton.assignment_epoch,
            "topology": topology_to_row(automaton.topology),
            "empty_since_ms": None if automaton.members else group.empty_since_ms,
        }

    def _set_timers(self, group: _Group) -> None:
        for action in group.automaton.take_actions():
            timer = group.timers.pop(action.key, None)
            if timer is not None:
                timer.cancel()
            if isinstance(action, SetTimer) and not group.dead:
                callback = partial(self._timer_fired, group, action.key)
                group.timers[action.key] = self._timers.call_later(action.delay_ms, callback)
        self._watch_topics()

    def _timer_fired(self, group: _Group, key: TimerKey) -> None:
        del group.timers[key]
        group.automaton.timer_fired(key)
        self._carry_out_later(group)

    def _carry_out_later(self, group: _Group) -> None:
        stored = self._carry_out(group)
        if stored is not None:
            stored.addErrback(_log_failure, "store a streams group")

    # --- topics -----------------------------------------------------------------------------------

    def look_at_topics(self) -> None:
        """Take note of topics that are new, gone or grown."""
        if self._view.look():
            for group in list(self._groups.values()):
                if group.automaton.topics_changed():
                    self._make_internal_topics(group)
                    self._carry_out_later(group)

    def _watch_topics(self) -> None:
        if self._watch is None and any(group.timers for group in self._groups.values()):
            self._watch = self._timers.call_later(self._settings.topics_interval_ms, self._look)

    def _look(self) -> None:
        self._watch = None
        self.look_at_topics()
        self._watch_topics()

    def _make_internal_topics(self, group: _Group) -> None:
        """Make the topics a group with members lacks, unless that is under way."""
        plan = group.automaton.plan
        if plan is None or not group.automaton.members:
            return
        for topic in plan.missing:
            if topic.name not in self._creating:
                self._creating.add(topic.name)
                made = self._create_topic(topic.name, topic.partitions, topic.configs)
                made.addBoth(self._made, topic, group.group_id)

    def _made(self, result: Topic | Failure, topic: InternalTopic, group_id: str) -> None:
        self._creating.discard(topic.name)
        if not isinstance(result, Failure):
            self._refused.pop(topic.name, None)
            self.look_at_topics()
            return
        error = result.value
        if not isinstance(error, BrokerError):
            _log.failure("internal-topic-failed: {topic}", result, topic=topic.name)
            return
        if error.code is not ErrorCode.TOPIC_EXISTS and self._refused.get(topic.name) != error.message:
            self._refused[topic.name] = error.message
            _log.error(
                "internal-topic-refused: {topic} of the streams group {group}: {error}",
                topic=topic.name,
                group=group_id,
                error=error.message,
            )

    def _with_reasons(self, answer: StreamsAnswer) -> StreamsAnswer:
        """Add to "internal topics are missing" why they could not be made."""
        if not self._refused:
            return answer
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(self._refused.items())[:3])
        status = [
            (code, f"{sentence}; {reasons}" if code is StreamsStatus.MISSING_INTERNAL_TOPICS else sentence)
            for code, sentence in answer.status
        ]
        return attrs.evolve(answer, status=status)

    def subscribed_topics(self, group_id: str) -> Set[str]:
        """Return the names of the topics a group with members reads."""
        automaton = self._groups[group_id].automaton
        if automaton.topology is None or not automaton.members:
            return frozenset()
        return {name for part in automaton.topology.subtopologies for name in part.reads}

    # --- asking -----------------------------------------------------------------------------------

    def ids(self) -> Iterable[str]:
        """Return the ids of all groups."""
        return list(self._groups)

    def empty_since_ms(self, group_id: str) -> int:
        """Return since when a group has had no members, if it has none."""
        return self._groups[group_id].empty_since_ms

    def is_vacant(self, group_id: str) -> bool:
        """Whether there is such a group, without members."""
        group = self._groups.get(group_id)
        return group is not None and not group.automaton.members

    def epoch(self, group_id: str) -> int:
        """Return a group's epoch."""
        return self._groups[group_id].automaton.epoch

    def check_commit(self, group_id: str, member_id: str, epoch: int) -> None:
        """Raise StateError unless offsets may be committed: by a member in its epoch, or while empty."""
        automaton = self._groups[group_id].automaton
        if epoch < 0 and not automaton.members:
            return
        automaton.check_epoch(member_id, epoch)

    def check_member(self, group_id: str, member_id: str, epoch: int) -> None:
        """Raise StateError unless this is a member, in this epoch."""
        self._groups[group_id].automaton.check_epoch(member_id, epoch)

    def describe(self, group_id: str) -> StreamsGroupDescription:
        """Describe one group. Raises StateError (GROUP_NOT_FOUND)."""
        group = self._groups.get(group_id)
        if group is None:
            raise refusal(ErrorCode.GROUP_NOT_FOUND)
        automaton = group.automaton
        assert automaton.topology is not None
        return StreamsGroupDescription(
            group_id,
            automaton.state,
            automaton.epoch,
            automaton.assignment_epoch,
            automaton.topology if automaton.plan is None else automaton.plan.topology,
            [
                StreamsMemberDescription(
                    member.member_id,
                    member.epoch,
                    member.rack_id,
                    member.client_id,
                    member.client_host,
                    member.topology_epoch,
                    member.process_id,
                    member.endpoint,
                    member.tags,
                    member.assigned,
                    member.target,
                )
                for member in automaton.members
            ],
        )

    def summaries(self) -> list[GroupSummary]:
        """List every group."""
        return [
            GroupSummary(group_id, "streams", group.automaton.state, "streams")
            for group_id, group in self._groups.items()
        ]

    # --- groups going -----------------------------------------------------------------------------

    def removal(self, group_id: str) -> list[Change]:
        """Return the changes that delete what is stored of a group without members."""
        return [Change(STREAMS_GROUPS_TABLE, _key(group_id), None)]

    def forget(self, group_id: str) -> None:
        """Forget a group without members."""
        group = self._groups.pop(group_id, None)
        if group is not None:
            group.dead = True
            for timer in group.timers.values():
                timer.cancel()
            group.timers.clear()


def _key(*parts: str) -> str:
    return json.dumps(parts, separators=(",", ":"))


def _log_failure(failure: Failure, what: str) -> None:
    _log.failure("could not {what}", failure=failure, what=what)
