"""ShareAcknowledge (key 79): acknowledges records for a share group (KIP-932).

Version 0 was an early access version and is gone.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=79, versions="1-2", flexible="1+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            class AcknowledgementBatch(f.Struct):
                first_offset: int = f.int64()
                last_offset: int = f.int64()
                acknowledge_types: list[int] = f.array(f.int8)

            partition_index: int = f.int32()
            acknowledgement_batches: list[AcknowledgementBatch] = f.array(AcknowledgementBatch)

        topic_id: bytes = f.uuid()
        partitions: list[Partition] = f.array(Partition)

    group_id: str | None = f.string(nullable="0+", default=None)
    member_id: str | None = f.string(nullable="0+")
    share_session_epoch: int = f.int32()
    is_renew_ack: bool = f.boolean("2+")
    topics: list[Topic] = f.array(Topic)


class Response(f.Message, key=79, versions="1-2", flexible="1+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            class CurrentLeader(f.Struct):
                leader_id: int = f.int32()
                leader_epoch: int = f.int32()

            partition_index: int = f.int32()
            error_code: int = f.int16()
            error_message: str | None = f.string(nullable="0+", default=None)
            current_leader: CurrentLeader = f.struct(CurrentLeader)

        topic_id: bytes = f.uuid()
        partitions: list[Partition] = f.array(Partition)

    class NodeEndpoint(f.Struct):
        node_id: int = f.int32()
        host: str = f.string()
        port: int = f.int32()
        rack: str | None = f.string(nullable="0+", default=None)

    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    error_message: str | None = f.string(nullable="0+", default=None)
    acquisition_lock_timeout_ms: int = f.int32("2+")
    responses: list[Topic] = f.array(Topic)
    node_endpoints: list[NodeEndpoint] = f.array(NodeEndpoint)
