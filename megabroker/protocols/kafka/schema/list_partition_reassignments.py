"""ListPartitionReassignments (key 46): lists moves of replicas in progress.

Null topics ask for all.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=46, versions="0", flexible="0+"):
    class Topic(f.Struct):
        name: str = f.string()
        partition_indexes: list[int] = f.array(f.int32)

    timeout_ms: int = f.int32(default=60000)
    topics: list[Topic] | None = f.array(Topic, nullable="0+", default=None)


class Response(f.Message, key=46, versions="0", flexible="0+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_index: int = f.int32()
            replicas: list[int] = f.array(f.int32)
            adding_replicas: list[int] = f.array(f.int32)
            removing_replicas: list[int] = f.array(f.int32)

        name: str = f.string()
        partitions: list[Partition] = f.array(Partition)

    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    error_message: str | None = f.string(nullable="0+")
    topics: list[Topic] = f.array(Topic)
