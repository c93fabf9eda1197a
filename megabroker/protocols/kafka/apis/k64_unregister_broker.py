"""UnregisterBroker (64): take a node that is gone out of the cluster.

**Behaviour.** A node that is not there is BROKER_ID_NOT_REGISTERED. All that are there run, and a running
node cannot be taken out: INVALID_REQUEST. Only the controller is asked, other nodes answer NOT_CONTROLLER.

**Version notes.** There is one version.
"""

from __future__ import annotations

from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import unregister_broker
from megabroker.protocols.kafka.topics import is_controller

__all__ = ["handle"]


def handle(context: Context, request: unregister_broker.Request) -> unregister_broker.Response:
    """Answer at once."""
    wanted = request.broker_id
    if not is_controller(context.broker):
        code, message = KafkaError.NOT_CONTROLLER, "another node keeps the list of nodes"
    elif any(node.id == wanted for node in context.broker.placement.nodes()):
        code, message = KafkaError.INVALID_REQUEST, f"node {wanted} is running"
    else:
        code, message = KafkaError.BROKER_ID_NOT_REGISTERED, f"there is no node {wanted}"
    return unregister_broker.Response(error_code=int(code), error_message=message)
