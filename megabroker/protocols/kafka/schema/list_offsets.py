"""ListOffsets (key 2): finds offsets by timestamp.

A timestamp of -1 asks for the end, -2 for the start, -3 for the record with the latest timestamp, -4 and
-5 for the bounds of local and tiered data. Version 0 answers with several offsets, later ones with one.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=2, versions="0-11", flexible="6+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_index: int = f.int32()
            current_leader_epoch: int = f.int32("4+", default=-1)
            timestamp: int = f.int64()
            max_num_offsets: int = f.int32("0", default=1)

        name: str = f.string()
        partitions: list[Partition] = f.array(Partition)

    replica_id: int = f.int32()
    isolation_level: int = f.int8("2+")
    topics: list[Topic] = f.array(Topic)
    timeout_ms: int = f.int32("10+")


class Response(f.Message, key=2, versions="0-11", flexible="6+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition_index: int = f.int32()
            error_code: int = f.int16()
            old_style_offsets: list[int] = f.array(f.int64, "0")
            timestamp: int = f.int64("1+", default=-1)
            offset: int = f.int64("1+", default=-1)
            leader_epoch: int = f.int32("4+", default=-1)

        name: str = f.string()
        partitions: list[Partition] = f.array(Partition)

    throttle_time_ms: int = f.int32("2+")
    topics: list[Topic] = f.array(Topic)
