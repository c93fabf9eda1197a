"""DeleteShareGroupState (key 86): deletes the stored state of a share group.

Sent by brokers.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=86, versions="0", flexible="0+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition: int = f.int32()

        topic_id: bytes = f.uuid()
        partitions: list[Partition] = f.array(Partition)

    group_id: str = f.string()
    topics: list[Topic] = f.array(Topic)


class Response(f.Message, key=86, versions="0", flexible="0+"):
    class Topic(f.Struct):
        class Partition(f.Struct):
            partition: int = f.int32()
            error_code: int = f.int16()
            error_message: str | None = f.string(nullable="0+", default=None)

        topic_id: bytes = f.uuid()
        partitions: list[Partition] = f.array(Partition)

    results: list[Topic] = f.array(Topic)
