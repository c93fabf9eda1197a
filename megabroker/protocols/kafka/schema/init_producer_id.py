"""InitProducerId (key 22): gives out a producer id and epoch.

Version 2 is flexible, 3 lets a producer keep its id, 6 serves two-phase commit.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=22, versions="0-6", flexible="2+"):
    transactional_id: str | None = f.string(nullable="0+")
    transaction_timeout_ms: int = f.int32()
    producer_id: int = f.int64("3+", default=-1)
    producer_epoch: int = f.int16("3+", default=-1)
    enable2_pc: bool = f.boolean("6+")
    keep_prepared_txn: bool = f.boolean("6+")


class Response(f.Message, key=22, versions="0-6", flexible="2+"):
    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    producer_id: int = f.int64(default=-1)
    producer_epoch: int = f.int16()
    ongoing_txn_producer_id: int = f.int64("6+", default=-1)
    ongoing_txn_producer_epoch: int = f.int16("6+", default=-1)
