"""DescribeQuorum (55): who keeps the cluster's metadata.

**Behaviour.** Kafka asks this of the one partition of its metadata log. Here the controller keeps metadata by
itself: it is the leader and the only voter, and other nodes observe. There is no log, so all offsets are 0
and nobody lags behind. A request that asks for anything but that partition is answered with
UNKNOWN_TOPIC_OR_PARTITION for all it names.

**Version notes.** 1 adds times of fetches, which are now for the controller; 2 adds messages, directory ids,
which do not exist here, and the nodes with their addresses on the client's listener.
"""

from __future__ import annotations

from typing import Final

from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import describe_quorum
from megabroker.protocols.kafka.topics import reachable_nodes

__all__ = ["handle"]

_METADATA_TOPIC: Final = "__cluster_metadata"
_METADATA: Final = [(_METADATA_TOPIC, [0])]

_Topic = describe_quorum.Response.Topic
_Partition = describe_quorum.Response.Topic.Partition
_Node = describe_quorum.Response.Node
_Replica = describe_quorum.ReplicaState


def handle(context: Context, request: describe_quorum.Request) -> describe_quorum.Response:
    """Answer at once."""
    asked = [
        (topic.topic_name, [one.partition_index for one in topic.partitions]) for topic in request.topics
    ]
    response = describe_quorum.Response(error_message=None)
    if asked != _METADATA:
        response.topics = [
            _Topic(topic_name=name, partitions=[_unknown(index) for index in indexes])
            for name, indexes in asked
        ]
        return response
    placement = context.broker.placement
    leader = placement.controller().id
    now_ms = context.broker.now_ms()
    voter = _Replica(replica_id=leader, last_fetch_timestamp=now_ms, last_caught_up_timestamp=now_ms)
    quorum = _Partition(
        leader_id=leader,
        error_message=None,
        current_voters=[voter],
        observers=[_Replica(replica_id=node.id) for node in placement.nodes() if node.id != leader],
    )
    response.topics = [_Topic(topic_name=_METADATA_TOPIC, partitions=[quorum])]
    response.nodes = [
        _Node(
            node_id=node_id,
            listeners=[_Node.Listener(name=context.listener.upper(), host=address.host, port=address.port)],
        )
        for node_id, (_, address) in reachable_nodes(context).items()
    ]
    return response


def _unknown(index: int) -> _Partition:
    return _Partition(
        partition_index=index,
        error_code=int(KafkaError.UNKNOWN_TOPIC_OR_PARTITION),
        error_message=f"expected partition 0 of {_METADATA_TOPIC} alone",
        leader_id=-1,
        leader_epoch=-1,
        high_watermark=-1,
    )
