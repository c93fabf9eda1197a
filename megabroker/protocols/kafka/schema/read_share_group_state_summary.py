"""ReadShareGroupStateSummary (key 87): reads the summary of the stored state of a share group.

Sent by brokers.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=87, versions="0-1", flexible="0+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition: int = f.int32()
            leader_epoch: int = f.int32()

        topic_id: bytes = f.uuid()
        partitions: list[Partition] = f.array(Partition)

    group_id: str = f.string()
    topics: list[Topic] = f.array(Topic)


class Response(f.Message, key=87, versions="0-1", flexible="0+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition: int = f.int32()
            error_code: int = f.int16()
            error_message: str | None = f.string(nullable="0+", default=None)
            state_epoch: int = f.int32()
            leader_epoch: int = f.int32()
            start_offset: int = f.int64()
            delivery_complete_count: int = f.int32("1+", default=-1)

        topic_id: bytes = f.uuid()
        partitions: list[Partition] = f.array(Partition)

    results: list[Topic] = f.array(Topic)
