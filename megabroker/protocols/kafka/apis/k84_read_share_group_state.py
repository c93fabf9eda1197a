"""ReadShareGroupState (84): the stored state of a share group in a partition (KIP-932).

**Behaviour.** The start offset and the records behind it that are done with or have been delivered, as
stored. A partition that has not been initialized is INVALID_REQUEST.

**Version notes.** There is one version.
"""

from __future__ import annotations

from megabroker.errors import BrokerError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import read_share_group_state
from megabroker.protocols.kafka.share_states import check_epochs, rows, stored, tell

__all__ = ["handle"]

_Topic = read_share_group_state.Response.Topic
_Batch = _Topic.Partition.StateBatch


def handle(context: Context, request: read_share_group_state.Request) -> read_share_group_state.Response:
    """Answer at once."""
    topics, found = rows(_Topic, _Topic.Partition, request)
    for place, wanted, row in found:
        try:
            state = stored(context, request.group_id, place)
            check_epochs(state, -1, wanted.leader_epoch)
        except BrokerError as error:
            tell(row, error)
            continue
        row.state_epoch = state.state_epoch
        row.start_offset = state.start_offset
        row.state_batches = [_Batch(**batch._asdict()) for batch in state.batches]
    return read_share_group_state.Response(results=topics)
