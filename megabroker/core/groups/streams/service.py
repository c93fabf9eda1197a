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

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.core.groups.committing_groups import CommittingGroups
from megabroker.core.groups.consumer_topics import TopicsView
from megabroker.core.groups.errors import refusal
from megabroker.core.groups.kept_groups import KeptGroup
from megabroker.core.groups.offsets import OrderedWrites
from megabroker.core.groups.streams.automaton import StreamsGroupAutomaton, check_heartbeat
from megabroker.core.groups.streams.members import StreamsMember
from megabroker.core.groups.streams.rows import topology_from_row, topology_to_row
from megabroker.core.groups.streams.settings import StreamsSettings
from megabroker.core.timers import TimerWheel
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import Change, GroupSummary, Principal, Topic
from megabroker.model.streams_groups import (
    InternalTopic,
    StreamsAnswer,
    StreamsGroupDescription,
    StreamsHeartbeat,
    StreamsMemberDescription,
    StreamsStatus,
    Topology,
)

__all__ = ["STREAMS_GROUPS_TABLE", "MayNotCreate", "StreamsGroups"]

STREAMS_GROUPS_TABLE = "streams_groups"

_MAX_REFUSED = 1000
"""Internal topics of which it is remembered why they could not be made; then all are forgotten."""

_log = Logger()

MayNotCreate = Callable[[Principal, str, Sequence[str]], Collection[str]]
"""Returns which topics somebody at an address may not create."""


def _all_may(principal: Principal, host: str, names: Sequence[str]) -> Collection[str]:
    return ()


class StreamsGroups(CommittingGroups[StreamsGroupAutomaton]):
    """All streams groups this broker coordinates.

    Args:
        topics: returns all topics.
        create_topic: makes a topic: name, partitions, configuration.
    """

    table = STREAMS_GROUPS_TABLE

    def __init__(
        self,
        timers: TimerWheel,
        writes: OrderedWrites,
        settings: StreamsSettings,
        topics: Callable[[], Sequence[Topic]],
        create_topic: Callable[[str, int, Mapping[str, str]], Deferred[Topic]],
    ) -> None:
        super().__init__(timers, writes, TopicsView(topics), settings.topics_interval_ms)
        self._settings_of: Callable[[str], StreamsSettings] = lambda group_id: settings
        self._create_topic = create_topic
        self._may_not_create: MayNotCreate = _all_may
        self._creating: set[str] = set()
        self._refused: dict[str, str] = {}

    def load(self, rows: Mapping[str, Any]) -> None:
        """Begin from what the store holds. A row that is none is logged and left alone."""
        self.view.look()
        heads, members = self._read(rows, _head_of, StreamsMember.from_row)
        for group_id, (epoch, assignment_epoch, topology, empty_since_ms) in heads.items():
            automaton = StreamsGroupAutomaton(self._settings_of(group_id), self.view.size)
            automaton.restore(epoch, assignment_epoch, topology, members.get(group_id, []))
            self._keep(group_id, automaton, empty_since_ms)

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

    def restrict(self, may_not_create: MayNotCreate) -> None:
        """Have internal topics made for members that may create all that are missing, and for no others."""
        self._may_not_create = may_not_create

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
                automaton = StreamsGroupAutomaton(settings, self.view.size, former_epoch)
                group = KeptGroup(request.group_id, automaton, self._timers.now_ms())
            if request.topology is not None:
                self.look_at_topics()
            answer = group.automaton.heartbeat(request)
        except BrokerError as error:
            return fail(error)
        if is_new:
            self._groups[request.group_id] = group
            if created is not None:
                created()
        refused = self._may_not_make(group, request)
        if refused:
            sentence = f"Unauthorized to CREATE on topics {', '.join(sorted(refused))}."
            answer = _with_reason(answer, sentence)
        else:
            self._make_internal_topics(group)
            answer = self._with_reasons(answer)
        stored = self._carry_out(group, also)
        if stored is None:
            return succeed(answer)
        return stored.addCallback(lambda _: answer)

    def _head(self, group: KeptGroup[StreamsGroupAutomaton]) -> dict[str, Any]:
        automaton = group.automaton
        assert automaton.topology is not None
        return {
            "epoch": automaton.epoch,
            "assignment_epoch": automaton.assignment_epoch,
            "topology": topology_to_row(automaton.topology),
            "empty_since_ms": None if automaton.members else group.empty_since_ms,
        }

    # --- topics -----------------------------------------------------------------------------------

    def _topics_changed(self, group: KeptGroup[StreamsGroupAutomaton]) -> None:
        if self._may_not_create is _all_may:  # else it is for a member's next heartbeat
            self._make_internal_topics(group)

    def _may_not_make(
        self, group: KeptGroup[StreamsGroupAutomaton], request: StreamsHeartbeat
    ) -> Collection[str]:
        """Return which of the topics that a group lacks the member may not create."""
        plan = group.automaton.plan
        if plan is None or not plan.missing or not group.automaton.members:
            return ()
        missing = [topic.name for topic in plan.missing]
        return self._may_not_create(request.principal, request.client_host.removeprefix("/"), missing)

    def _make_internal_topics(self, group: KeptGroup[StreamsGroupAutomaton]) -> None:
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
        if len(self._refused) >= _MAX_REFUSED:
            self._refused.clear()
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
        return _with_reason(
            answer, "; ".join(f"{name}: {reason}" for name, reason in sorted(self._refused.items())[:3])
        )

    def subscribed_topics(self, group_id: str) -> Set[str]:
        """Return the names of the topics a group with members reads."""
        automaton = self._groups[group_id].automaton
        if automaton.topology is None or not automaton.members:
            return frozenset()
        return {name for part in automaton.topology.subtopologies for name in part.reads}

    # --- asking -----------------------------------------------------------------------------------

    def describe(self, group_id: str) -> StreamsGroupDescription:
        """Describe one group. Raises StateError (GROUP_NOT_FOUND)."""
        automaton = self._known(group_id).automaton
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


def _with_reason(answer: StreamsAnswer, reason: str) -> StreamsAnswer:
    """Add to "internal topics are missing" why that is so."""
    status = [
        (code, f"{sentence}; {reason}" if code is StreamsStatus.MISSING_INTERNAL_TOPICS else sentence)
        for code, sentence in answer.status
    ]
    return attrs.evolve(answer, status=status)


def _head_of(row: Any) -> tuple[int, int, Topology, int | None]:
    since_ms = row["empty_since_ms"]
    return (
        int(row["epoch"]),
        int(row["assignment_epoch"]),
        topology_from_row(row["topology"]),
        None if since_ms is None else int(since_ms),
    )
