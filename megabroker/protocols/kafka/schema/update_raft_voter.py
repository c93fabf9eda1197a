"""UpdateRaftVoter (key 82): updates a voter of the metadata quorum."""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=82, versions="0", flexible="0+"):
    class Listener(f.Struct):
        name: str = f.string()
        host: str = f.string()
        port: int = f.uint16()

    class KRaftVersionFeature(f.Struct):
        min_supported_version: int = f.int16()
        max_supported_version: int = f.int16()

    cluster_id: str | None = f.string(nullable="0+")
    current_leader_epoch: int = f.int32()
    voter_id: int = f.int32()
    voter_directory_id: bytes = f.uuid()
    listeners: list[Listener] = f.array(Listener)
    k_raft_version_feature: KRaftVersionFeature = f.struct(KRaftVersionFeature)


class Response(f.Message, key=82, versions="0", flexible="0+"):
    class CurrentLeader(f.Struct):
        leader_id: int = f.int32(default=-1)
        leader_epoch: int = f.int32(default=-1)
        host: str = f.string()
        port: int = f.int32()

    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    current_leader: CurrentLeader | None = f.struct(CurrentLeader, default=None, tag=0)
