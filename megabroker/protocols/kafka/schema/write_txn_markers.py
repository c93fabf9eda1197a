"""WriteTxnMarkers (key 27): writes the outcome of transactions to their partitions.

Sent by brokers. Version 1 is flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=27, versions="1-2", flexible="1+"):
    class Marker(f.Struct):
        class Topic(f.Struct):
            name: str = f.string()
            partition_indexes: list[int] = f.array(f.int32)

        producer_id: int = f.int64()
        producer_epoch: int = f.int16()
        transaction_result: bool = f.boolean()
        topics: list[Topic] = f.array(Topic)
        coordinator_epoch: int = f.int32()
        transaction_version: int = f.int8("2+")

    markers: list[Marker] = f.array(Marker)


class Response(f.Message, key=27, versions="1-2", flexible="1+"):
    class Marker(f.Struct):
        class Topic(f.Struct):
            class Partition(f.Struct):
                partition_index: int = f.int32()
                error_code: int = f.int16()

            name: str = f.string()
            partitions: list[Partition] = f.array(Partition)

        producer_id: int = f.int64()
        topics: list[Topic] = f.array(Topic)

    markers: list[Marker] = f.array(Marker)
