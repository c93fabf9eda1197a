"""OffsetForLeaderEpoch (key 23): finds where a leader epoch ended.

Version 2 adds the current epoch of the client, 3 the replica id, 4 is flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=23, versions="0-4", flexible="4+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition: int = f.int32()
            current_leader_epoch: int = f.int32("2+", default=-1)
            leader_epoch: int = f.int32()

        topic: str = f.string()
        partitions: list[Partition] = f.array(Partition)

    replica_id: int = f.int32("3+", default=-2)
    topics: list[Topic] = f.array(Topic)


class Response(f.Message, key=23, versions="0-4", flexible="4+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            error_code: int = f.int16()
            partition: int = f.int32()
            leader_epoch: int = f.int32("1+", default=-1)
            end_offset: int = f.int64(default=-1)

        topic: str = f.string()
        partitions: list[Partition] = f.array(Partition)

    throttle_time_ms: int = f.int32("2+")
    topics: list[Topic] = f.array(Topic)
