"""ChangeTopic (key 1002, between processes): a topic is to be made, grown or deleted by the controller."""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f
from megabroker.protocols.kafka.schema.told_error import ToldError

__all__ = ["Request", "Response"]


class Request(f.Message, key=1002, versions="0"):
    class Config(f.Struct):
        name: str = f.string()
        value: str | None = f.string(nullable="0+")

    kind: int = f.int8()
    name: str = f.string()
    partitions: int = f.int32()
    configs: list[Config] = f.array(Config)


class Response(f.Message, key=1002, versions="0"):
    error: ToldError | None = f.struct(ToldError, nullable="0+", default=None)
