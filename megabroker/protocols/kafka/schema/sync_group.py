"""SyncGroup (key 14): hands out the assignment of a generation.

Version 3 adds static membership, 4 is flexible, 5 states protocol type and name.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=14, versions="0-5", flexible="4+"):
    class Assignment(f.Struct):
        member_id: str = f.string()
        assignment: bytes = f.bytestring()

    group_id: str = f.string()
    generation_id: int = f.int32()
    member_id: str = f.string()
    group_instance_id: str | None = f.string("3+", nullable="0+", default=None)
    protocol_type: str | None = f.string("5+", nullable="0+", default=None)
    protocol_name: str | None = f.string("5+", nullable="0+", default=None)
    assignments: list[Assignment] = f.array(Assignment)


class Response(f.Message, key=14, versions="0-5", flexible="4+"):
    throttle_time_ms: int = f.int32("1+")
    error_code: int = f.int16()
    protocol_type: str | None = f.string("5+", nullable="0+", default=None)
    protocol_name: str | None = f.string("5+", nullable="0+", default=None)
    assignment: bytes = f.bytestring()
