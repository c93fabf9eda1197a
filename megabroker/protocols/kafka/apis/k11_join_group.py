"""JoinGroup (11): become a member of a classic consumer group, or stay one in its next generation.

**Behaviour.** The answer comes when the rebalance is complete; only the leader is told the members. What
members say of themselves is opaque here. A static instance id that Kafka would refuse is INVALID_CONFIG;
protocol names longer than old versions can say are INCONSISTENT_GROUP_PROTOCOL.

**Version notes.** 0 has no rebalance timeout, the session's serves for both. From 4 a first join without an
instance id is sent back with MEMBER_ID_REQUIRED and the id to come with. 5 adds static members, 7 the
protocol type in the answer; from 9 a leader may be told to leave the assignment as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.model import JoinRequest
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.groups import (
    check_group,
    check_instance_id,
    client_host,
    client_id,
    fits,
    group_error,
)
from megabroker.protocols.kafka.schema import join_group

__all__ = ["handle"]

_MEMBER_ID_REQUIRED = 4
_NULLABLE_PROTOCOL = 7
_SKIPS_ASSIGNMENT = 9


async def handle(context: Context, request: join_group.Request) -> join_group.Response:
    """Answer when the member is in the generation, or refused."""
    try:
        check_group(context, request.group_id)
        check_instance_id(request.group_instance_id)
        _check_protocols(request.protocol_type, request.protocols)
        joined = await context.broker.groups.join(
            JoinRequest(
                group_id=request.group_id,
                member_id=request.member_id,
                instance_id=request.group_instance_id,
                client_id=client_id(context),
                client_host=client_host(context),
                session_timeout_ms=request.session_timeout_ms,
                rebalance_timeout_ms=request.rebalance_timeout_ms,
                protocol_type=request.protocol_type,
                protocols=tuple((one.name, one.metadata) for one in request.protocols),
                require_known_member_id=(
                    context.version >= _MEMBER_ID_REQUIRED and request.group_instance_id is None
                ),
                supports_skipping_assignment=context.version >= _SKIPS_ASSIGNMENT,
            )
        )
    except BrokerError as error:
        return join_group.Response(
            error_code=group_error(error),
            protocol_name=None if context.version >= _NULLABLE_PROTOCOL else "",
            member_id=getattr(error, "member_id", request.member_id),
        )
    name = joined.protocol_name
    return join_group.Response(
        generation_id=joined.generation,
        protocol_type=joined.protocol_type,
        protocol_name=name if name is not None or context.version >= _NULLABLE_PROTOCOL else "",
        leader=joined.leader,
        skip_assignment=joined.skip_assignment,
        member_id=joined.member_id,
        members=[
            join_group.Response.Member(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                metadata=member.metadata,
            )
            for member in joined.members
        ],
    )


def _check_protocols(protocol_type: str, protocols: Sequence[join_group.Request.Protocol]) -> None:
    if not fits(protocol_type) or not all(fits(one.name) for one in protocols):
        raise RequestError(ErrorCode.INCONSISTENT_PROTOCOL, "a protocol's name is too long")
