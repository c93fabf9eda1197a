"""RemoveRaftVoter (81): take a controller from those that vote.

**Behaviour.** The voters are fixed: refused as AddRaftVoter is.

**Version notes.** There is one version.
"""

from __future__ import annotations

from megabroker.protocols.kafka.apis.k80_add_raft_voter import refusal
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import remove_raft_voter

__all__ = ["handle"]


def handle(context: Context, request: remove_raft_voter.Request) -> remove_raft_voter.Response:
    """Answer at once."""
    code, message = refusal(context, request.cluster_id, request.voter_id)
    return remove_raft_voter.Response(error_code=int(code), error_message=message)
