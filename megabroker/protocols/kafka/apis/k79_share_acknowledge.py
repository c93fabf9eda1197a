"""ShareAcknowledge (79): say what became of records acquired (KIP-932).

**Behaviour.** Belongs to the member's share session, whose epoch goes on with it; -1 ends the session, and
what its member still has acquired is taken back. All acknowledgements of a partition are taken, or none. The
answer comes when they are stored: an accepted record is never delivered to the group again.

**Version notes.** 2 adds the renewal of locks (KIP-1222) and tells for how long they are.
"""

from __future__ import annotations

from uuid import UUID

from megabroker.core.shares.sessions import FINAL_EPOCH, INITIAL_EPOCH
from megabroker.errors import BrokerError, ErrorCode, StateError
from megabroker.protocols.kafka.acknowledging import acknowledge, check_names
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import kafka_error
from megabroker.protocols.kafka.schema import share_acknowledge

__all__ = ["handle"]

_Topic = share_acknowledge.Response.Topic
_Row = share_acknowledge.Response.Topic.Partition


async def handle(context: Context, request: share_acknowledge.Request) -> share_acknowledge.Response:
    """Answer when all acknowledgements are stored or refused."""
    shares = context.broker.shares
    try:
        group_id, member_id = check_names(request.group_id, request.member_id)
        if request.share_session_epoch == INITIAL_EPOCH:
            raise StateError(
                ErrorCode.INVALID_SHARE_SESSION_EPOCH, "a session does not begin with acknowledgements"
            )
        shares.sessions.proceed(group_id, member_id, request.share_session_epoch)
    except BrokerError as error:
        return share_acknowledge.Response(error_code=kafka_error(error), error_message=error.message)
    outcomes = await acknowledge(
        context.broker, group_id, member_id, request.topics, context.version, request.is_renew_ack
    )
    if request.share_session_epoch == FINAL_EPOCH:
        shares.end_session(group_id, member_id)
    topics: dict[UUID, _Topic] = {}
    for (topic_id, index), outcome in outcomes.items():
        topic = topics.setdefault(topic_id, _Topic(topic_id=topic_id.bytes))
        topic.partitions.append(
            _Row(partition_index=index, error_code=outcome.error_code, error_message=outcome.message)
        )
    return share_acknowledge.Response(
        acquisition_lock_timeout_ms=shares.configs.number(group_id, "share.record.lock.duration.ms"),
        responses=list(topics.values()),
    )
