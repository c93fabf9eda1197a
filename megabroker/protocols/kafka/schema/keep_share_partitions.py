"""KeepSharePartitions (1017): what becomes of a share group in the partitions led there.

Between the processes of one broker only: from the coordinator to leaders. Action 0 asks how far the group is,
1 has it begin at other offsets, 2 forgets partitions. Null partitions stand for all, and with action 2 for
the group itself.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f
from megabroker.protocols.kafka.schema.told_error import ToldError

__all__ = ["BEGIN", "DESCRIBE", "FORGET", "Request", "Response"]

DESCRIBE, BEGIN, FORGET = 0, 1, 2


class Request(f.Message, key=1017, versions="0"):
    class Partition(f.Struct):
        topic_id: bytes = f.uuid()
        index: int = f.int32()
        start_offset: int = f.int64(default=-1)

    number: int = f.int64()
    action: int = f.int8()
    group_id: str = f.string()
    partitions: list[Partition] | None = f.array(Partition, nullable="0+")


class Response(f.Message, key=1017, versions="0"):
    class Partition(f.Struct):
        topic_id: bytes = f.uuid()
        index: int = f.int32()
        start_offset: int = f.int64()
        leader_epoch: int = f.int32()
        lag: int = f.int64()

    number: int = f.int64()  # the highest carried out; if above the request's nothing was done
    error: ToldError | None = f.struct(ToldError, nullable="0+", default=None)
    partitions: list[Partition] = f.array(Partition)
