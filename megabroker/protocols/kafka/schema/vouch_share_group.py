"""VouchShareGroup (1016): is there such a share group?

Between the processes of one broker only: from a leader, which is about to keep something of it, to the
coordinator.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f
from megabroker.protocols.kafka.schema.told_error import ToldError

__all__ = ["Request", "Response"]


class Request(f.Message, key=1016, versions="0"):
    group_id: str = f.string()


class Response(f.Message, key=1016, versions="0"):
    error: ToldError | None = f.struct(ToldError, nullable="0+", default=None)
