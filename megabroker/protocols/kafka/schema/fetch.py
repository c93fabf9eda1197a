"""Fetch (key 1): reads record batches from partitions.

Version 7 adds fetch sessions, 9 leader epochs, 11 reading from the nearest replica, 12 is flexible,
13 names topics by id, 15 moves the replica id into a tagged struct.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=1, versions="4-18", flexible="12+"):
    class ReplicaState(f.Struct):
        replica_id: int = f.int32(default=-1)
        replica_epoch: int = f.int64(default=-1)

    class Topic(f.Struct):
        class Partition(f.Struct):
            partition: int = f.int32()
            current_leader_epoch: int = f.int32("9+", default=-1)
            fetch_offset: int = f.int64()
            last_fetched_epoch: int = f.int32("12+", default=-1)
            log_start_offset: int = f.int64("5+", default=-1)
            partition_max_bytes: int = f.int32()
            replica_directory_id: bytes = f.uuid("17+", tag=0)
            high_watermark: int = f.int64("18+", default=9223372036854775807, tag=1)

        topic: str = f.string("0-12")
        topic_id: bytes = f.uuid("13+")
        partitions: list[Partition] = f.array(Partition)

    class ForgottenTopic(f.Struct):
        topic: str = f.string("0-12")
        topic_id: bytes = f.uuid("13+")
        partitions: list[int] = f.array(f.int32)

    cluster_id: str | None = f.string("12+", nullable="0+", default=None, tag=0)
    replica_id: int = f.int32("0-14", default=-1)
    replica_state: ReplicaState | None = f.struct(ReplicaState, "15+", default=None, tag=1)
    max_wait_ms: int = f.int32()
    min_bytes: int = f.int32()
    max_bytes: int = f.int32(default=2147483647)
    isolation_level: int = f.int8()
    session_id: int = f.int32("7+")
    session_epoch: int = f.int32("7+", default=-1)
    topics: list[Topic] = f.array(Topic)
    forgotten_topics_data: list[ForgottenTopic] = f.array(ForgottenTopic, "7+")
    rack_id: str = f.string("11+")


class Response(f.Message, key=1, versions="4-18", flexible="12+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            class DivergingEpoch(f.Struct):
                epoch: int = f.int32(default=-1)
                end_offset: int = f.int64(default=-1)

            class CurrentLeader(f.Struct):
                leader_id: int = f.int32(default=-1)
                leader_epoch: int = f.int32(default=-1)

            class SnapshotId(f.Struct):
                end_offset: int = f.int64(default=-1)
                epoch: int = f.int32(default=-1)

            class AbortedTransaction(f.Struct):
                producer_id: int = f.int64()
                first_offset: int = f.int64()

            partition_index: int = f.int32()
            error_code: int = f.int16()
            high_watermark: int = f.int64()
            last_stable_offset: int = f.int64(default=-1)
            log_start_offset: int = f.int64("5+", default=-1)
            diverging_epoch: DivergingEpoch | None = f.struct(DivergingEpoch, "12+", default=None, tag=0)
            current_leader: CurrentLeader | None = f.struct(CurrentLeader, "12+", default=None, tag=1)
            snapshot_id: SnapshotId | None = f.struct(SnapshotId, "12+", default=None, tag=2)
            aborted_transactions: list[AbortedTransaction] | None = f.array(AbortedTransaction, nullable="0+")
            preferred_read_replica: int = f.int32("11+", default=-1)
            records: f.Records | None = f.records(nullable="0+")

        topic: str = f.string("0-12")
        topic_id: bytes = f.uuid("13+")
        partitions: list[Partition] = f.array(Partition)

    class NodeEndpoint(f.Struct):
        node_id: int = f.int32()
        host: str = f.string()
        port: int = f.int32()
        rack: str | None = f.string(nullable="0+", default=None)

    throttle_time_ms: int = f.int32()
    error_code: int = f.int16("7+")
    session_id: int = f.int32("7+")
    responses: list[Topic] = f.array(Topic)
    node_endpoints: list[NodeEndpoint] = f.array(NodeEndpoint, "16+", tag=0)
