"""OffsetCommit (key 8): stores the offsets of a group.

Version 0 has no member, 1 a timestamp per partition, 2 to 4 a retention time, 7 static membership;
8 is flexible, 9 serves both group protocols, 10 names topics by id.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=8, versions="0-10", flexible="8+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_index: int = f.int32()
            committed_offset: int = f.int64()
            committed_leader_epoch: int = f.int32("6+", default=-1)
            commit_timestamp: int = f.int64("1", default=-1)
            committed_metadata: str | None = f.string(nullable="0+")

        name: str = f.string("0-9")
        topic_id: bytes = f.uuid("10+")
        partitions: list[Partition] = f.array(Partition)

    group_id: str = f.string()
    generation_id_or_member_epoch: int = f.int32("1+", default=-1)
    member_id: str = f.string("1+")
    group_instance_id: str | None = f.string("7+", nullable="0+", default=None)
    retention_time_ms: int = f.int64("2-4", default=-1)
    topics: list[Topic] = f.array(Topic)


class Response(f.Message, key=8, versions="0-10", flexible="8+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_index: int = f.int32()
            error_code: int = f.int16()

        name: str = f.string("0-9")
        topic_id: bytes = f.uuid("10+")
        partitions: list[Partition] = f.array(Partition)

    throttle_time_ms: int = f.int32("3+")
    topics: list[Topic] = f.array(Topic)
