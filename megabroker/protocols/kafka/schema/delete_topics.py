"""DeleteTopics (key 20): deletes topics.

Version 4 is flexible; 6 replaces the names by ``topics``, by name or id.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=20, versions="0-6", flexible="4+"):
    class Topic(f.Struct):
        name: str | None = f.string(nullable="0+", default=None)
        topic_id: bytes = f.uuid()

    topics: list[Topic] = f.array(Topic, "6+")
    topic_names: list[str] = f.array(f.string, "0-5")
    timeout_ms: int = f.int32()


class Response(f.Message, key=20, versions="0-6", flexible="4+"):
    class Topic(f.Struct):
        name: str | None = f.string(nullable="6+")
        topic_id: bytes = f.uuid("6+")
        error_code: int = f.int16()
        error_message: str | None = f.string("5+", nullable="0+", default=None)

    throttle_time_ms: int = f.int32("1+")
    responses: list[Topic] = f.array(Topic)
