"""ReadShareGroupStateSummary (87): how far a share group is in a partition, as stored (KIP-932).

**Behaviour.** A partition that has not been initialized has the start offset -1, which is no error.

**Version notes.** 1 adds how many records behind the start offset are done with.
"""

from __future__ import annotations

from megabroker.errors import BrokerError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import read_share_group_state_summary
from megabroker.protocols.kafka.share_states import check_place, rows, tell

__all__ = ["handle"]

_Topic = read_share_group_state_summary.Response.Topic


def handle(
    context: Context, request: read_share_group_state_summary.Request
) -> read_share_group_state_summary.Response:
    """Answer at once."""
    topics, found = rows(_Topic, _Topic.Partition, request)
    for place, _, row in found:
        try:
            check_place(context, request.group_id, place)
        except BrokerError as error:
            tell(row, error)
            continue
        state = context.broker.shares.partitions.stored_state(request.group_id, place)
        if state is None:
            row.start_offset = -1
            continue
        row.state_epoch = state.state_epoch
        row.leader_epoch = state.leader_epoch
        row.start_offset = state.start_offset
        row.delivery_complete_count = state.complete_count
    return read_share_group_state_summary.Response(results=topics)
