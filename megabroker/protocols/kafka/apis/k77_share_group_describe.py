"""ShareGroupDescribe (77): state and members of share groups (KIP-932).

**Behaviour.** Each group is answered once. Groups nobody knows and those of other kinds are
GROUP_ID_NOT_FOUND. Topics that are gone are left out of assignments.

**Version notes.** There is one version.
"""

from __future__ import annotations

from megabroker.model import ShareMemberDescription
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.groups import described
from megabroker.protocols.kafka.schema import share_group_describe

__all__ = ["handle"]

_Group = share_group_describe.Response.Group
_Member = _Group.Member
_Assignment = _Member.Assignment


def handle(context: Context, request: share_group_describe.Request) -> share_group_describe.Response:
    """Answer at once."""
    return share_group_describe.Response(groups=described(context, request, _describe, _Group))


def _describe(context: Context, group: _Group) -> None:
    found = context.broker.shares.describe(group.group_id)
    group.group_state = found.state
    group.group_epoch = found.group_epoch
    group.assignment_epoch = found.assignment_epoch
    group.assignor_name = found.assignor
    group.members = [_member(context, member) for member in found.members]


def _member(context: Context, member: ShareMemberDescription) -> _Member:
    rows = []
    for topic_id, indexes in member.assignment.items():
        topic = context.broker.topics.get_by_id(topic_id)
        if topic is not None:
            rows.append(
                _Assignment.TopicPartition(
                    topic_id=topic_id.bytes, topic_name=topic.name, partitions=sorted(indexes)
                )
            )
    return _Member(
        member_id=member.member_id,
        rack_id=member.rack_id,
        member_epoch=member.member_epoch,
        client_id=member.client_id,
        client_host=member.client_host,
        subscribed_topic_names=list(member.topic_names),
        assignment=_Assignment(topic_partitions=sorted(rows, key=lambda row: row.topic_name)),
    )
