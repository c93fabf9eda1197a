"""ListGroups (16): the groups this node coordinates.

**Behaviour.** Filters are lists of words, upper or lower case; an empty one lets everything pass and an
unknown word nothing.

**Version notes.** 4 adds states and a filter by them, 5 types and a filter by them.
"""

from __future__ import annotations

from megabroker.access import CLUSTER_NAME, Operation, ResourceType
from megabroker.errors import BrokerError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.groups import group_error
from megabroker.protocols.kafka.schema import list_groups

__all__ = ["handle"]


def handle(context: Context, request: list_groups.Request) -> list_groups.Response:
    """Answer at once."""
    states = {word.lower() for word in request.states_filter}
    types = {word.lower() for word in request.types_filter}
    try:
        groups = sorted([*context.broker.groups.all(), *context.broker.shares.all()])
    except BrokerError as error:
        return list_groups.Response(error_code=group_error(error))
    sees_all = context.may(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME, quiet=True)
    return list_groups.Response(
        groups=[
            list_groups.Response.Group(
                group_id=group.group_id,
                protocol_type=group.protocol_type,
                group_state=group.state,
                group_type=group.group_type,
            )
            for group in groups
            if (not states or group.state.lower() in states)
            and (not types or group.group_type.lower() in types)
            and (sees_all or context.may(Operation.DESCRIBE, ResourceType.GROUP, group.group_id, quiet=True))
        ]
    )
