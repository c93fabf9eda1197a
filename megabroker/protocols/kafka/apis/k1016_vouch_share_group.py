"""VouchShareGroup (1016, between processes): whether the coordinator knows a share group.

**Behaviour.** From the answer on the group counts as one that has offsets, even when its last member leaves.
"""

from __future__ import annotations

from megabroker.errors import BrokerError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import vouch_share_group
from megabroker.protocols.kafka.schema.told_error import told

__all__ = ["handle"]


def handle(context: Context, request: vouch_share_group.Request) -> vouch_share_group.Response:
    """Answer from memory."""
    try:
        context.broker.shares.asked_by_leader(request.group_id)
    except BrokerError as error:
        return vouch_share_group.Response(error=told(error))
    return vouch_share_group.Response()
