"""DescribeCluster (60): the nodes and which of them takes topic changes.

**Behaviour.** Nodes without an address on the client's listener are not shown. Every node is a broker:
there are no controllers with endpoints of their own, so asking for those is MISMATCHED_ENDPOINT_TYPE.

**Version notes.** 1 adds the endpoint type, 2 fenced brokers, of which there are none.
"""

from __future__ import annotations

from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import describe_cluster
from megabroker.protocols.kafka.topics import cluster_operations, reachable_nodes

__all__ = ["handle"]

_BROKERS = 1
_CONTROLLERS = 2
_MISMATCHED_ENDPOINT_TYPE = 114
_UNSUPPORTED_ENDPOINT_TYPE = 115


def handle(context: Context, request: describe_cluster.Request) -> describe_cluster.Response:
    """Answer at once."""
    broker = context.broker
    if request.endpoint_type != _BROKERS:
        controllers = request.endpoint_type == _CONTROLLERS
        return describe_cluster.Response(
            error_code=_MISMATCHED_ENDPOINT_TYPE if controllers else _UNSUPPORTED_ENDPOINT_TYPE,
            error_message="this is a broker endpoint; ask for endpoint type 1",
        )
    response = describe_cluster.Response(
        cluster_id=broker.cluster_id,
        controller_id=broker.placement.controller().id,
        brokers=[
            describe_cluster.Response.Broker(
                broker_id=node_id, host=address.host, port=address.port, rack=node.rack
            )
            for node_id, (node, address) in reachable_nodes(context).items()
        ],
    )
    if request.include_cluster_authorized_operations:
        response.cluster_authorized_operations = cluster_operations(context)
    return response
