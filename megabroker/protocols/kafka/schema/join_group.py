"""JoinGroup (key 11): takes a member into a group and waits for the generation.

Version 4 sends a new member back with its id, 5 adds static membership, 6 is flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=11, versions="0-9", flexible="6+"):
    class Protocol(f.Struct):
        name: str = f.string()
        metadata: bytes = f.bytestring()

    group_id: str = f.string()
    session_timeout_ms: int = f.int32()
    rebalance_timeout_ms: int = f.int32("1+", default=-1)
    member_id: str = f.string()
    group_instance_id: str | None = f.string("5+", nullable="0+", default=None)
    protocol_type: str = f.string()
    protocols: list[Protocol] = f.array(Protocol)
    reason: str | None = f.string("8+", nullable="0+", default=None)


class Response(f.Message, key=11, versions="0-9", flexible="6+"):
    class Member(f.Struct):
        member_id: str = f.string()
        group_instance_id: str | None = f.string("5+", nullable="0+", default=None)
        metadata: bytes = f.bytestring()

    throttle_time_ms: int = f.int32("2+")
    error_code: int = f.int16()
    generation_id: int = f.int32(default=-1)
    protocol_type: str | None = f.string("7+", nullable="0+", default=None)
    protocol_name: str | None = f.string(nullable="7+")
    leader: str = f.string()
    skip_assignment: bool = f.boolean("9+")
    member_id: str = f.string()
    members: list[Member] = f.array(Member)
