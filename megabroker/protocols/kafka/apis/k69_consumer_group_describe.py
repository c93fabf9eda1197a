"""ConsumerGroupDescribe (69): state and members of groups of the consumer protocol (KIP-848).

**Behaviour.** Each group is answered once. Groups nobody knows and classic ones are GROUP_ID_NOT_FOUND:
clients ask for those with DescribeGroups. Topics that are gone are left out of assignments.

**Version notes.** 1 adds the member type: 0 speaks the classic protocol, 1 the consumer protocol.
"""

from __future__ import annotations

from megabroker.model import ConsumerMember, TopicAssignment
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.groups import described
from megabroker.protocols.kafka.schema import consumer_group_describe

__all__ = ["handle"]

_Group = consumer_group_describe.Response.Group
_Assignment = consumer_group_describe.Assignment
_TopicPartitions = consumer_group_describe.TopicPartitions


def handle(context: Context, request: consumer_group_describe.Request) -> consumer_group_describe.Response:
    """Answer at once."""
    return consumer_group_describe.Response(groups=described(context, request, _describe, _Group))


def _describe(context: Context, group: _Group) -> None:
    found = context.broker.groups.describe_consumers(group.group_id)
    group.group_state = found.state
    group.group_epoch = found.group_epoch
    group.assignment_epoch = found.assignment_epoch
    group.assignor_name = found.assignor
    group.members = [_member(context, member) for member in found.members]


def _member(context: Context, member: ConsumerMember) -> _Group.Member:
    return _Group.Member(
        member_id=member.member_id,
        instance_id=member.instance_id,
        rack_id=member.rack_id,
        member_epoch=member.member_epoch,
        client_id=member.client_id,
        client_host=member.client_host,
        subscribed_topic_names=list(member.topic_names),
        subscribed_topic_regex=member.topic_pattern or "",
        assignment=_assignment(context, member.assignment),
        target_assignment=_assignment(context, member.target),
        member_type=0 if member.classic else 1,
    )


def _assignment(context: Context, assignment: TopicAssignment) -> _Assignment:
    rows = []
    for topic_id, indexes in assignment.items():
        topic = context.broker.topics.get_by_id(topic_id)
        if topic is not None:
            rows.append(
                _TopicPartitions(topic_id=topic_id.bytes, topic_name=topic.name, partitions=sorted(indexes))
            )
    return _Assignment(topic_partitions=sorted(rows, key=lambda row: row.topic_name))
