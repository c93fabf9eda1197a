"""DescribeAcls (key 29): lists access rules.

Version 1 adds pattern types, 2 is flexible, 3 adds user resources.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=29, versions="0-3", flexible="2+"):
    resource_type_filter: int = f.int8()
    resource_name_filter: str | None = f.string(nullable="0+")
    pattern_type_filter: int = f.int8("1+", default=3)
    principal_filter: str | None = f.string(nullable="0+")
    host_filter: str | None = f.string(nullable="0+")
    operation: int = f.int8()
    permission_type: int = f.int8()


class Response(f.Message, key=29, versions="0-3", flexible="2+"):
    class Resource(f.Struct):
        class Acl(f.Struct):
            principal: str = f.string()
            host: str = f.string()
            operation: int = f.int8()
            permission_type: int = f.int8()

        resource_type: int = f.int8()
        resource_name: str = f.string()
        pattern_type: int = f.int8("1+", default=3)
        acls: list[Acl] = f.array(Acl)

    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    error_message: str | None = f.string(nullable="0+")
    resources: list[Resource] = f.array(Resource)
