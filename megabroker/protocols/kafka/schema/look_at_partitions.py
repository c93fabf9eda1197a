"""LookAtPartitions (1010): how far are these partitions, once one of them is further than known?

Between the processes of one broker only: who has readers of partitions asks their leader. Answers come in the
order of the request.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f
from megabroker.protocols.kafka.schema.told_error import ToldError

__all__ = ["Request", "Response", "Standing"]


class Standing(f.Struct):
    """How far a partition is; without a meaning where there is an error."""

    error: ToldError | None = f.struct(ToldError, nullable="0+", default=None)
    start_offset: int = f.int64()
    high_watermark: int = f.int64()
    last_stable_offset: int = f.int64()
    next_offset: int = f.int64()
    size_bytes: int = f.int64()


class Request(f.Message, key=1010, versions="0"):
    class Partition(f.Struct):
        topic: str = f.string()
        topic_id: bytes = f.uuid()
        index: int = f.int32()
        known_offset: int = f.int64()  # the high watermark that is known

    wait_ms: int = f.int32()
    partitions: list[Partition] = f.array(Partition)


class Response(f.Message, key=1010, versions="0"):
    partitions: list[Standing] = f.array(Standing)
