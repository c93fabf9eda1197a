"""SyncGroup (14): get a member's assignment; the leader brings everybody's.

**Behaviour.** Followers are answered when the leader has come. Assignments are opaque here.

**Version notes.** 3 adds static members. 5 must name the protocol type and name the member joined with, else
INCONSISTENT_GROUP_PROTOCOL, and is told them back.
"""

from __future__ import annotations

from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.model import SyncRequest
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.groups import check_group, group_error
from megabroker.protocols.kafka.schema import sync_group

__all__ = ["handle"]

_NAMES_PROTOCOL = 5


async def handle(context: Context, request: sync_group.Request) -> sync_group.Response:
    """Answer when the leader's assignment is there."""
    try:
        check_group(context, request.group_id)
        if context.version >= _NAMES_PROTOCOL and None in (request.protocol_type, request.protocol_name):
            raise RequestError(ErrorCode.INCONSISTENT_PROTOCOL, "protocol type and name are needed")
        synced = await context.broker.groups.sync(
            SyncRequest(
                group_id=request.group_id,
                generation=request.generation_id,
                member_id=request.member_id,
                instance_id=request.group_instance_id,
                protocol_type=request.protocol_type,
                protocol_name=request.protocol_name,
                assignments={one.member_id: one.assignment for one in request.assignments},
            )
        )
    except BrokerError as error:
        return sync_group.Response(error_code=group_error(error))
    return sync_group.Response(
        protocol_type=synced.protocol_type, protocol_name=synced.protocol_name, assignment=synced.assignment
    )
