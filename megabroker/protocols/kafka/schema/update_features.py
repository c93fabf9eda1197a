"""UpdateFeatures (key 57): changes finalized features.

Version 1 adds upgrade types and validation only; 2 has no results per feature.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f

__all__ = ["Request", "Response"]


class Request(f.Message, key=57, versions="0-2", flexible="0+"):
    class FeatureUpdate(f.Struct):
        feature: str = f.string()
        max_version_level: int = f.int16()
        allow_downgrade: bool = f.boolean("0")
        upgrade_type: int = f.int8("1+", default=1)

    timeout_ms: int = f.int32(default=60000)
    feature_updates: list[FeatureUpdate] = f.array(FeatureUpdate)
    validate_only: bool = f.boolean("1+")


class Response(f.Message, key=57, versions="0-2", flexible="0+"):
    class Feature(f.Struct):
        feature: str = f.string()
        error_code: int = f.int16()
        error_message: str | None = f.string(nullable="0+")

    throttle_time_ms: int = f.int32()
    error_code: int = f.int16()
    error_message: str | None = f.string(nullable="0+")
    results: list[Feature] = f.array(Feature, "0-1")
