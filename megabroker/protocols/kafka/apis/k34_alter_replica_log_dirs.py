"""AlterReplicaLogDirs (34): move replicas between the directories of a node.

**Behaviour.** Partitions stay where they are. Moving one to the directory it is in, which DescribeLogDirs
names, succeeds; to another directory of this node is UNSUPPORTED_VERSION, and to one that is none
LOG_DIR_NOT_FOUND. Directories are compared as paths, and only an absolute one can be right.

**Version notes.** The versions have the same content.
"""

from __future__ import annotations

import os

from megabroker.errors import BrokerError
from megabroker.protocols.kafka.apis.k35_describe_log_dirs import data_directories, place_of
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.schema import alter_replica_log_dirs

__all__ = ["handle"]

_Topic = alter_replica_log_dirs.Response.Topic
_Row = alter_replica_log_dirs.Response.Topic.Partition


def handle(context: Context, request: alter_replica_log_dirs.Request) -> alter_replica_log_dirs.Response:
    """Answer at once."""
    rows: dict[str, list[_Row]] = {}
    for wanted in request.dirs:
        path = os.path.normpath(wanted.path)
        for topic in wanted.topics:
            rows.setdefault(topic.name, []).extend(
                _Row(partition_index=index, error_code=_move(context, path, topic.name, index))
                for index in topic.partitions
            )
    return alter_replica_log_dirs.Response(
        results=[_Topic(topic_name=name, partitions=partitions) for name, partitions in rows.items()]
    )


def _move(context: Context, path: str, topic: str, index: int) -> int:
    if path not in data_directories(context.broker.settings):
        return int(KafkaError.LOG_DIR_NOT_FOUND)
    try:
        place, _ = place_of(context, topic, index)
    except BrokerError as error:
        return kafka_error(error)
    return 0 if place == path else int(KafkaError.UNSUPPORTED_VERSION)
