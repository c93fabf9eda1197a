"""CreateAcls (key 30): creates access rules.

Version 1 adds pattern types, 2 is flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=30, versions="0-3", flexible="2+"):
    class Creation(f.Struct):
        resource_type: int = f.int8()
        resource_name: str = f.string()
        resource_pattern_type: int = f.int8("1+", default=3)
        principal: str = f.string()
        host: str = f.string()
        operation: int = f.int8()
        permission_type: int = f.int8()

    creations: list[Creation] = f.array(Creation)


class Response(f.Message, key=30, versions="0-3", flexible="2+"):
    class Result(f.Struct):
        error_code: int = f.int16()
        error_message: str | None = f.string(nullable="0+")

    throttle_time_ms: int = f.int32()
    results: list[Result] = f.array(Result)
