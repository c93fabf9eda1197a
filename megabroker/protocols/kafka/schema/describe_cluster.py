"""DescribeCluster (key 60): tells brokers and controller.

Version 1 adds the endpoint type, 2 fenced brokers.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=60, versions="0-2", flexible="0+"):
    include_cluster_authorized_operations: bool = f.boolean()
    endpoint_type: int = f.int8("1+", default=1)
    include_fenced_brokers: bool = f.boolean("2+")


class Response(f.Message, key=60, versions="0-2", flexible="0+"):
    class Broker(f.Struct):
        broker_id: int = f.int32()
        host: str = f.string()
        port: int = f.int32()
        rack: str | None = f.string(nullable="0+", default=None)
        is_fenced: bool = f.boolean("2+")

    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    error_message: str | None = f.string(nullable="0+", default=None)
    endpoint_type: int = f.int8("1+", default=1)
    cluster_id: str = f.string()
    controller_id: int = f.int32(default=-1)
    brokers: list[Broker] = f.array(Broker)
    cluster_authorized_operations: int = f.int32(default=-2147483648)
