"""WriteShareGroupState (key 85): writes the stored state of a share group.

Sent by brokers.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=85, versions="0-1", flexible="0+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            class StateBatch(f.Struct):
                first_offset: int = f.int64()
                last_offset: int = f.int64()
                delivery_state: int = f.int8()
                delivery_count: int = f.int16()

            partition: int = f.int32()
            state_epoch: int = f.int32()
            leader_epoch: int = f.int32()
            start_offset: int = f.int64()
            delivery_complete_count: int = f.int32("1+", default=-1)
            state_batches: list[StateBatch] = f.array(StateBatch)

        topic_id: bytes = f.uuid()
        partitions: list[Partition] = f.array(Partition)

    group_id: str = f.string()
    topics: list[Topic] = f.array(Topic)


class Response(f.Message, key=85, versions="0-1", flexible="0+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition: int = f.int32()
            error_code: int = f.int16()
            error_message: str | None = f.string(nullable="0+", default=None)

        topic_id: bytes = f.uuid()
        partitions: list[Partition] = f.array(Partition)

    results: list[Topic] = f.array(Topic)
