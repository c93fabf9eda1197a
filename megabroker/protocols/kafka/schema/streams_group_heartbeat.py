"""StreamsGroupHeartbeat (key 88): joins, keeps and leaves a streams group (KIP-1071)."""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class KeyValue(f.Struct):
    key: str = f.string()
    value: str = f.string()


class TopicInfo(f.Struct):
    name: str = f.string()
    partitions: int = f.int32()
    replication_factor: int = f.int16()
    topic_configs: list[KeyValue] = f.array(KeyValue)


class TaskIds(f.Struct):
    subtopology_id: str = f.string()
    partitions: list[int] = f.array(f.int32)


class TaskOffset(f.Struct):
    subtopology_id: str = f.string()
    partition: int = f.int32()
    offset: int = f.int64()


class Request(f.Message, key=88, versions="0", flexible="0+"):
    class Topology(f.Struct):
        class Subtopology(f.Struct):
            class CopartitionGroup(f.Struct):
                source_topics: list[int] = f.array(f.int16)
                source_topic_regex: list[int] = f.array(f.int16)
                repartition_source_topics: list[int] = f.array(f.int16)

            subtopology_id: str = f.string()
            source_topics: list[str] = f.array(f.string)
            source_topic_regex: list[str] = f.array(f.string)
            state_changelog_topics: list[TopicInfo] = f.array(TopicInfo)
            repartition_sink_topics: list[str] = f.array(f.string)
            repartition_source_topics: list[TopicInfo] = f.array(TopicInfo)
            copartition_groups: list[CopartitionGroup] = f.array(CopartitionGroup)

        epoch: int = f.int32()
        subtopologies: list[Subtopology] = f.array(Subtopology)

    class UserEndpoint(f.Struct):
        host: str = f.string()
        port: int = f.uint16()

    group_id: str = f.string()
    member_id: str = f.string()
    member_epoch: int = f.int32()
    endpoint_information_epoch: int = f.int32()
    instance_id: str | None = f.string(nullable="0+", default=None)
    rack_id: str | None = f.string(nullable="0+", default=None)
    rebalance_timeout_ms: int = f.int32(default=-1)
    topology: Topology | None = f.struct(Topology, nullable="0+", default=None)
    active_tasks: list[TaskIds] | None = f.array(TaskIds, nullable="0+", default=None)
    standby_tasks: list[TaskIds] | None = f.array(TaskIds, nullable="0+", default=None)
    warmup_tasks: list[TaskIds] | None = f.array(TaskIds, nullable="0+", default=None)
    process_id: str | None = f.string(nullable="0+", default=None)
    user_endpoint: UserEndpoint | None = f.struct(UserEndpoint, nullable="0+", default=None)
    client_tags: list[KeyValue] | None = f.array(KeyValue, nullable="0+", default=None)
    task_offsets: list[TaskOffset] | None = f.array(TaskOffset, nullable="0+", default=None)
    task_end_offsets: list[TaskOffset] | None = f.array(TaskOffset, nullable="0+", default=None)
    shutdown_application: bool = f.boolean()


class TopicPartition(f.Struct):
    topic: str = f.string()
    partitions: list[int] = f.array(f.int32)


class Response(f.Message, key=88, versions="0", flexible="0+"):
    class Status(f.Struct):
        status_code: int = f.int8()
        status_detail: str = f.string()

    class PartitionsByUserEndpoint(f.Struct):
        class UserEndpoint(f.Struct):
            host: str = f.string()
            port: int = f.uint16()

        user_endpoint: UserEndpoint = f.struct(UserEndpoint)
        active_partitions: list[TopicPartition] = f.array(TopicPartition)
        standby_partitions: list[TopicPartition] = f.array(TopicPartition)

    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    error_message: str | None = f.string(nullable="0+", default=None)
    member_id: str = f.string()
    member_epoch: int = f.int32()
    heartbeat_interval_ms: int = f.int32()
    acceptable_recovery_lag: int = f.int32()
    task_offset_interval_ms: int = f.int32()
    status: list[Status] | None = f.array(Status, nullable="0+", default=None)
    active_tasks: list[TaskIds] | None = f.array(TaskIds, nullable="0+", default=None)
    standby_tasks: list[TaskIds] | None = f.array(TaskIds, nullable="0+", default=None)
    warmup_tasks: list[TaskIds] | None = f.array(TaskIds, nullable="0+", default=None)
    endpoint_information_epoch: int = f.int32()
    partitions_by_user_endpoint: list[PartitionsByUserEndpoint] | None = f.array(
        PartitionsByUserEndpoint, nullable="0+", default=None
    )
