"""Heartbeat (key 12): keeps a member in its group.

Version 3 adds static membership, 4 is flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=12, versions="0-4", flexible="4+"):
    group_id: str = f.string()
    generation_id: int = f.int32()
    member_id: str = f.string()
    group_instance_id: str | None = f.string("3+", nullable="0+", default=None)


class Response(f.Message, key=12, versions="0-4", flexible="4+"):
    throttle_time_ms: int = f.int32("1+")
    error_code: int = f.int16()
