"""ExpireDelegationToken (key 40): ends a delegation token.

Version 2 is flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=40, versions="0-2", flexible="2+"):
    hmac: bytes = f.bytestring()
    expiry_time_period_ms: int = f.int64()


class Response(f.Message, key=40, versions="0-2", flexible="2+"):
    error_code: int = f.int16()
    expiry_timestamp_ms: int = f.int64()
    throttle_time_ms: int = f.int32()
