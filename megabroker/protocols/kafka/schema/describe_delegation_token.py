"""DescribeDelegationToken (key 41): lists delegation tokens.

Version 2 is flexible, 3 tells the requester of a token.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=41, versions="0-3", flexible="2+"):
    class Owner(f.Struct):
        principal_type: str = f.string()
        principal_name: str = f.string()

    owners: list[Owner] | None = f.array(Owner, nullable="0+")


class Response(f.Message, key=41, versions="0-3", flexible="2+"):
    class Token(f.Struct):
        class Renewer(f.Struct):
            principal_type: str = f.string()
            principal_name: str = f.string()

        principal_type: str = f.string()
        principal_name: str = f.string()
        token_requester_principal_type: str = f.string("3+")
        token_requester_principal_name: str = f.string("3+")
        issue_timestamp: int = f.int64()
        expiry_timestamp: int = f.int64()
        max_timestamp: int = f.int64()
        token_id: str = f.string()
        hmac: bytes = f.bytestring()
        renewers: list[Renewer] = f.array(Renewer)

    error_code: int = f.int16()
    tokens: list[Token] = f.array(Token)
    throttle_time_ms: int = f.int32()
