"""FindCoordinator (10): which node a group or a transactional id belongs to.

**Behaviour.** A coordinator without an address on the client's listener is COORDINATOR_NOT_AVAILABLE. The key
of a share partition is ``group:topic id:partition``; its leader keeps what is stored of it. Another form of
it, and any other key type, is INVALID_REQUEST.

**Version notes.** 0 asks for groups only. 4 asks for several keys, each answered once. From 6 on
share partitions can be asked for.
"""

from __future__ import annotations

import base64
from uuid import UUID

from megabroker.access import CLUSTER_NAME, Operation, ResourceType
from megabroker.model import Node, TopicPartition
from megabroker.protocols.kafka.access.refusals import not_allowed
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.schema import find_coordinator
from megabroker.protocols.kafka.topics import first_seen

__all__ = ["handle"]

_SEVERAL = 4
_KNOWS_SHARES = 6
_SHARE = 2
_NEEDS = {
    0: (Operation.DESCRIBE, ResourceType.GROUP),
    1: (Operation.DESCRIBE, ResourceType.TRANSACTIONAL_ID),
    _SHARE: (Operation.CLUSTER_ACTION, ResourceType.CLUSTER),
}

_Coordinator = find_coordinator.Response.Coordinator


def handle(context: Context, request: find_coordinator.Request) -> find_coordinator.Response:
    """Answer at once."""
    if context.version >= _SEVERAL:
        keys, _ = first_seen(request.coordinator_keys)
        return find_coordinator.Response(coordinators=[_find(context, request.key_type, key) for key in keys])
    found = _find(context, request.key_type, request.key)
    return find_coordinator.Response(
        error_code=found.error_code,
        error_message=found.error_message,
        node_id=found.node_id,
        host=found.host,
        port=found.port,
    )


def _find(context: Context, key_type: int, key: str) -> _Coordinator:
    row = _Coordinator(key=key, node_id=-1, host="", port=-1, error_message=None)
    if key_type not in _NEEDS or (key_type == _SHARE and context.version < _KNOWS_SHARES):
        row.error_code = int(KafkaError.INVALID_REQUEST)
        row.error_message = "expected key type 0 (group), 1 (transaction) or, from version 6, 2 (share)"
        return row
    operation, resource_type = _NEEDS[key_type]
    if not context.may(operation, resource_type, CLUSTER_NAME if key_type == _SHARE else key):
        refused = not_allowed(resource_type)
        row.error_code, row.error_message = kafka_error(refused), refused.message
        return row
    if key_type == _SHARE:
        group_id, *place = key.rsplit(":", 2)
        if not group_id or len(place) < 2 or not place[1].isdecimal():
            row.error_code = int(KafkaError.INVALID_REQUEST)
            row.error_message = "expected a key of the form group:topic id:partition"
            return row
        node = _leader(context, group_id, *place)
    else:
        node = context.broker.placement.coordinator(key)
    host, port = context.address(node)
    if port < 0:
        row.error_code = int(KafkaError.COORDINATOR_NOT_AVAILABLE)
        row.error_message = "the coordinator has no address on this listener"
        return row
    row.node_id, row.host, row.port = node.id, host, port
    return row


def _leader(context: Context, group_id: str, topic_id: str, index: str) -> Node:
    """Return the leader of a share partition; of one that is not known, the group's coordinator."""
    placement = context.broker.placement
    try:
        topic = context.broker.topics.get_by_id(_uuid(topic_id))
    except ValueError:
        topic = None
    if topic is None:
        return placement.coordinator(group_id)
    return placement.leader(TopicPartition(topic.name, int(index[:10])))


def _uuid(text: str) -> UUID:
    """Read a topic id as Kafka writes it, 22 characters of base64. Raises ValueError."""
    return UUID(bytes=base64.urlsafe_b64decode(text + "=="))
