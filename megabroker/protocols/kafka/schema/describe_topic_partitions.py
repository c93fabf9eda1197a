"""DescribeTopicPartitions (key 75): tells partitions of topics page by page.

The cursor is a nullable struct: 0xff when absent, else 0x01 and its fields.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=75, versions="0", flexible="0+"):
    class Topic(f.Struct):
        name: str = f.string()

    class Cursor(f.Struct):
        topic_name: str = f.string()
        partition_index: int = f.int32()

    topics: list[Topic] = f.array(Topic)
    response_partition_limit: int = f.int32(default=2000)
    cursor: Cursor | None = f.struct(Cursor, nullable="0+", default=None)


class Response(f.Message, key=75, versions="0", flexible="0+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            error_code: int = f.int16()
            partition_index: int = f.int32()
            leader_id: int = f.int32()
            leader_epoch: int = f.int32(default=-1)
            replica_nodes: list[int] = f.array(f.int32)
            isr_nodes: list[int] = f.array(f.int32)
            eligible_leader_replicas: list[int] | None = f.array(f.int32, nullable="0+", default=None)
            last_known_elr: list[int] | None = f.array(f.int32, nullable="0+", default=None)
            offline_replicas: list[int] = f.array(f.int32)

        error_code: int = f.int16()
        name: str | None = f.string(nullable="0+")
        topic_id: bytes = f.uuid()
        is_internal: bool = f.boolean()
        partitions: list[Partition] = f.array(Partition)
        topic_authorized_operations: int = f.int32(default=-2147483648)

    class NextCursor(f.Struct):
        topic_name: str = f.string()
        partition_index: int = f.int32()

    throttle_time_ms: int = f.int32()
    topics: list[Topic] = f.array(Topic)
    next_cursor: NextCursor | None = f.struct(NextCursor, nullable="0+", default=None)
