"""DeleteShareGroupState (86): forget the stored state of a share group in a partition (KIP-932).

**Behaviour.** Forgetting what is not known succeeds. The group begins where its configuration says when it
fetches the partition again. Answered when stored.

**Version notes.** There is one version.
"""

from __future__ import annotations

from megabroker.errors import BrokerError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import delete_share_group_state
from megabroker.protocols.kafka.share_states import check_place, rows, tell

__all__ = ["handle"]

_Topic = delete_share_group_state.Response.Topic


async def handle(
    context: Context, request: delete_share_group_state.Request
) -> delete_share_group_state.Response:
    """Answer when the state is gone or its deletion refused."""
    topics, found = rows(_Topic, _Topic.Partition, request)
    for place, _, row in found:
        try:
            check_place(context, request.group_id, place)
            await context.broker.shares.partitions.forget(request.group_id, [place])
        except BrokerError as error:
            tell(row, error)
    return delete_share_group_state.Response(results=topics)
