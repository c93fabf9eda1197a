"""TxnOffsetCommit (key 28): stores offsets as part of a transaction.

Version 2 adds leader epochs, 3 is flexible and adds the member.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=28, versions="0-5", flexible="3+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_index: int = f.int32()
            committed_offset: int = f.int64()
            committed_leader_epoch: int = f.int32("2+", default=-1)
            committed_metadata: str | None = f.string(nullable="0+")

        name: str = f.string()
        partitions: list[Partition] = f.array(Partition)

    transactional_id: str = f.string()
    group_id: str = f.string()
    producer_id: int = f.int64()
    producer_epoch: int = f.int16()
    generation_id: int = f.int32("3+", default=-1)
    member_id: str = f.string("3+")
    group_instance_id: str | None = f.string("3+", nullable="0+", default=None)
    topics: list[Topic] = f.array(Topic)


class Response(f.Message, key=28, versions="0-5", flexible="3+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_index: int = f.int32()
            error_code: int = f.int16()

        name: str = f.string()
        partitions: list[Partition] = f.array(Partition)

    throttle_time_ms: int = f.int32()
    topics: list[Topic] = f.array(Topic)
