"""ReadPartition (1014): how far is a partition, and what is in it from an offset on?

Between the processes of one broker only. Unlike Fetch it tells the next offset and where aborted transactions
end, it never waits for more, and its error leaves what is told of the partition in force.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f
from megabroker.protocols.kafka.schema.look_at_partitions import Standing
from megabroker.protocols.kafka.schema.told_error import ToldError

__all__ = ["Request", "Response"]


class Request(f.Message, key=1014, versions="0"):
    topic: str = f.string()
    topic_id: bytes = f.uuid()
    index: int = f.int32()
    offset: int = f.int64()  # -1 to read nothing
    max_bytes: int = f.int32()
    committed: bool = f.boolean()


class Response(f.Message, key=1014, versions="0"):
    class Aborted(f.Struct):
        producer_id: int = f.int64()
        first_offset: int = f.int64()
        last_offset: int = f.int64()
        last_stable_offset: int = f.int64()

    standing: Standing = f.struct(Standing)
    error: ToldError | None = f.struct(ToldError, nullable="0+", default=None)  # why nothing was read
    aborted: list[Aborted] = f.array(Aborted)
    records: f.Records | None = f.records(nullable="0+")
