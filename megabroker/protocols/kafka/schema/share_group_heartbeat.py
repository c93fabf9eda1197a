"""ShareGroupHeartbeat (key 76): joins, keeps and leaves a share group (KIP-932).

Version 0 was an early access version and is gone.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=76, versions="1", flexible="1+"):
    group_id: str = f.string()
    member_id: str = f.string()
    member_epoch: int = f.int32()
    rack_id: str | None = f.string(nullable="0+", default=None)
    subscribed_topic_names: list[str] | None = f.array(f.string, nullable="0+", default=None)


class Response(f.Message, key=76, versions="1", flexible="1+"):
    class Assignment(f.Struct):
        class TopicPartition(f.Struct):
            topic_id: bytes = f.uuid()
            partitions: list[int] = f.array(f.int32)

        topic_partitions: list[TopicPartition] = f.array(TopicPartition)

    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    error_message: str | None = f.string(nullable="0+", default=None)
    member_id: str | None = f.string(nullable="0+", default=None)
    member_epoch: int = f.int32()
    heartbeat_interval_ms: int = f.int32()
    assignment: Assignment | None = f.struct(Assignment, nullable="0+", default=None)
