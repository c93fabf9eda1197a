"""ShareGroupHeartbeat (76): join, live on in and leave a share group (KIP-932).

**Behaviour.** Clients bring their member ids. Member epoch 0 joins, -1 leaves. The assignment is told when it
changes and to requests that say everything. The answer comes when what it tells is stored. A name that a
group of another kind has is GROUP_ID_NOT_FOUND.

**Version notes.** There is one version.
"""

from __future__ import annotations

from typing import Final

from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.model import ShareHeartbeat
from megabroker.protocols.kafka.acknowledging import check_names
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.groups import check_group, client_host, client_id, group_error
from megabroker.protocols.kafka.schema import share_group_heartbeat

__all__ = ["handle"]

_MAX_RACK_CHARS: Final = 4200
_MAX_NAME_CHARS: Final = 249
_MAX_NAMES: Final = 10_000

_Assignment = share_group_heartbeat.Response.Assignment


async def handle(context: Context, request: share_group_heartbeat.Request) -> share_group_heartbeat.Response:
    """Answer when the member's new state is stored, or refused."""
    try:
        check_group(context, request.group_id)
        _check(context, request)
        names = request.subscribed_topic_names
        answer = await context.broker.shares.heartbeat(
            ShareHeartbeat(
                group_id=request.group_id,
                member_id=request.member_id,
                member_epoch=request.member_epoch,
                rack_id=request.rack_id,
                client_id=client_id(context),
                client_host=client_host(context),
                topic_names=None if names is None else frozenset(names),
            )
        )
    except BrokerError as error:
        return share_group_heartbeat.Response(error_code=group_error(error), error_message=error.message)
    assignment = None
    if answer.assignment is not None:
        assignment = _Assignment(
            topic_partitions=[
                _Assignment.TopicPartition(topic_id=topic.bytes, partitions=sorted(indexes))
                for topic, indexes in sorted(answer.assignment.items())
            ]
        )
    return share_group_heartbeat.Response(
        member_id=answer.member_id,
        member_epoch=answer.member_epoch,
        heartbeat_interval_ms=answer.heartbeat_interval_ms,
        assignment=assignment,
    )


def _check(context: Context, request: share_group_heartbeat.Request) -> None:
    if not request.group_id:
        raise RequestError(ErrorCode.INVALID_REQUEST, "the group id must not be empty")
    check_names(request.group_id, request.member_id)
    if len(request.rack_id or "") > _MAX_RACK_CHARS:
        raise RequestError(ErrorCode.INVALID_REQUEST, f"a rack id has at most {_MAX_RACK_CHARS} characters")
    names = request.subscribed_topic_names or ()
    if len(names) > _MAX_NAMES or any(len(name) > _MAX_NAME_CHARS for name in names):
        raise RequestError(
            ErrorCode.INVALID_REQUEST,
            f"expected at most {_MAX_NAMES} topic names of at most {_MAX_NAME_CHARS} characters",
        )
