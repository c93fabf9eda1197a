"""EndTxn (key 26): commits or aborts a transaction.

Version 3 is flexible; 5 raises the producer epoch and tells the new one.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=26, versions="0-5", flexible="3+"):
    transactional_id: str = f.string()
    producer_id: int = f.int64()
    producer_epoch: int = f.int16()
    committed: bool = f.boolean()


class Response(f.Message, key=26, versions="0-5", flexible="3+"):
    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    producer_id: int = f.int64("5+", default=-1)
    producer_epoch: int = f.int16("5+", default=-1)
