"""ListConfigResources (key 74): lists resources that have configurations.

Version 0 lists client metrics only, version 1 any type.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=74, versions="0-1", flexible="0+"):
    resource_types: list[int] = f.array(f.int8, "1+")


class Response(f.Message, key=74, versions="0-1", flexible="0+"):
    class ConfigResource(f.Struct):
        resource_name: str = f.string()
        resource_type: int = f.int8("1+", default=16)

    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    config_resources: list[ConfigResource] = f.array(ConfigResource)
