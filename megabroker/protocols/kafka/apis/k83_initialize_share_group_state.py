"""InitializeShareGroupState (83): begin the stored state of a share group in a partition (KIP-932).

**Behaviour.** What was known of the partition is forgotten and the group begins at the offset given; with -1
it begins where its configuration says when it next fetches. A state epoch below the present one is
FENCED_STATE_EPOCH. This broker does as much itself whenever a group begins to consume a partition; the
request is for other brokers and for tests. Answered when stored.

**Version notes.** There is one version.
"""

from __future__ import annotations

from megabroker.errors import BrokerError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import initialize_share_group_state
from megabroker.protocols.kafka.share_states import check_epochs, check_place, rows, tell

__all__ = ["handle"]

_Topic = initialize_share_group_state.Response.Topic


async def handle(
    context: Context, request: initialize_share_group_state.Request
) -> initialize_share_group_state.Response:
    """Answer when the state is stored or refused."""
    partitions = context.broker.shares.partitions
    group_id = request.group_id
    topics, found = rows(_Topic, _Topic.Partition, request)
    for place, wanted, row in found:
        try:
            check_place(context, group_id, place)
            former = partitions.stored_state(group_id, place)
            if former is not None:
                check_epochs(former, wanted.state_epoch, -1)
            if wanted.start_offset < 0:
                await partitions.forget(group_id, [place])
            else:
                await partitions.begin_at(
                    group_id, {place: wanted.start_offset}, (), max(wanted.state_epoch, 0)
                )
        except BrokerError as error:
            tell(row, error)
    return initialize_share_group_state.Response(results=topics)
