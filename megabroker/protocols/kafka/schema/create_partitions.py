"""CreatePartitions (key 37): adds partitions to topics.

Version 2 is flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=37, versions="0-3", flexible="2+"):
    class Topic(f.Struct):
        class Assignment(f.Struct):
            broker_ids: list[int] = f.array(f.int32)

        name: str = f.string()
        count: int = f.int32()
        assignments: list[Assignment] | None = f.array(Assignment, nullable="0+")

    topics: list[Topic] = f.array(Topic)
    timeout_ms: int = f.int32()
    validate_only: bool = f.boolean()


class Response(f.Message, key=37, versions="0-3", flexible="2+"):
    class Topic(f.Struct):
        name: str = f.string()
        error_code: int = f.int16()
        error_message: str | None = f.string(nullable="0+", default=None)

    throttle_time_ms: int = f.int32()
    results: list[Topic] = f.array(Topic)
