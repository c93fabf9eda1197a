"""CarryOut (key 1003, between processes): a client's request is to be carried out by the controller.

What Envelope is between brokers of Apache Kafka: the whole request, and who asks.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=1003, versions="0"):
    frame: bytes = f.bytestring()
    principal_type: str = f.string()
    principal_name: str = f.string()
    client_host: str = f.string()
    listener: str = f.string()


class Response(f.Message, key=1003, versions="0"):
    throttle_ms: int = f.int32()
    frame: bytes = f.bytestring()
