"""DescribeProducers (key 61): lists the active producers of partitions."""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=61, versions="0", flexible="0+"):
    class Topic(f.Struct):
        name: str = f.string()
        partition_indexes: list[int] = f.array(f.int32)

    topics: list[Topic] = f.array(Topic)


class Response(f.Message, key=61, versions="0", flexible="0+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            class ActiveProducer(f.Struct):
                producer_id: int = f.int64()
                producer_epoch: int = f.int32()
                last_sequence: int = f.int32(default=-1)
                last_timestamp: int = f.int64(default=-1)
                coordinator_epoch: int = f.int32()
                current_txn_start_offset: int = f.int64(default=-1)

            partition_index: int = f.int32()
            error_code: int = f.int16()
            error_message: str | None = f.string(nullable="0+", default=None)
            active_producers: list[ActiveProducer] = f.array(ActiveProducer)

        name: str = f.string()
        partitions: list[Partition] = f.array(Partition)

    throttle_time_ms: int = f.int32()
    topics: list[Topic] = f.array(Topic)
