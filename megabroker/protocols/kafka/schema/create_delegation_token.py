"""CreateDelegationToken (key 38): creates a delegation token.

Version 2 is flexible, 3 names the owner.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=38, versions="0-3", flexible="2+"):
    class Renewer(f.Struct):
        principal_type: str = f.string()
        principal_name: str = f.string()

    owner_principal_type: str | None = f.string("3+", nullable="0+")
    owner_principal_name: str | None = f.string("3+", nullable="0+")
    renewers: list[Renewer] = f.array(Renewer)
    max_lifetime_ms: int = f.int64()


class Response(f.Message, key=38, versions="0-3", flexible="2+"):
    error_code: int = f.int16()
    principal_type: str = f.string()
    principal_name: str = f.string()
    token_requester_principal_type: str = f.string("3+")
    token_requester_principal_name: str = f.string("3+")
    issue_timestamp_ms: int = f.int64()
    expiry_timestamp_ms: int = f.int64()
    max_timestamp_ms: int = f.int64()
    token_id: str = f.string()
    hmac: bytes = f.bytestring()
    throttle_time_ms: int = f.int32()
