"""LeaveGroup (key 13): takes members out of a group.

Versions 0 to 2 name one member, later ones a list; 4 is flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=13, versions="0-5", flexible="4+"):
    class Member(f.Struct):
        member_id: str = f.string()
        group_instance_id: str | None = f.string(nullable="0+", default=None)
        reason: str | None = f.string("5+", nullable="0+", default=None)

    group_id: str = f.string()
    member_id: str = f.string("0-2")
    members: list[Member] = f.array(Member, "3+")


class Response(f.Message, key=13, versions="0-5", flexible="4+"):
    class Member(f.Struct):
        member_id: str = f.string()
        group_instance_id: str | None = f.string(nullable="0+")
        error_code: int = f.int16()

    throttle_time_ms: int = f.int32("1+")
    error_code: int = f.int16()
    members: list[Member] = f.array(Member, "3+")
