"""DescribeGroups (15): state and members of groups.

**Behaviour.** Each group is answered once; the empty id is that of a group nobody knows. Metadata is shown
of a stable group only, assignments also while its members join anew: they read on until the next are given.

**Version notes.** A group nobody knows is Dead without an error until 5, and GROUP_ID_NOT_FOUND from 6. 3
adds authorized operations, told when asked for; 4 static members.
"""

from __future__ import annotations

from megabroker.access import ResourceType
from megabroker.errors import BrokerError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.groups import check_group, group_error
from megabroker.protocols.kafka.schema import describe_groups
from megabroker.protocols.kafka.topics import first_seen

__all__ = ["handle"]

_TELLS_NOT_FOUND = 6
_DEAD = "Dead"

_Group = describe_groups.Response.Group


def handle(context: Context, request: describe_groups.Request) -> describe_groups.Response:
    """Answer at once."""
    groups = []
    for group_id in first_seen(request.groups)[0]:
        group = _Group(group_id=group_id)
        groups.append(group)
        try:
            check_group(context, group_id)
            _describe(context, group)
        except BrokerError as error:
            group.error_code = group_error(error)
            group.error_message = error.message
        else:
            if request.include_authorized_operations and not group.error_code:
                group.authorized_operations = context.operations(ResourceType.GROUP, group_id)
    return describe_groups.Response(groups=groups)


def _describe(context: Context, group: _Group) -> None:
    found = context.broker.groups.describe(group.group_id)
    if found.error is not None:
        raise found.error
    group.group_state = found.state
    if found.state == _DEAD and context.version >= _TELLS_NOT_FOUND:
        group.error_code = int(KafkaError.GROUP_ID_NOT_FOUND)
        group.error_message = f"there is no group {group.group_id[:249]!r}"
    group.protocol_type = found.protocol_type
    group.protocol_data = found.protocol_name
    group.members = [
        _Group.Member(
            member_id=member.member_id,
            group_instance_id=member.instance_id,
            client_id=member.client_id,
            client_host=member.client_host,
            member_metadata=member.metadata,
            member_assignment=member.assignment,
        )
        for member in found.members
    ]
