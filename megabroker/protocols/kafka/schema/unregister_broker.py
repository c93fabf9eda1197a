"""UnregisterBroker (key 64): takes a node out of the cluster."""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=64, versions="0", flexible="0+"):
    broker_id: int = f.int32()


class Response(f.Message, key=64, versions="0", flexible="0+"):
    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    error_message: str | None = f.string(nullable="0+")
