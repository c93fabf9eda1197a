"""DescribeLogDirs (key 35): tells size and place of partitions on disk.

Version 2 is flexible, 4 adds the size of the volume.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=35, versions="0-5", flexible="2+"):
    class Topic(f.Struct):
        topic: str = f.string()
        partitions: list[int] = f.array(f.int32)

    topics: list[Topic] | None = f.array(Topic, nullable="0+")


class Response(f.Message, key=35, versions="0-5", flexible="2+"):
    class LogDir(f.Struct):
        class Topic(f.Struct):
            class Partition(f.Struct):
                partition_index: int = f.int32()
                partition_size: int = f.int64()
                offset_lag: int = f.int64()
                is_future_key: bool = f.boolean()

            name: str = f.string()
            partitions: list[Partition] = f.array(Partition)

        error_code: int = f.int16()
        log_dir: str = f.string()
        topics: list[Topic] = f.array(Topic)
        total_bytes: int = f.int64("4+", default=-1)
        usable_bytes: int = f.int64("4+", default=-1)
        is_cordoned: bool = f.boolean("5+")

    throttle_time_ms: int = f.int32()
    error_code: int = f.int16("3+")
    results: list[LogDir] = f.array(LogDir)
