"""DeleteShareGroupOffsets (key 92): deletes the start offsets of a share group."""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=92, versions="0", flexible="0+"):
    class Topic(f.Struct):
        topic_name: str = f.string()

    group_id: str = f.string()
    topics: list[Topic] = f.array(Topic)


class Response(f.Message, key=92, versions="0", flexible="0+"):
    class Topic(f.Struct):
        topic_name: str = f.string()
        topic_id: bytes = f.uuid()
        error_code: int = f.int16()
        error_message: str | None = f.string(nullable="0+", default=None)

    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    error_message: str | None = f.string(nullable="0+", default=None)
    responses: list[Topic] = f.array(Topic)
