"""DescribeConfigs (key 32): tells configurations of topics and brokers.

Version 1 replaces ``is_default`` by a source and synonyms, 3 adds type and documentation, 4 is flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=32, versions="0-4", flexible="4+"):
    class Resource(f.Struct):
        resource_type: int = f.int8()
        resource_name: str = f.string()
        configuration_keys: list[str] | None = f.array(f.string, nullable="0+")

    resources: list[Resource] = f.array(Resource)
    include_synonyms: bool = f.boolean("1+")
    include_documentation: bool = f.boolean("3+")


class Response(f.Message, key=32, versions="0-4", flexible="4+"):
    class Resource(f.Struct):
        class Config(f.Struct):
            class Synonym(f.Struct):
                name: str = f.string()
                value: str | None = f.string(nullable="0+")
                source: int = f.int8()

            name: str = f.string()
            value: str | None = f.string(nullable="0+")
            read_only: bool = f.boolean()
            config_source: int = f.int8("1+", default=-1)
            is_default: bool = f.boolean("0")
            is_sensitive: bool = f.boolean()
            synonyms: list[Synonym] = f.array(Synonym, "1+")
            config_type: int = f.int8("3+")
            documentation: str | None = f.string("3+", nullable="0+")

        error_code: int = f.int16()
        error_message: str | None = f.string(nullable="0+")
        resource_type: int = f.int8()
        resource_name: str = f.string()
        configs: list[Config] = f.array(Config)

    throttle_time_ms: int = f.int32()
    results: list[Resource] = f.array(Resource)
