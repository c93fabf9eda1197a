"""DescribeQuorum (key 55): tells the state of the metadata quorum.

Version 1 adds fetch times, 2 directory ids and the endpoints of nodes.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=55, versions="0-2", flexible="0+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_index: int = f.int32()

        topic_name: str = f.string()
        partitions: list[Partition] = f.array(Partition)

    topics: list[Topic] = f.array(Topic)


class ReplicaState(f.Struct):
    replica_id: int = f.int32()
    replica_directory_id: bytes = f.uuid("2+")
    log_end_offset: int = f.int64()
    last_fetch_timestamp: int = f.int64("1+", default=-1)
    last_caught_up_timestamp: int = f.int64("1+", default=-1)


class Response(f.Message, key=55, versions="0-2", flexible="0+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_index: int = f.int32()
            error_code: int = f.int16()
            error_message: str | None = f.string("2+", nullable="0+")
            leader_id: int = f.int32()
            leader_epoch: int = f.int32()
            high_watermark: int = f.int64()
            current_voters: list[ReplicaState] = f.array(ReplicaState)
            observers: list[ReplicaState] = f.array(ReplicaState)

        topic_name: str = f.string()
        partitions: list[Partition] = f.array(Partition)

    class Node(f.Struct):
        class Listener(f.Struct):
            name: str = f.string()
            host: str = f.string()
            port: int = f.uint16()

        node_id: int = f.int32()
        listeners: list[Listener] = f.array(Listener)

    error_code: int = f.int16()
    error_message: str | None = f.string("2+", nullable="0+")
    topics: list[Topic] = f.array(Topic)
    nodes: list[Node] = f.array(Node, "2+")
