"""DescribeShareGroupOffsets (key 90): tells the start offsets of share groups."""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=90, versions="0-1", flexible="0+"):
    class Group(f.Struct):
        class Topic(f.Struct):
            topic_name: str = f.string()
            partitions: list[int] = f.array(f.int32)

        group_id: str = f.string()
        topics: list[Topic] | None = f.array(Topic, nullable="0+")

    groups: list[Group] = f.array(Group)


class Response(f.Message, key=90, versions="0-1", flexible="0+"):
    class Group(f.Struct):
        class Topic(f.Struct):
            class Partition(f.Struct):
                partition_index: int = f.int32()
                start_offset: int = f.int64()
                leader_epoch: int = f.int32()
                lag: int = f.int64("1+", default=-1)
                error_code: int = f.int16()
                error_message: str | None = f.string(nullable="0+", default=None)

            topic_name: str = f.string()
            topic_id: bytes = f.uuid()
            partitions: list[Partition] = f.array(Partition)

        group_id: str = f.string()
        topics: list[Topic] = f.array(Topic)
        error_code: int = f.int16()
        error_message: str | None = f.string(nullable="0+", default=None)

    throttle_time_ms: int = f.int32()
    groups: list[Group] = f.array(Group)
