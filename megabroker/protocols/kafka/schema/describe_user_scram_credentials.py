"""DescribeUserScramCredentials (key 50): lists SCRAM users, never their secrets.

Null or no users ask for all.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=50, versions="0", flexible="0+"):
    class User(f.Struct):
        name: str = f.string()

    users: list[User] | None = f.array(User, nullable="0+")


class Response(f.Message, key=50, versions="0", flexible="0+"):
    class User(f.Struct):
        class Credential(f.Struct):
            mechanism: int = f.int8()
            iterations: int = f.int32()

        user: str = f.string()
        error_code: int = f.int16()
        error_message: str | None = f.string(nullable="0+")
        credential_infos: list[Credential] = f.array(Credential)

    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    error_message: str | None = f.string(nullable="0+")
    results: list[User] = f.array(User)
