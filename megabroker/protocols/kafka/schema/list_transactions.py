"""ListTransactions (key 66): lists transactions of a coordinator.

Version 1 filters by duration, 2 by a pattern of the id.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=66, versions="0-2", flexible="0+"):
    state_filters: list[str] = f.array(f.string)
    producer_id_filters: list[int] = f.array(f.int64)
    duration_filter: int = f.int64("1+", default=-1)
    transactional_id_pattern: str | None = f.string("2+", nullable="0+", default=None)


class Response(f.Message, key=66, versions="0-2", flexible="0+"):
    class TransactionState(f.Struct):
        transactional_id: str = f.string()
        producer_id: int = f.int64()
        transaction_state: str = f.string()

    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    unknown_state_filters: list[str] = f.array(f.string)
    transaction_states: list[TransactionState] = f.array(TransactionState)
