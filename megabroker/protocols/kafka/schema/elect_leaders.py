"""ElectLeaders (key 43): elects partition leaders.

Version 1 adds the election type, 2 is flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=43, versions="0-2", flexible="2+"):
    class Topic(f.Struct):
        topic: str = f.string()
        partitions: list[int] = f.array(f.int32)

    election_type: int = f.int8("1+")
    topic_partitions: list[Topic] | None = f.array(Topic, nullable="0+")
    timeout_ms: int = f.int32(default=60000)


class Response(f.Message, key=43, versions="0-2", flexible="2+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_id: int = f.int32()
            error_code: int = f.int16()
            error_message: str | None = f.string(nullable="0+")

        topic: str = f.string()
        partition_result: list[Partition] = f.array(Partition)

    throttle_time_ms: int = f.int32()
    error_code: int = f.int16("1+")
    replica_election_results: list[Topic] = f.array(Topic)
