"""AdmitTransactions (1011, between processes): partitions of open transactions, for the leaders' admission.

**Behaviour.** What AddPartitionsToTxn 4 and 5 do for Apache Kafka's brokers, with the broker's own errors. Of
a transaction all partitions are added or none: if one is refused, the others have to be asked for again.
"""

from __future__ import annotations

from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import ProducerIdentity, TopicPartition
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import admit_transactions
from megabroker.protocols.kafka.schema.told_error import told

__all__ = ["handle"]

_Transaction = admit_transactions.Response.Transaction
_Partition = admit_transactions.Response.Transaction.Partition


async def handle(context: Context, request: admit_transactions.Request) -> admit_transactions.Response:
    """Answer when the rows are stored."""
    begun = [
        context.broker.transactions.add_partitions(
            wanted.transactional_id,
            ProducerIdentity(wanted.producer_id, wanted.producer_epoch),
            [TopicPartition(one.topic, one.index) for one in wanted.partitions],
            verify_only=wanted.verify_only,
        )
        for wanted in request.transactions
    ]
    response = admit_transactions.Response()
    for wanted, waiting in zip(request.transactions, begun, strict=True):
        try:
            outcomes = await waiting
        except BrokerError as error:
            response.transactions.append(_Transaction(error=told(error)))
            continue
        codes = [outcomes[TopicPartition(one.topic, one.index)] for one in wanted.partitions]
        if not wanted.verify_only and any(codes):
            codes = [code or ErrorCode.CONCURRENT_TRANSACTIONS for code in codes]
        response.transactions.append(
            _Transaction(partitions=[_Partition(code="" if code is None else code.value) for code in codes])
        )
    return response
