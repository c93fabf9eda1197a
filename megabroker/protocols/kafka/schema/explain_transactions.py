"""ExplainTransactions (1013): which of the transactions that are open in a leader's logs does nobody know?

Between the processes of one broker only: leader to coordinator.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f
from megabroker.protocols.kafka.schema.told_error import ToldError

__all__ = ["OpenTransaction", "Request", "Response"]


class OpenTransaction(f.Struct):
    """One producer's, in one partition."""

    topic: str = f.string()
    index: int = f.int32()
    producer_id: int = f.int64()
    producer_epoch: int = f.int16()


class Request(f.Message, key=1013, versions="0"):
    transactions: list[OpenTransaction] = f.array(OpenTransaction)


class Response(f.Message, key=1013, versions="0"):
    error: ToldError | None = f.struct(ToldError, nullable="0+", default=None)
    unexplained: list[OpenTransaction] = f.array(OpenTransaction)
