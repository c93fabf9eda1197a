"""OffsetDelete (key 47): deletes offsets of a group.

Never flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=47, versions="0"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_index: int = f.int32()

        name: str = f.string()
        partitions: list[Partition] = f.array(Partition)

    group_id: str = f.string()
    topics: list[Topic] = f.array(Topic)


class Response(f.Message, key=47, versions="0"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_index: int = f.int32()
            error_code: int = f.int16()

        name: str = f.string()
        partitions: list[Partition] = f.array(Partition)

    error_code: int = f.int16()
    throttle_time_ms: int = f.int32()
    topics: list[Topic] = f.array(Topic)
