"""DeleteGroups (key 42): deletes groups.

Version 2 is flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=42, versions="0-2", flexible="2+"):
    groups_names: list[str] = f.array(f.string)


class Response(f.Message, key=42, versions="0-2", flexible="2+"):
    class Group(f.Struct):
        group_id: str = f.string()
        error_code: int = f.int16()

    throttle_time_ms: int = f.int32()
    results: list[Group] = f.array(Group)
