"""FollowRows (key 1001, between processes): rows have changed that all processes go by."""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f
from megabroker.protocols.kafka.schema.told_error import ToldError

__all__ = ["Request", "Response"]


class Request(f.Message, key=1001, versions="0"):
    class Table(f.Struct):
        name: str = f.string()
        keys: list[str] = f.array(f.string)

    tables: list[Table] | None = f.array(Table, nullable="0+")


class Response(f.Message, key=1001, versions="0"):
    error: ToldError | None = f.struct(ToldError, nullable="0+", default=None)
