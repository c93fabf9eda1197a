"""ConsumerGroupDescribe (key 69): tells state and members of groups of the consumer protocol (KIP-848).

Version 1 adds the member type.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=69, versions="0-1", flexible="0+"):
    group_ids: list[str] = f.array(f.string)
    include_authorized_operations: bool = f.boolean()


class TopicPartitions(f.Struct):
    topic_id: bytes = f.uuid()
    topic_name: str = f.string()
    partitions: list[int] = f.array(f.int32)


class Assignment(f.Struct):
    topic_partitions: list[TopicPartitions] = f.array(TopicPartitions)


class Response(f.Message, key=69, versions="0-1", flexible="0+"):
    class Group(f.Struct):
        class Member(f.Struct):
            member_id: str = f.string()
            instance_id: str | None = f.string(nullable="0+", default=None)
            rack_id: str | None = f.string(nullable="0+", default=None)
            member_epoch: int = f.int32()
            client_id: str = f.string()
            client_host: str = f.string()
            subscribed_topic_names: list[str] = f.array(f.string)
            subscribed_topic_regex: str | None = f.string(nullable="0+", default=None)
            assignment: Assignment = f.struct(Assignment)
            target_assignment: Assignment = f.struct(Assignment)
            member_type: int = f.int8("1+", default=-1)

        error_code: int = f.int16()
        error_message: str | None = f.string(nullable="0+", default=None)
        group_id: str = f.string()
        group_state: str = f.string()
        group_epoch: int = f.int32()
        assignment_epoch: int = f.int32()
        assignor_name: str = f.string()
        members: list[Member] = f.array(Member)
        authorized_operations: int = f.int32(default=-2147483648)

    throttle_time_ms: int = f.int32()
    groups: list[Group] = f.array(Group)
