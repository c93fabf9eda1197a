"""AlterReplicaLogDirs (key 34): moves replicas between log directories.

Version 2 is flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=34, versions="0-2", flexible="2+"):
    class Dir(f.Struct):
        class Topic(f.Struct):
            name: str = f.string()
            partitions: list[int] = f.array(f.int32)

        path: str = f.string()
        topics: list[Topic] = f.array(Topic)

    dirs: list[Dir] = f.array(Dir)


class Response(f.Message, key=34, versions="0-2", flexible="2+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_index: int = f.int32()
            error_code: int = f.int16()

        topic_name: str = f.string()
        partitions: list[Partition] = f.array(Partition)

    throttle_time_ms: int = f.int32()
    results: list[Topic] = f.array(Topic)
