"""AlterConfigs (key 33): replaces configurations whole.

Version 2 is flexible. Superseded by IncrementalAlterConfigs.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=33, versions="0-2", flexible="2+"):
    class Resource(f.Struct):
        class Config(f.Struct):
            name: str = f.string()
            value: str | None = f.string(nullable="0+")

        resource_type: int = f.int8()
        resource_name: str = f.string()
        configs: list[Config] = f.array(Config)

    resources: list[Resource] = f.array(Resource)
    validate_only: bool = f.boolean()


class Response(f.Message, key=33, versions="0-2", flexible="2+"):
    class Resource(f.Struct):
        error_code: int = f.int16()
        error_message: str | None = f.string(nullable="0+")
        resource_type: int = f.int8()
        resource_name: str = f.string()

    throttle_time_ms: int = f.int32()
    responses: list[Resource] = f.array(Resource)
