"""Metadata (key 3): tells brokers, topics and partitions.

Null topics ask for all; version 0 cannot say null and means all by an empty list. Version 9 is
flexible, 10 adds topic ids, 12 lets a topic be asked for by id alone.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=3, versions="0-13", flexible="9+"):
    class Topic(f.Struct):
        topic_id: bytes = f.uuid("10+")
        name: str | None = f.string(nullable="10+")

    topics: list[Topic] | None = f.array(Topic, nullable="1+")
    allow_auto_topic_creation: bool = f.boolean("4+", default=True)
    include_cluster_authorized_operations: bool = f.boolean("8-10")
    include_topic_authorized_operations: bool = f.boolean("8+")


class Response(f.Message, key=3, versions="0-13", flexible="9+"):
    class Broker(f.Struct):
        node_id: int = f.int32()
        host: str = f.string()
        port: int = f.int32()
        rack: str | None = f.string("1+", nullable="0+", default=None)

    class Topic(f.Struct):
        class Partition(f.Struct):
            error_code: int = f.int16()
            partition_index: int = f.int32()
            leader_id: int = f.int32()
            leader_epoch: int = f.int32("7+", default=-1)
            replica_nodes: list[int] = f.array(f.int32)
            isr_nodes: list[int] = f.array(f.int32)
            offline_replicas: list[int] = f.array(f.int32, "5+")

        error_code: int = f.int16()
        name: str | None = f.string(nullable="12+")
        topic_id: bytes = f.uuid("10+")
        is_internal: bool = f.boolean("1+")
        partitions: list[Partition] = f.array(Partition)
        topic_authorized_operations: int = f.int32("8+", default=-2147483648)

    throttle_time_ms: int = f.int32("3+")
    brokers: list[Broker] = f.array(Broker)
    cluster_id: str | None = f.string("2+", nullable="0+", default=None)
    controller_id: int = f.int32("1+", default=-1)
    topics: list[Topic] = f.array(Topic)
    cluster_authorized_operations: int = f.int32("8-10", default=-2147483648)
    error_code: int = f.int16("13+")
