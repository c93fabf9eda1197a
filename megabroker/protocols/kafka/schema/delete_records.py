"""DeleteRecords (key 21): moves the start of a partition forward.

Version 2 is flexible. An offset of -1 means the high watermark.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=21, versions="0-2", flexible="2+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_index: int = f.int32()
            offset: int = f.int64()

        name: str = f.string()
        partitions: list[Partition] = f.array(Partition)

    topics: list[Topic] = f.array(Topic)
    timeout_ms: int = f.int32()


class Response(f.Message, key=21, versions="0-2", flexible="2+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_index: int = f.int32()
            low_watermark: int = f.int64()
            error_code: int = f.int16()

        name: str = f.string()
        partitions: list[Partition] = f.array(Partition)

    throttle_time_ms: int = f.int32()
    topics: list[Topic] = f.array(Topic)
