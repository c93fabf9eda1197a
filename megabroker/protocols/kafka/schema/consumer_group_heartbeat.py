"""ConsumerGroupHeartbeat (key 68): joins, keeps and leaves a group of the consumer protocol (KIP-848).

Version 1 filters topics by a regular expression and lets the client choose its member id.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=68, versions="0-1", flexible="0+"):
    class TopicPartition(f.Struct):
        topic_id: bytes = f.uuid()
        partitions: list[int] = f.array(f.int32)

    group_id: str = f.string()
    member_id: str = f.string()
    member_epoch: int = f.int32()
    instance_id: str | None = f.string(nullable="0+", default=None)
    rack_id: str | None = f.string(nullable="0+", default=None)
    rebalance_timeout_ms: int = f.int32(default=-1)
    subscribed_topic_names: list[str] | None = f.array(f.string, nullable="0+", default=None)
    subscribed_topic_regex: str | None = f.string("1+", nullable="0+", default=None)
    server_assignor: str | None = f.string(nullable="0+", default=None)
    topic_partitions: list[TopicPartition] | None = f.array(TopicPartition, nullable="0+", default=None)


class Response(f.Message, key=68, versions="0-1", flexible="0+"):
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
