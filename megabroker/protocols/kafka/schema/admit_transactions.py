"""AdmitTransactions (1011): is this partition part of the open transaction, or may it become so?

Between the processes of one broker only: leader to coordinator. Answers come in the order of the request.
"""

from __future__ import annotations

from megabroker.protocols.kafka.schema import fields as f
from megabroker.protocols.kafka.schema.told_error import ToldError

__all__ = ["Request", "Response"]


class Request(f.Message, key=1011, versions="0"):
    class Transaction(f.Struct):
        class Partition(f.Struct):
            topic: str = f.string()
            index: int = f.int32()

        transactional_id: str = f.string()
        producer_id: int = f.int64()
        producer_epoch: int = f.int16()
        verify_only: bool = f.boolean()
        partitions: list[Partition] = f.array(Partition)

    transactions: list[Transaction] = f.array(Transaction)


class Response(f.Message, key=1011, versions="0"):
    class Transaction(f.Struct):
        class Partition(f.Struct):
            code: str = f.string()  # empty for none

        error: ToldError | None = f.struct(ToldError, nullable="0+", default=None)
        partitions: list[Partition] = f.array(Partition)

    transactions: list[Transaction] = f.array(Transaction)
