"""PublishMessages (1015): store messages, each unless its id was stored within the deduplication window.

Between the processes of one broker only: to the one that decides about these ids. Answers come in the order
of the request.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f
from megabroker.protocols.kafka.schema.told_error import ToldError

__all__ = ["Request", "Response"]


class Request(f.Message, key=1015, versions="0"):
    class Published(f.Struct):
        topic: str = f.string()
        message_id: int = f.int64()  # its 64 bits, as a signed number
        message: bytes = f.bytestring()

    acks: int = f.int16()
    messages: list[Published] = f.array(Published)


class Response(f.Message, key=1015, versions="0"):
    class Outcome(f.Struct):
        error: ToldError | None = f.struct(ToldError, nullable="0+", default=None)

    outcomes: list[Outcome] = f.array(Outcome)
