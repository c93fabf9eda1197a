"""SaslAuthenticate (key 36): carries one step of a SASL exchange.

Version 1 adds the session lifetime, 2 is flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=36, versions="0-2", flexible="2+"):
    auth_bytes: bytes = f.bytestring()


class Response(f.Message, key=36, versions="0-2", flexible="2+"):
    error_code: int = f.int16()
    error_message: str | None = f.string(nullable="0+")
    auth_bytes: bytes = f.bytestring()
    session_lifetime_ms: int = f.int64("1+")
