"""FindCoordinator (key 10): finds the coordinator of a group or a transaction.

Version 1 adds the key type, 3 is flexible, 4 asks for several keys at once.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=10, versions="0-6", flexible="3+"):
    key: str = f.string("0-3")
    key_type: int = f.int8("1+")
    coordinator_keys: list[str] = f.array(f.string, "4+")


class Response(f.Message, key=10, versions="0-6", flexible="3+"):
    class Coordinator(f.Struct):
        key: str = f.string()
        node_id: int = f.int32()
        host: str = f.string()
        port: int = f.int32()
        error_code: int = f.int16()
        error_message: str | None = f.string(nullable="0+")

    throttle_time_ms: int = f.int32("1+")
    error_code: int = f.int16("0-3")
    error_message: str | None = f.string("1-3", nullable="1-3")
    node_id: int = f.int32("0-3")
    host: str = f.string("0-3")
    port: int = f.int32("0-3")
    coordinators: list[Coordinator] = f.array(Coordinator, "4+")
