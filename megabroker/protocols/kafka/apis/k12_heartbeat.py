"""Heartbeat (12): keep a member's session alive.

**Behaviour.** REBALANCE_IN_PROGRESS tells a member to join again.

**Version notes.** 3 adds static members.
"""

from __future__ import annotations

from megabroker.errors import BrokerError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.groups import check_group, group_error
from megabroker.protocols.kafka.schema import heartbeat

__all__ = ["handle"]


def handle(context: Context, request: heartbeat.Request) -> heartbeat.Response:
    """Answer at once."""
    response = heartbeat.Response()
    try:
        check_group(context, request.group_id)
        context.broker.groups.heartbeat(
            request.group_id, request.generation_id, request.member_id, request.group_instance_id
        )
    except BrokerError as error:
        response.error_code = group_error(error)
    return response
