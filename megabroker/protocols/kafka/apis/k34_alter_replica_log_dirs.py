"""AlterReplicaLogDirs (34): move replicas between the directories of a node.

**Behaviour.** There is one directory, the one that DescribeLogDirs names. Moving a partition there
succeeds, as it is there; any other directory is LOG_DIR_NOT_FOUND. Directories are compared as paths, and
only an absolute one can be right.

**Version notes.** The versions have the same content.
"""

from __future__ import annotations

import os

from megabroker.errors import BrokerError
from megabroker.interfaces import IBroker
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.schema import alter_replica_log_dirs

__all__ = ["handle"]

_Topic = alter_replica_log_dirs.Response.Topic
_Row = alter_replica_log_dirs.Response.Topic.Partition


def handle(context: Context, request: alter_replica_log_dirs.Request) -> alter_replica_log_dirs.Response:
    """Answer at once."""
    broker = context.broker
    here = os.path.abspath(broker.settings.data_dir)
    rows: dict[str, list[_Row]] = {}
    for place in request.dirs:
        known = os.path.isabs(place.path) and os.path.normpath(place.path) == here
        for topic in place.topics:
            rows.setdefault(topic.name, []).extend(
                _Row(partition_index=index, error_code=_move(broker, known, topic.name, index))
                for index in topic.partitions
            )
    return alter_replica_log_dirs.Response(
        results=[_Topic(topic_name=name, partitions=partitions) for name, partitions in rows.items()]
    )


def _move(broker: IBroker, known: bool, topic: str, index: int) -> int:
    if not known:
        return int(KafkaError.LOG_DIR_NOT_FOUND)
    try:
        broker.topics.partition(topic, index)
    except BrokerError as error:
        return kafka_error(error)
    return 0
