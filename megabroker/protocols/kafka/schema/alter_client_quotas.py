"""AlterClientQuotas (key 49): changes client quotas.

Version 1 is flexible.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=49, versions="0-1", flexible="1+"):
    class Entry(f.Struct):
        class Entity(f.Struct):
            entity_type: str = f.string()
            entity_name: str | None = f.string(nullable="0+")

        class Op(f.Struct):
            key: str = f.string()
            value: float = f.float64()
            remove: bool = f.boolean()

        entity: list[Entity] = f.array(Entity)
        ops: list[Op] = f.array(Op)

    entries: list[Entry] = f.array(Entry)
    validate_only: bool = f.boolean()


class Response(f.Message, key=49, versions="0-1", flexible="1+"):
    class Entry(f.Struct):
        class Entity(f.Struct):
            entity_type: str = f.string()
            entity_name: str | None = f.string(nullable="0+")

        error_code: int = f.int16()
        error_message: str | None = f.string(nullable="0+")
        entity: list[Entity] = f.array(Entity)

    throttle_time_ms: int = f.int32()
    entries: list[Entry] = f.array(Entry)
