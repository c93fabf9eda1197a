"""ListGroups (key 16): lists the groups of a coordinator.

Version 3 is flexible, 4 adds states, 5 group types.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=16, versions="0-5", flexible="3+"):
    states_filter: list[str] = f.array(f.string, "4+")
    types_filter: list[str] = f.array(f.string, "5+")


class Response(f.Message, key=16, versions="0-5", flexible="3+"):
    class Group(f.Struct):
        group_id: str = f.string()
        protocol_type: str = f.string()
        group_state: str = f.string("4+")
        group_type: str = f.string("5+")

    throttle_time_ms: int = f.int32("1+")
    error_code: int = f.int16()
    groups: list[Group] = f.array(Group)
