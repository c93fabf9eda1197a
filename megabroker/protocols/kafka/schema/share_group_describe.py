"""ShareGroupDescribe (key 77): tells state and members of share groups (KIP-932).

Version 0 was an early access version and is gone.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=77, versions="1", flexible="1+"):
    group_ids: list[str] = f.array(f.string)
    include_authorized_operations: bool = f.boolean()


class Response(f.Message, key=77, versions="1", flexible="1+"):
    class Group(f.Struct):
        class Member(f.Struct):
            class Assignment(f.Struct):
                class TopicPartition(f.Struct):
                    topic_id: bytes = f.uuid()
                    topic_name: str = f.string()
                    partitions: list[int] = f.array(f.int32)

                topic_partitions: list[TopicPartition] = f.array(TopicPartition)

            member_id: str = f.string()
            rack_id: str | None = f.string(nullable="0+", default=None)
            member_epoch: int = f.int32()
            client_id: str = f.string()
            client_host: str = f.string()
            subscribed_topic_names: list[str] = f.array(f.string)
            assignment: Assignment = f.struct(Assignment)

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
