"""IncrementalAlterConfigs (key 44): changes single entries of configurations.

Operations: 0 set, 1 delete, 2 append, 3 subtract. Version 1 is flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=44, versions="0-1", flexible="1+"):
    class Resource(f.Struct):
        class Config(f.Struct):
            name: str = f.string()
            config_operation: int = f.int8()
            value: str | None = f.string(nullable="0+")

        resource_type: int = f.int8()
        resource_name: str = f.string()
        configs: list[Config] = f.array(Config)

    resources: list[Resource] = f.array(Resource)
    validate_only: bool = f.boolean()


class Response(f.Message, key=44, versions="0-1", flexible="1+"):
    class Resource(f.Struct):
        error_code: int = f.int16()
        error_message: str | None = f.string(nullable="0+")
        resource_type: int = f.int8()
        resource_name: str = f.string()

    throttle_time_ms: int = f.int32()
    responses: list[Resource] = f.array(Resource)
