"""AlterUserScramCredentials (key 51): sets and deletes SCRAM credentials.

The client sends salted passwords, never plain ones.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=51, versions="0", flexible="0+"):
    class Deletion(f.Struct):
        name: str = f.string()
        mechanism: int = f.int8()

    class Upsertion(f.Struct):
        name: str = f.string()
        mechanism: int = f.int8()
        iterations: int = f.int32()
        salt: bytes = f.bytestring()
        salted_password: bytes = f.bytestring()

    deletions: list[Deletion] = f.array(Deletion)
    upsertions: list[Upsertion] = f.array(Upsertion)


class Response(f.Message, key=51, versions="0", flexible="0+"):
    class User(f.Struct):
        user: str = f.string()
        error_code: int = f.int16()
        error_message: str | None = f.string(nullable="0+")

    throttle_time_ms: int = f.int32()
    results: list[User] = f.array(User)
