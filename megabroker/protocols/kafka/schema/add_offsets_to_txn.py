"""AddOffsetsToTxn (key 25): adds the offsets of a group to a transaction.

Version 3 is flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=25, versions="0-4", flexible="3+"):
    transactional_id: str = f.string()
    producer_id: int = f.int64()
    producer_epoch: int = f.int16()
    group_id: str = f.string()


class Response(f.Message, key=25, versions="0-4", flexible="3+"):
    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
