"""ElectLeaders (43): elect partition leaders.

**Behaviour.** Every partition has one replica, so there is never a choice: where it serves,
ELECTION_NOT_NEEDED is answered, and where it does not, PREFERRED_LEADER_NOT_AVAILABLE or, to an unclean
election, ELIGIBLE_LEADERS_NOT_AVAILABLE. Null partitions ask for all, and those that need no election are
then left out. An unknown election type is INVALID_REQUEST. Only the controller elects, other nodes answer
NOT_CONTROLLER.

**Version notes.** 0 elects preferred leaders and has no error for the whole answer; 1 adds both, 2 is
flexible.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import elect_leaders
from megabroker.protocols.kafka.topics import first_seen, is_controller, place

__all__ = ["handle"]

_PREFERRED: Final = 0
_UNCLEAN: Final = 1
_PREFERRED_LEADER_NOT_AVAILABLE: Final = 80
_ELIGIBLE_LEADERS_NOT_AVAILABLE: Final = 83
_ELECTION_NOT_NEEDED: Final = 84

_Topic = elect_leaders.Response.Topic
_Row = elect_leaders.Response.Topic.Partition


def handle(context: Context, request: elect_leaders.Request) -> elect_leaders.Response:
    """Answer at once."""
    refusal = _refusal(context, request.election_type)
    nodes = {node.id: node for node in context.broker.placement.nodes()}
    topics = []
    asked: Iterable[tuple[str, Iterable[int]]]
    if request.topic_partitions is None:
        asked = [(topic.name, range(topic.partitions)) for topic in context.broker.topics.all()]
        if refusal is not None:
            asked = []
    else:
        asked = [(one.topic, first_seen(one.partitions)[0]) for one in request.topic_partitions]
    for name, indexes in asked:
        rows = []
        for index in indexes:
            code, message = refusal or _elect(context, nodes, name, index, request.election_type)
            if request.topic_partitions is not None or code != _ELECTION_NOT_NEEDED:
                rows.append(_Row(partition_id=index, error_code=code, error_message=message))
        if rows:
            topics.append(_Topic(topic=name, partition_result=rows))
    return elect_leaders.Response(error_code=refusal[0] if refusal else 0, replica_election_results=topics)


def _refusal(context: Context, election_type: int) -> tuple[int, str] | None:
    if election_type not in (_PREFERRED, _UNCLEAN):
        return int(KafkaError.INVALID_REQUEST), f"there is no election type {election_type}"
    if not is_controller(context.broker):
        return int(KafkaError.NOT_CONTROLLER), "another node elects leaders"
    return None


def _elect(
    context: Context, nodes: Mapping[int, Any], name: str, index: int, election_type: int
) -> tuple[int, str]:
    topic = context.broker.topics.get(name)
    if topic is None or not 0 <= index < topic.partitions:
        return int(KafkaError.UNKNOWN_TOPIC_OR_PARTITION), "there is no such partition"
    if not place(context.broker, nodes, name, index).error_code:
        return _ELECTION_NOT_NEEDED, "the only replica leads the partition"
    if election_type == _UNCLEAN:
        return _ELIGIBLE_LEADERS_NOT_AVAILABLE, "the only replica does not serve"
    return _PREFERRED_LEADER_NOT_AVAILABLE, "the only replica does not serve"
