"""DeleteAcls (key 31): deletes access rules.

Version 1 adds pattern types, 2 is flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=31, versions="0-3", flexible="2+"):
    class Filter(f.Struct):
        resource_type_filter: int = f.int8()
        resource_name_filter: str | None = f.string(nullable="0+")
        pattern_type_filter: int = f.int8("1+", default=3)
        principal_filter: str | None = f.string(nullable="0+")
        host_filter: str | None = f.string(nullable="0+")
        operation: int = f.int8()
        permission_type: int = f.int8()

    filters: list[Filter] = f.array(Filter)


class Response(f.Message, key=31, versions="0-3", flexible="2+"):
    class FilterResult(f.Struct):
        class Acl(f.Struct):
            error_code: int = f.int16()
            error_message: str | None = f.string(nullable="0+")
            resource_type: int = f.int8()
            resource_name: str = f.string()
            pattern_type: int = f.int8("1+", default=3)
            principal: str = f.string()
            host: str = f.string()
            operation: int = f.int8()
            permission_type: int = f.int8()

        error_code: int = f.int16()
        error_message: str | None = f.string(nullable="0+")
        matching_acls: list[Acl] = f.array(Acl)

    throttle_time_ms: int = f.int32()
    filter_results: list[FilterResult] = f.array(FilterResult)
