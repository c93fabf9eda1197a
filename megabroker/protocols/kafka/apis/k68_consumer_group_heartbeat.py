"""ConsumerGroupHeartbeat (68): join, live on in and leave a group of the consumer protocol (KIP-848).

**Behaviour.** Member epoch 0 joins, -1 leaves, -2 leaves for a while. The assignment is told when it changes
and to requests that say everything. The answer comes when what it tells is stored.

**Version notes.** In 0 the broker makes the ids of members that have none; from 1 clients bring their own
(KIP-1082), and may subscribe by a regular expression, which must match whole names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.model import ConsumerHeartbeat
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.groups import check_group, client_host, client_id, group_error
from megabroker.protocols.kafka.schema import consumer_group_heartbeat

__all__ = ["handle"]

_BRINGS_MEMBER_ID = 1
_MAX_ID_CHARS: Final = 4200
"""Longest member, instance or rack id; the broker's own begin with the client id."""

_MAX_NAME_CHARS: Final = 249
_MAX_NAMES: Final = 10_000

_Assignment = consumer_group_heartbeat.Response.Assignment


async def handle(
    context: Context, request: consumer_group_heartbeat.Request
) -> consumer_group_heartbeat.Response:
    """Answer when the member's new state is stored, or refused."""
    try:
        check_group(context, request.group_id)
        _check(context, request)
        answer = await context.broker.groups.consumer_heartbeat(_translated(context, request))
    except BrokerError as error:
        return consumer_group_heartbeat.Response(error_code=group_error(error), error_message=error.message)
    assignment = None
    if answer.assignment is not None:
        assignment = _Assignment(
            topic_partitions=[
                _Assignment.TopicPartition(topic_id=topic.bytes, partitions=sorted(indexes))
                for topic, indexes in sorted(answer.assignment.items())
            ]
        )
    return consumer_group_heartbeat.Response(
        member_id=answer.member_id,
        member_epoch=answer.member_epoch,
        heartbeat_interval_ms=answer.heartbeat_interval_ms,
        assignment=assignment,
    )


def _check(context: Context, request: consumer_group_heartbeat.Request) -> None:
    if context.version >= _BRINGS_MEMBER_ID and not request.member_id.strip():
        raise RequestError(ErrorCode.INVALID_REQUEST, "a member id must not be empty")
    ids = (request.member_id, request.instance_id or "", request.rack_id or "")
    if max(map(len, ids)) > _MAX_ID_CHARS:
        raise RequestError(ErrorCode.INVALID_REQUEST, f"ids have at most {_MAX_ID_CHARS} characters")
    names = request.subscribed_topic_names or ()
    if len(names) > _MAX_NAMES or any(len(name) > _MAX_NAME_CHARS for name in names):
        raise RequestError(
            ErrorCode.INVALID_REQUEST,
            f"expected at most {_MAX_NAMES} topic names of at most {_MAX_NAME_CHARS} characters",
        )


def _translated(context: Context, request: consumer_group_heartbeat.Request) -> ConsumerHeartbeat:
    names = request.subscribed_topic_names
    return ConsumerHeartbeat(
        group_id=request.group_id,
        member_id=request.member_id,
        member_epoch=request.member_epoch,
        instance_id=request.instance_id,
        rack_id=request.rack_id,
        client_id=client_id(context),
        client_host=client_host(context),
        rebalance_timeout_ms=request.rebalance_timeout_ms,
        topic_names=None if names is None else frozenset(names),
        topic_pattern=request.subscribed_topic_regex,
        assignor=request.server_assignor,
        owned=None if request.topic_partitions is None else _owned(request.topic_partitions),
        principal=context.principal,
    )


def _owned(
    rows: Iterable[consumer_group_heartbeat.Request.TopicPartition],
) -> dict[UUID, frozenset[int]]:
    owned: dict[UUID, frozenset[int]] = {}
    for row in rows:
        if row.partitions:
            topic = UUID(bytes=bytes(row.topic_id))
            owned[topic] = owned.get(topic, frozenset()) | frozenset(row.partitions)
    return owned
