"""Which groups there are, of which protocol each is, and how a group goes from one to the other.

Owns the groups of all protocols and their coming and going. A group without members changes its protocol
with the first member that speaks another one; its epoch goes on, and its offsets stay. A group with members
changes it too, if they are consumers (``conversion``): a classic group when a member of the consumer protocol
comes, a group of the consumer protocol when the last such member is gone. Must never decide who is a member.

Invariant: no group id is of two protocols; what is stored of a group changes its table in one write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.core.groups.automaton import GroupAutomaton
from megabroker.core.groups.classic_groups import GROUPS_TABLE, ActionCarrier, ClassicGroup
from megabroker.core.groups.consumer_service import ConsumerGroups
from megabroker.core.groups.conversion import downgraded, upgraded
from megabroker.core.groups.errors import refusal
from megabroker.core.groups.members import Member
from megabroker.core.groups.mixed_automaton import CONSUMER, MixedGroupAutomaton
from megabroker.core.groups.offsets import CommittedOffsets, OrderedWrites
from megabroker.core.groups.room import classic_bytes, consumer_bytes, streams_bytes
from megabroker.core.groups.settings import GroupSettings
from megabroker.core.groups.streams import StreamsGroups
from megabroker.core.timers import TimerWheel
from megabroker.errors import ErrorCode
from megabroker.interfaces import IConsumerMetadata
from megabroker.model import (
    Change,
    ConsumerHeartbeat,
    ConsumerHeartbeatAnswer,
    JoinedGroup,
    JoinRequest,
    Topic,
)
from megabroker.model.streams_groups import StreamsAnswer, StreamsHeartbeat

__all__ = ["CreateTopic", "GroupDirectory"]

CreateTopic = Callable[[str, int, Mapping[str, str]], Deferred[Topic]]
"""Makes a topic: its name, its partitions, its configuration."""

_log = Logger()


class GroupDirectory:
    """All groups.

    Args:
        offsets: what keeps a group without members from being forgotten.
        topics: returns all topics.
        create_topic: makes the internal topics of streams groups.
        new_member_id: makes a fresh id of a client's or instance's name.

    Attributes:
        classic: classic groups by id.
        consumers: groups of the consumer protocol.
        streams: streams groups.
        metadata: reads and writes what consumers say in classic groups; without it no group with members
            changes its protocol.
    """

    def __init__(
        self,
        timers: TimerWheel,
        writes: OrderedWrites,
        offsets: CommittedOffsets,
        settings: GroupSettings,
        topics: Callable[[], Sequence[Topic]],
        create_topic: CreateTopic,
        new_member_id: Callable[[str], str],
    ) -> None:
        self._timers = timers
        self._writes = writes
        self._offsets = offsets
        self._settings = settings
        self._carrier = ActionCarrier(timers, writes, self.carry_out)
        self.metadata: IConsumerMetadata | None = None
        self.classic: dict[str, ClassicGroup] = {}
        self.consumers = ConsumerGroups(timers, writes, settings, topics, new_member_id, self._downgrade)
        self.streams = StreamsGroups(timers, writes, settings.streams, topics, create_topic)

    def load(self, rows: Mapping[str, Any]) -> None:
        """Begin with the classic groups the store holds. A row that is none is logged and left alone."""
        now_ms = self._timers.now_ms()
        for group_id, row in rows.items():
            try:
                automaton = GroupAutomaton(self._settings, int(row["generation"]), str(row["protocol_type"]))
                since_ms = row.get("empty_since_ms")
                since_ms = now_ms if since_ms is None else int(since_ms)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                _log.error("unreadable group {group!r}: {error}", group=group_id, error=error)
                continue
            self.classic[group_id] = ClassicGroup(group_id, automaton, since_ms)

    def __len__(self) -> int:
        return len(self.classic) + len(self.consumers) + len(self.streams)

    def rebalances(self) -> Mapping[str, int]:
        """Return how many generations and epochs of groups have begun since the start, by type."""
        return {
            "classic": self._carrier.rebalances,
            "consumer": self.consumers.rebalances,
            "streams": self.streams.rebalances,
        }

    def said_bytes(self) -> int:
        """Return what the members of all groups say of themselves, about."""
        classic = sum(classic_bytes(group.automaton.members) for group in self.classic.values())
        consumers = sum(consumer_bytes(automaton.members) for automaton in self.consumers.automata())
        return (
            classic
            + consumers
            + sum(
                streams_bytes(automaton.topology, automaton.members) for automaton in self.streams.automata()
            )
        )

    @property
    def epochal(self) -> tuple[ConsumerGroups, StreamsGroups]:
        """Those who keep groups whose members have epochs."""
        return self.consumers, self.streams

    # --- coming and going -------------------------------------------------------------------------

    def ensure(self, group_id: str) -> ClassicGroup:
        """Return a classic group, made if there is none."""
        group = self.classic.get(group_id)
        if group is None:
            automaton = GroupAutomaton(self._settings)
            group = self.classic[group_id] = ClassicGroup(group_id, automaton, self._timers.now_ms())
        return group

    def keeper(self, group_id: str) -> ConsumerGroups | StreamsGroups | None:
        """Return what keeps a group whose members have epochs; None for a classic group or none at all."""
        return next((kind for kind in self.epochal if group_id in kind), None)

    def forget(self, group: ClassicGroup) -> None:
        """Forget a classic group."""
        group.end()
        del self.classic[group.group_id]

    def forget_vacant(self, group_ids: Iterable[str]) -> None:
        """Forget those groups that have neither members nor offsets."""
        rows = []
        for group_id in group_ids:
            group = self.classic.get(group_id)
            if group is not None and group.automaton.vacant and not self._offsets.has_any(group_id):
                if group.automaton.generation:
                    rows.append(Change(GROUPS_TABLE, group_id, None))
                self.forget(group)
                continue
            keeper = self.keeper(group_id)
            if keeper is not None and keeper.is_vacant(group_id) and not self._offsets.has_any(group_id):
                rows += keeper.removal(group_id)
                keeper.forget(group_id)
        if rows:
            self._writes.write(rows, _nothing).addErrback(_log_failure, "forget groups")

    def carry_out(self, group: ClassicGroup) -> None:
        """Do what a classic group's automaton wants done."""
        self._carrier.carry_out(group)
        # Refused joins and ids never used must not leave groups behind.
        if group.automaton.vacant and not group.automaton.generation:
            self.forget_vacant([group.group_id])

    # --- from one protocol to the other -----------------------------------------------------------

    def make_classic(self, group_id: str) -> ClassicGroup:
        """Return a classic group for a member to join; one of another protocol has to be empty."""
        keeper = self.keeper(group_id)
        if keeper is None:
            return self.ensure(group_id)
        epoch = keeper.epoch(group_id)
        rows = keeper.removal(group_id)
        keeper.forget(group_id)
        group = self.ensure(group_id)
        group.automaton.generation = epoch
        self._writes.write([*rows, group.row()], _nothing).addErrback(
            _log_failure, "change a group's protocol"
        )
        return group

    def heartbeat(self, request: ConsumerHeartbeat) -> Deferred[ConsumerHeartbeatAnswer]:
        """A member of the consumer protocol joins, lives on or leaves; see ``IGroupService``."""
        if request.group_id in self.streams:
            if not self.streams.is_vacant(request.group_id):
                return fail(refusal(ErrorCode.GROUP_NOT_FOUND, "the group is a streams group"))
            self.make_classic(request.group_id)
        classic = self.classic.get(request.group_id)
        if classic is None:
            return self.consumers.heartbeat(request)
        if classic.automaton.vacant:
            automaton: MixedGroupAutomaton | None = self.consumers.begin(classic.automaton.generation)
        else:
            automaton = self._upgraded(classic) if request.member_epoch == 0 else None
        if automaton is None:
            return fail(refusal(ErrorCode.GROUP_NOT_FOUND, "the group has members of the classic protocol"))

        answer = self.consumers.heartbeat(
            request,
            automaton,
            [Change(GROUPS_TABLE, request.group_id, None)],
            lambda: self.forget(classic),
        )
        if classic.dead:
            self._send_over(classic, request.instance_id)
        return answer

    def _send_over(self, classic: ClassicGroup, instance_id: str | None) -> None:
        """Have those who wait for a rebalance of what is a group of the consumer protocol now join that.

        Kafka has them join again; but some clients tell their users of the error that says so. The place of
        the static member ``instance_id`` has been taken.
        """
        members = list(classic.automaton.members)
        if members:
            _log.info("group-upgraded", group=classic.group_id, members=len(members))
        metadata = self.metadata
        for member in members:
            subscription = None if metadata is None else metadata.read_subscription(member.protocols[0][1])
            ticket: Deferred[JoinedGroup] | None = member.join_ticket
            if ticket is None or subscription is None or classic.group_id not in self.consumers:
                continue
            if instance_id is not None and member.instance_id == instance_id:
                classic.automaton.members.set_join_ticket(member, None)
                ticket.errback(refusal(ErrorCode.FENCED_INSTANCE))
            else:
                classic.automaton.members.set_join_ticket(member, None)
                joined = self.consumers.classic_join(_join_of(classic.group_id, member), subscription)
                joined.addBoth(_answer, ticket)
        # Who waits for the leader's assignment is to join again.
        classic.automaton.abandon(lambda: refusal(ErrorCode.REBALANCE_IN_PROGRESS))
        self._carrier.carry_out(classic)

    def streams_heartbeat(self, request: StreamsHeartbeat) -> Deferred[StreamsAnswer]:
        """A member of a streams group joins, lives on or leaves; see ``IGroupService``."""
        if self.consumers.is_vacant(request.group_id):
            self.make_classic(request.group_id)
        elif request.group_id in self.consumers:
            return fail(refusal(ErrorCode.GROUP_NOT_FOUND, "the group is one of the consumer protocol"))
        classic = self.classic.get(request.group_id)
        if classic is None:
            return self.streams.heartbeat(request)
        if not classic.automaton.vacant:
            return fail(refusal(ErrorCode.GROUP_NOT_FOUND, "the group has members of the classic protocol"))
        gone = [Change(GROUPS_TABLE, request.group_id, None)]
        return self.streams.heartbeat(
            request, classic.automaton.generation, gone, lambda: self.forget(classic)
        )

    def _upgraded(self, classic: ClassicGroup) -> MixedGroupAutomaton | None:
        if self.metadata is None or not self._settings.may_upgrade:
            return None
        self.consumers.look_at_topics()
        return upgraded(classic.automaton, self.metadata, self.consumers.view, self._settings)

    def _downgrade(self, group_id: str, group: MixedGroupAutomaton) -> Deferred[None] | None:
        """Go on with a group of classic members as a classic group; return what fires when it is stored."""
        if self.metadata is None:
            return None
        automaton = downgraded(group, self.metadata, self.consumers.view, self._settings)
        rows = self.consumers.removal(group_id)
        self.consumers.forget(group_id)
        classic = ClassicGroup(group_id, automaton, self._timers.now_ms())
        self.classic[group_id] = classic
        _log.info("group-downgraded", group=group_id, members=len(automaton.members))
        stored = self._writes.write([*rows, classic.row()], _nothing)
        self.carry_out(classic)
        return stored


def _join_of(group_id: str, member: Member) -> JoinRequest:
    """Return the join a member waits for; a static one that is new has no place under its id yet."""
    is_unknown = member.is_new and member.instance_id is not None
    return JoinRequest(
        group_id,
        "" if is_unknown else member.member_id,
        member.instance_id,
        member.client_id,
        member.client_host,
        member.session_timeout_ms,
        member.rebalance_timeout_ms,
        CONSUMER,
        member.protocols,
    )


def _answer(result: JoinedGroup | Failure, ticket: Deferred[JoinedGroup]) -> None:
    if not ticket.called:
        if isinstance(result, Failure):
            ticket.errback(result)
        else:
            ticket.callback(result)


def _nothing() -> None:
    """Memory is ahead of what is being written."""


def _log_failure(failure: Failure, what: str) -> None:
    _log.failure("could not {what}", failure=failure, what=what)
