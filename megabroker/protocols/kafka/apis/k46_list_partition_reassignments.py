"""ListPartitionReassignments (46): which replicas are on the move.

**Behaviour.** None ever is, so whatever is asked for the list is empty.

**Version notes.** There is one version.
"""

from __future__ import annotations

from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import list_partition_reassignments

__all__ = ["handle"]


def handle(
    context: Context,
    request: list_partition_reassignments.Request,
) -> list_partition_reassignments.Response:
    """Answer at once."""
    return list_partition_reassignments.Response(error_message=None)
