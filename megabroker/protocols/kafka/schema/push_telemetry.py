"""PushTelemetry (key 72): takes the metrics of a client (KIP-714)."""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=72, versions="0", flexible="0+"):
    client_instance_id: bytes = f.uuid()
    subscription_id: int = f.int32()
    terminating: bool = f.boolean()
    compression_type: int = f.int8()
    metrics: bytes = f.bytestring()


class Response(f.Message, key=72, versions="0", flexible="0+"):
    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
