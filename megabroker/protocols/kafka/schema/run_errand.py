"""RunErrand (1018): something that only the process asked can do, in the words of a wire.

Between the processes of one broker only; what it says is the wire's own.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f
from megabroker.protocols.kafka.schema.told_error import ToldError

__all__ = ["Request", "Response"]


class Request(f.Message, key=1018, versions="0"):
    wire: str = f.string()
    errand: bytes = f.bytestring()


class Response(f.Message, key=1018, versions="0"):
    error: ToldError | None = f.struct(ToldError, nullable="0+", default=None)
    outcome: bytes = f.bytestring()
