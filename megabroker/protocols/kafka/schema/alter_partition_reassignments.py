"""AlterPartitionReassignments (key 45): starts and cancels moves of replicas.

Null replicas cancel a pending move. Version 1 can refuse a change of the replication factor.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=45, versions="0-1", flexible="0+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_index: int = f.int32()
            replicas: list[int] | None = f.array(f.int32, nullable="0+", default=None)

        name: str = f.string()
        partitions: list[Partition] = f.array(Partition)

    timeout_ms: int = f.int32(default=60000)
    allow_replication_factor_change: bool = f.boolean("1+", default=True)
    topics: list[Topic] = f.array(Topic)


class Response(f.Message, key=45, versions="0-1", flexible="0+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_index: int = f.int32()
            error_code: int = f.int16()
            error_message: str | None = f.string(nullable="0+")

        name: str = f.string()
        partitions: list[Partition] = f.array(Partition)

    throttle_time_ms: int = f.int32()
    allow_replication_factor_change: bool = f.boolean("1+", default=True)
    error_code: int = f.int16()
    error_message: str | None = f.string(nullable="0+")
    responses: list[Topic] = f.array(Topic)
