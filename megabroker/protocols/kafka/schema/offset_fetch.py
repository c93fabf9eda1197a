"""OffsetFetch (key 9): reads the offsets of groups.

Version 2 lets null topics ask for all, 6 is flexible, 8 asks for several groups at once and
moves everything into ``groups``, 10 names topics by id. Versions 0 and 1 are the same.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=9, versions="0-10", flexible="6+"):
    class Topic(f.Struct):
        name: str = f.string("0-7")
        partition_indexes: list[int] = f.array(f.int32, "0-7")

    class Group(f.Struct):
        class Topic(f.Struct):
            name: str = f.string("0-9")
            topic_id: bytes = f.uuid("10+")
            partition_indexes: list[int] = f.array(f.int32)

        group_id: str = f.string()
        member_id: str | None = f.string("9+", nullable="0+", default=None)
        member_epoch: int = f.int32("9+", default=-1)
        topics: list[Topic] | None = f.array(Topic, nullable="0+")

    group_id: str = f.string("0-7")
    topics: list[Topic] | None = f.array(Topic, "0-7", nullable="2-7")
    groups: list[Group] = f.array(Group, "8+")
    require_stable: bool = f.boolean("7+")


class Response(f.Message, key=9, versions="0-10", flexible="6+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_index: int = f.int32("0-7")
            committed_offset: int = f.int64("0-7")
            committed_leader_epoch: int = f.int32("5-7", default=-1)
            metadata: str | None = f.string("0-7", nullable="0-7")
            error_code: int = f.int16("0-7")

        name: str = f.string("0-7")
        partitions: list[Partition] = f.array(Partition, "0-7")

    class Group(f.Struct):
        class Topic(f.Struct):
            class Partition(f.Struct):
                partition_index: int = f.int32()
                committed_offset: int = f.int64()
                committed_leader_epoch: int = f.int32(default=-1)
                metadata: str | None = f.string(nullable="0+")
                error_code: int = f.int16()

            name: str = f.string("0-9")
            topic_id: bytes = f.uuid("10+")
            partitions: list[Partition] = f.array(Partition)

        group_id: str = f.string()
        topics: list[Topic] = f.array(Topic)
        error_code: int = f.int16()

    throttle_time_ms: int = f.int32("3+")
    topics: list[Topic] = f.array(Topic, "0-7")
    error_code: int = f.int16("2-7")
    groups: list[Group] = f.array(Group, "8+")
