"""GetTelemetrySubscriptions (key 71): tells a client which metrics to push (KIP-714)."""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=71, versions="0", flexible="0+"):
    client_instance_id: bytes = f.uuid()


class Response(f.Message, key=71, versions="0", flexible="0+"):
    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    client_instance_id: bytes = f.uuid()
    subscription_id: int = f.int32()
    accepted_compression_types: list[int] = f.array(f.int8)
    push_interval_ms: int = f.int32()
    telemetry_max_bytes: int = f.int32()
    delta_temporality: bool = f.boolean()
    requested_metrics: list[str] = f.array(f.string)
