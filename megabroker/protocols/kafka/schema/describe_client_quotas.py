"""DescribeClientQuotas (key 48): lists client quotas.

Version 1 is flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=48, versions="0-1", flexible="1+"):
    class Component(f.Struct):
        entity_type: str = f.string()
        match_type: int = f.int8()
        match: str | None = f.string(nullable="0+")

    components: list[Component] = f.array(Component)
    strict: bool = f.boolean()


class Response(f.Message, key=48, versions="0-1", flexible="1+"):
    class Entry(f.Struct):
        class Entity(f.Struct):
            entity_type: str = f.string()
            entity_name: str | None = f.string(nullable="0+")

        class Value(f.Struct):
            key: str = f.string()
            value: float = f.float64()

        entity: list[Entity] = f.array(Entity)
        values: list[Value] = f.array(Value)

    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    error_message: str | None = f.string(nullable="0+")
    entries: list[Entry] | None = f.array(Entry, nullable="0+")
