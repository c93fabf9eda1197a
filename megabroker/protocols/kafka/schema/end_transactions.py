"""EndTransactions (1012): write the outcome of transactions to partitions.

Between the processes of one broker only: coordinator to leader. WriteTxnMarkers and a *generation*, which
rises whenever the outcome of a request before is not known: one that is late must not be carried out. Answers
come in the order of the request.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f
from megabroker.protocols.kafka.schema.told_error import ToldError

__all__ = ["Request", "Response"]


class Request(f.Message, key=1012, versions="0"):
    class Marker(f.Struct):
        topic: str = f.string()
        index: int = f.int32()
        producer_id: int = f.int64()
        producer_epoch: int = f.int16()
        committed: bool = f.boolean()
        coordinator_epoch: int = f.int32()

    generation: int = f.int64()
    markers: list[Marker] = f.array(Marker)


class Response(f.Message, key=1012, versions="0"):
    class Outcome(f.Struct):
        error: ToldError | None = f.struct(ToldError, nullable="0+", default=None)

    generation: int = f.int64()  # the highest known; if above the request's nothing was done
    outcomes: list[Outcome] = f.array(Outcome)
