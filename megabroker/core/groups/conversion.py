"""How a group with members changes its protocol: KIP-848's upgrade and downgrade, as functions of automata.

Owns two questions about a group that is not to lose anybody: what a classic group is as one of the consumer
protocol, and back. Must never give a partition to two members: what a classic member was assigned, and what
it said it owned when it joined last, both count as its own until it says otherwise.

Members that have not been told of their first join yet are left out, as they have nothing: they join again.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from megabroker.core.groups.automaton import GroupAutomaton
from megabroker.core.groups.consumer_automaton import ConsumerGroupAutomaton
from megabroker.core.groups.consumer_members import ClassicSide, ConsumerMember
from megabroker.core.groups.consumer_topics import TopicsView
from megabroker.core.groups.members import Member
from megabroker.core.groups.mixed_automaton import CONSUMER, MixedGroupAutomaton
from megabroker.core.groups.reconciliation import MemberState
from megabroker.core.groups.settings import GroupSettings
from megabroker.interfaces import IConsumerMetadata
from megabroker.model import Subscription, TopicAssignment

__all__ = ["downgraded", "partitions_by_name", "upgraded"]

_Named = Mapping[str, frozenset[int]]


def upgraded(
    group: GroupAutomaton, metadata: IConsumerMetadata, view: TopicsView, settings: GroupSettings
) -> MixedGroupAutomaton | None:
    """Return a classic group as one of the consumer protocol; None when its members are no consumers.

    Its epoch is the generation. The classic group is left as it is.
    """
    members = [member for member in group.members if not member.is_new]
    is_other = len(group.members) > 0 and group.protocol_type != CONSUMER
    if is_other or len(members) > settings.group_max_size:
        return None
    said: list[tuple[Member, Subscription, _Named]] = []
    for member in members:
        subscription = metadata.read_subscription(_metadata(group, member))
        assignment = metadata.read_assignment(member.assignment)
        if subscription is None or assignment is None:
            return None
        said.append((member, subscription, assignment))
    taken: set[tuple[UUID, int]] = set()
    assigned = [_claim(assignment, view, taken) for _, _, assignment in said]
    owned = [_claim(subscription.owned, view, taken) for _, subscription, _ in said]
    automaton = MixedGroupAutomaton(settings, view, group.generation)
    automaton.take_over(
        [
            _as_consumer(member, subscription, group.generation, has, gives_up)
            for (member, subscription, _), has, gives_up in zip(said, assigned, owned, strict=True)
        ]
    )
    return automaton


def _metadata(group: GroupAutomaton, member: Member) -> bytes:
    return member.metadata(group.protocol_name) or member.protocols[0][1]


def _claim(partitions: _Named, view: TopicsView, taken: set[tuple[UUID, int]]) -> dict[UUID, frozenset[int]]:
    """Return those partitions that exist and are nobody's yet, and note that they are taken."""
    claimed: dict[UUID, frozenset[int]] = {}
    for name, indexes in partitions.items():
        for topic in view.resolve([name], ""):
            present = range(view.partitions(topic))
            mine = frozenset(one for one in indexes if one in present and (topic, one) not in taken)
            taken.update((topic, one) for one in mine)
            if mine:
                claimed[topic] = mine
    return claimed


def _as_consumer(
    member: Member, subscription: Subscription, epoch: int, has: TopicAssignment, gives_up: TopicAssignment
) -> ConsumerMember:
    return ConsumerMember(
        member.member_id,
        member.instance_id,
        subscription.rack_id,
        member.client_id,
        member.client_host,
        member.rebalance_timeout_ms,
        subscription.topics,
        epoch=epoch,
        previous_epoch=epoch,
        state=MemberState.UNREVOKED if gives_up else MemberState.STABLE,
        assigned=has,
        revoking=gives_up,
        target=has,
        classic=ClassicSide(member.session_timeout_ms, subscription.version, member.protocols),
    )


def downgraded(
    group: ConsumerGroupAutomaton, metadata: IConsumerMetadata, view: TopicsView, settings: GroupSettings
) -> GroupAutomaton:
    """Return a group of classic members only as a classic group whose first rebalance has begun.

    Its generation is the epoch.
    """
    members = []
    for one in group.members:
        assert one.classic is not None
        members.append(
            Member(
                one.member_id,
                one.instance_id,
                one.client_id,
                one.client_host,
                one.classic.session_timeout_ms,
                one.rebalance_timeout_ms,
                one.classic.protocols,
                metadata.write_assignment(one.classic.version, partitions_by_name(one.target, view)),
            )
        )
    automaton = GroupAutomaton(settings, group.epoch, CONSUMER)
    automaton.take_over(members)
    return automaton


def partitions_by_name(assignment: TopicAssignment, view: TopicsView) -> dict[str, frozenset[int]]:
    """Return the partitions of the topics that still exist."""
    named = {view.name(topic): indexes for topic, indexes in assignment.items() if indexes}
    named.pop("", None)
    return named
