"""DescribeTransactions (key 65): tells the state of transactions."""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=65, versions="0", flexible="0+"):
    transactional_ids: list[str] = f.array(f.string)


class Response(f.Message, key=65, versions="0", flexible="0+"):
    class TransactionState(f.Struct):
        class Topic(f.Struct):
            topic: str = f.string()
            partitions: list[int] = f.array(f.int32)

        error_code: int = f.int16()
        transactional_id: str = f.string()
        transaction_state: str = f.string()
        transaction_timeout_ms: int = f.int32()
        transaction_start_time_ms: int = f.int64()
        producer_id: int = f.int64()
        producer_epoch: int = f.int16()
        topics: list[Topic] = f.array(Topic)

    throttle_time_ms: int = f.int32()
    transaction_states: list[TransactionState] = f.array(TransactionState)
