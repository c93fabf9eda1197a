"""CreateTopics (key 19): creates topics.

Version 1 adds validation without creation, 5 is flexible and tells the resulting configuration,
7 adds topic ids.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=19, versions="0-7", flexible="5+"):
    class Topic(f.Struct):
        class Assignment(f.Struct):
            partition_index: int = f.int32()
            broker_ids: list[int] = f.array(f.int32)

        class Config(f.Struct):
            name: str = f.string()
            value: str | None = f.string(nullable="0+")

        name: str = f.string()
        num_partitions: int = f.int32()
        replication_factor: int = f.int16()
        assignments: list[Assignment] = f.array(Assignment)
        configs: list[Config] = f.array(Config)

    topics: list[Topic] = f.array(Topic)
    timeout_ms: int = f.int32(default=60000)
    validate_only: bool = f.boolean("1+")


class Response(f.Message, key=19, versions="0-7", flexible="5+"):
    class Topic(f.Struct):
        class Config(f.Struct):
            name: str = f.string()
            value: str | None = f.string(nullable="0+")
            read_only: bool = f.boolean()
            config_source: int = f.int8(default=-1)
            is_sensitive: bool = f.boolean()

        name: str = f.string()
        topic_id: bytes = f.uuid("7+")
        error_code: int = f.int16()
        error_message: str | None = f.string("1+", nullable="0+")
        topic_config_error_code: int = f.int16("5+", tag=0)
        num_partitions: int = f.int32("5+", default=-1)
        replication_factor: int = f.int16("5+", default=-1)
        configs: list[Config] | None = f.array(Config, "5+", nullable="0+")

    throttle_time_ms: int = f.int32("2+")
    topics: list[Topic] = f.array(Topic)
