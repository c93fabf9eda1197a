"""AddRaftVoter (key 80): adds a voter to the metadata quorum."""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=80, versions="0-1", flexible="0+"):
    class Listener(f.Struct):
        name: str = f.string()
        host: str = f.string()
        port: int = f.uint16()

    cluster_id: str | None = f.string(nullable="0+")
    timeout_ms: int = f.int32()
    voter_id: int = f.int32()
    voter_directory_id: bytes = f.uuid()
    listeners: list[Listener] = f.array(Listener)
    ack_when_committed: bool = f.boolean("1+", default=True)


class Response(f.Message, key=80, versions="0-1", flexible="0+"):
    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    error_message: str | None = f.string(nullable="0+")
