"""DescribeGroups (key 15): tells state and members of groups.

Version 5 is flexible, 6 adds an error message.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=15, versions="0-6", flexible="5+"):
    groups: list[str] = f.array(f.string)
    include_authorized_operations: bool = f.boolean("3+")


class Response(f.Message, key=15, versions="0-6", flexible="5+"):
    class Group(f.Struct):
        class Member(f.Struct):
            member_id: str = f.string()
            group_instance_id: str | None = f.string("4+", nullable="0+", default=None)
            client_id: str = f.string()
            client_host: str = f.string()
            member_metadata: bytes = f.bytestring()
            member_assignment: bytes = f.bytestring()

        error_code: int = f.int16()
        error_message: str | None = f.string("6+", nullable="0+", default=None)
        group_id: str = f.string()
        group_state: str = f.string()
        protocol_type: str = f.string()
        protocol_data: str = f.string()
        members: list[Member] = f.array(Member)
        authorized_operations: int = f.int32("3+", default=-2147483648)

    throttle_time_ms: int = f.int32("1+")
    groups: list[Group] = f.array(Group)
