"""StreamsGroupDescribe (key 89): tells state and members of streams groups (KIP-1071)."""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=89, versions="0", flexible="0+"):
    group_ids: list[str] = f.array(f.string)
    include_authorized_operations: bool = f.boolean()


class KeyValue(f.Struct):
    key: str = f.string()
    value: str = f.string()


class TopicInfo(f.Struct):
    name: str = f.string()
    partitions: int = f.int32()
    replication_factor: int = f.int16()
    topic_configs: list[KeyValue] = f.array(KeyValue)


class TaskOffset(f.Struct):
    subtopology_id: str = f.string()
    partition: int = f.int32()
    offset: int = f.int64()


class TaskIds(f.Struct):
    subtopology_id: str = f.string()
    partitions: list[int] = f.array(f.int32)


class Assignment(f.Struct):
    active_tasks: list[TaskIds] = f.array(TaskIds)
    standby_tasks: list[TaskIds] = f.array(TaskIds)
    warmup_tasks: list[TaskIds] = f.array(TaskIds)


class Response(f.Message, key=89, versions="0", flexible="0+"):
    class Group(f.Struct):
        class Topology(f.Struct):
            class Subtopology(f.Struct):
                subtopology_id: str = f.string()
                source_topics: list[str] = f.array(f.string)
                repartition_sink_topics: list[str] = f.array(f.string)
                state_changelog_topics: list[TopicInfo] = f.array(TopicInfo)
                repartition_source_topics: list[TopicInfo] = f.array(TopicInfo)

            epoch: int = f.int32()
            subtopologies: list[Subtopology] | None = f.array(Subtopology, nullable="0+", default=None)

        class Member(f.Struct):
            class UserEndpoint(f.Struct):
                host: str = f.string()
                port: int = f.uint16()

            member_id: str = f.string()
            member_epoch: int = f.int32()
            instance_id: str | None = f.string(nullable="0+", default=None)
            rack_id: str | None = f.string(nullable="0+", default=None)
            client_id: str = f.string()
            client_host: str = f.string()
            topology_epoch: int = f.int32()
            process_id: str = f.string()
            user_endpoint: UserEndpoint | None = f.struct(UserEndpoint, nullable="0+", default=None)
            client_tags: list[KeyValue] = f.array(KeyValue)
            task_offsets: list[TaskOffset] = f.array(TaskOffset)
            task_end_offsets: list[TaskOffset] = f.array(TaskOffset)
            assignment: Assignment = f.struct(Assignment)
            target_assignment: Assignment = f.struct(Assignment)
            is_classic: bool = f.boolean()

        error_code: int = f.int16()
        error_message: str | None = f.string(nullable="0+", default=None)
        group_id: str = f.string()
        group_state: str = f.string()
        group_epoch: int = f.int32()
        assignment_epoch: int = f.int32()
        topology: Topology | None = f.struct(Topology, nullable="0+", default=None)
        members: list[Member] = f.array(Member)
        authorized_operations: int = f.int32(default=-2147483648)

    throttle_time_ms: int = f.int32()
    groups: list[Group] = f.array(Group)
