"""AlterShareGroupOffsets (key 91): sets the start offsets of a share group."""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=91, versions="0", flexible="0+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_index: int = f.int32()
            start_offset: int = f.int64()

        topic_name: str = f.string()
        partitions: list[Partition] = f.array(Partition)

    group_id: str = f.string()
    topics: list[Topic] = f.array(Topic)


class Response(f.Message, key=91, versions="0", flexible="0+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_index: int = f.int32()
            error_code: int = f.int16()
            error_message: str | None = f.string(nullable="0+", default=None)

        topic_name: str = f.string()
        topic_id: bytes = f.uuid()
        partitions: list[Partition] = f.array(Partition)

    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    error_message: str | None = f.string(nullable="0+", default=None)
    responses: list[Topic] = f.array(Topic)
