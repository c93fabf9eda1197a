"""Produce (key 0): appends record batches to partitions.

From version 9 flexible; from 13 topics go by id. Versions 0 to 2 carry message sets, which are
not record batches, and have no table here.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=0, versions="3-13", flexible="9+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            index: int = f.int32()
            records: f.Buffer | None = f.records(nullable="0+")

        name: str = f.string("0-12")
        topic_id: bytes = f.uuid("13+")
        partition_data: list[Partition] = f.array(Partition)

    transactional_id: str | None = f.string(nullable="0+", default=None)
    acks: int = f.int16()
    timeout_ms: int = f.int32()
    topic_data: list[Topic] = f.array(Topic)


class Response(f.Message, key=0, versions="3-13", flexible="9+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            class RecordError(f.Struct):
                batch_index: int = f.int32()
                batch_index_error_message: str | None = f.string(nullable="0+", default=None)

            class CurrentLeader(f.Struct):
                leader_id: int = f.int32(default=-1)
                leader_epoch: int = f.int32(default=-1)

            index: int = f.int32()
            error_code: int = f.int16()
            base_offset: int = f.int64()
            log_append_time_ms: int = f.int64(default=-1)
            log_start_offset: int = f.int64("5+", default=-1)
            record_errors: list[RecordError] = f.array(RecordError, "8+")
            error_message: str | None = f.string("8+", nullable="0+", default=None)
            current_leader: CurrentLeader | None = f.struct(CurrentLeader, "10+", default=None, tag=0)

        name: str = f.string("0-12")
        topic_id: bytes = f.uuid("13+")
        partition_responses: list[Partition] = f.array(Partition)

    class NodeEndpoint(f.Struct):
        node_id: int = f.int32()
        host: str = f.string()
        port: int = f.int32()
        rack: str | None = f.string(nullable="0+", default=None)

    responses: list[Topic] = f.array(Topic)
    throttle_time_ms: int = f.int32()
    node_endpoints: list[NodeEndpoint] = f.array(NodeEndpoint, "10+", tag=0)
