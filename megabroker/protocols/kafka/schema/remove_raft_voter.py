"""RemoveRaftVoter (key 81): removes a voter from the metadata quorum."""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=81, versions="0", flexible="0+"):
    cluster_id: str | None = f.string(nullable="0+")
    voter_id: int = f.int32()
    voter_directory_id: bytes = f.uuid()


class Response(f.Message, key=81, versions="0", flexible="0+"):
    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    error_message: str | None = f.string(nullable="0+")
