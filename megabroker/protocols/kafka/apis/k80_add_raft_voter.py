"""AddRaftVoter (80): add a controller to those that vote.

**Behaviour.** The voters are fixed, as with Apache Kafka at level 0 of ``kraft.version``:
UNSUPPORTED_VERSION. Another cluster's id is INCONSISTENT_CLUSTER_ID, a negative voter
INVALID_REQUEST.

**Version notes.** 1 says how long to wait with the answer, which there is no need for.
"""

from __future__ import annotations

from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import add_raft_voter

__all__ = ["handle", "refusal"]


def handle(context: Context, request: add_raft_voter.Request) -> add_raft_voter.Response:
    """Answer at once."""
    code, message = refusal(context, request.cluster_id, request.voter_id)
    return add_raft_voter.Response(error_code=int(code), error_message=message)


def refusal(context: Context, cluster_id: str | None, voter_id: int) -> tuple[KafkaError, str]:
    """Say why the voters cannot be changed."""
    if cluster_id is not None and cluster_id != context.broker.cluster_id:
        return KafkaError.INCONSISTENT_CLUSTER_ID, f"the id of this cluster is {context.broker.cluster_id}"
    if voter_id < 0:
        return KafkaError.INVALID_REQUEST, f"there is no voter {voter_id}"
    return KafkaError.UNSUPPORTED_VERSION, "the voters cannot be changed: kraft.version is 0"
