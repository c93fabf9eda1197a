"""AddPartitionsToTxn (key 24): adds partitions to a transaction.

Version 3 is flexible; 4 lets brokers ask for several transactions at once and is not for clients.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Topic(f.Struct):
    name: str = f.string()
    partitions: list[int] = f.array(f.int32)


class Request(f.Message, key=24, versions="0-5", flexible="3+"):
    class Transaction(f.Struct):
        transactional_id: str = f.string()
        producer_id: int = f.int64()
        producer_epoch: int = f.int16()
        verify_only: bool = f.boolean()
        topics: list[Topic] = f.array(Topic)

    transactions: list[Transaction] = f.array(Transaction, "4+")
    v3_and_below_transactional_id: str = f.string("0-3")
    v3_and_below_producer_id: int = f.int64("0-3")
    v3_and_below_producer_epoch: int = f.int16("0-3")
    v3_and_below_topics: list[Topic] = f.array(Topic, "0-3")


class PartitionResult(f.Struct):
    partition_index: int = f.int32()
    partition_error_code: int = f.int16()


class TopicResult(f.Struct):
    name: str = f.string()
    results_by_partition: list[PartitionResult] = f.array(PartitionResult)


class Response(f.Message, key=24, versions="0-5", flexible="3+"):
    class Transaction(f.Struct):
        transactional_id: str = f.string()
        topic_results: list[TopicResult] = f.array(TopicResult)

    throttle_time_ms: int = f.int32()
    error_code: int = f.int16("4+")
    results_by_transaction: list[Transaction] = f.array(Transaction, "4+")
    results_by_topic_v3_and_below: list[TopicResult] = f.array(TopicResult, "0-3")
