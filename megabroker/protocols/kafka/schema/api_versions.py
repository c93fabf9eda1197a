"""ApiVersions (key 18): tells which requests the broker understands.

Version 3 is flexible, but the response header of every version is version 0, so that a client that
guessed too high can read the answer. An unknown version is answered in the form of version 0.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=18, versions="0-4", flexible="3+"):
    client_software_name: str = f.string("3+")
    client_software_version: str = f.string("3+")


class Response(f.Message, key=18, versions="0-4", flexible="3+"):
    class Api(f.Struct):
        api_key: int = f.int16()
        min_version: int = f.int16()
        max_version: int = f.int16()

    class SupportedFeature(f.Struct):
        name: str = f.string()
        min_version: int = f.int16()
        max_version: int = f.int16()

    class FinalizedFeature(f.Struct):
        name: str = f.string()
        max_version_level: int = f.int16()
        min_version_level: int = f.int16()

    error_code: int = f.int16()
    api_keys: list[Api] = f.array(Api)
    throttle_time_ms: int = f.int32("1+")
    supported_features: list[SupportedFeature] = f.array(SupportedFeature, "3+", tag=0)
    finalized_features_epoch: int = f.int64("3+", default=-1, tag=1)
    finalized_features: list[FinalizedFeature] = f.array(FinalizedFeature, "3+", tag=2)
    zk_migration_ready: bool = f.boolean("3+", tag=3)
