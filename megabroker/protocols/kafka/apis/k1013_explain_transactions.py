"""ExplainTransactions (1013, between processes): what is open in a leader's logs and part of no transaction.

**Behaviour.** Asked once by every leader after its start; who coordinates nothing says NOT_COORDINATOR.
"""

from __future__ import annotations

from megabroker.errors import BrokerError
from megabroker.model import ProducerIdentity, TopicPartition
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import explain_transactions
from megabroker.protocols.kafka.schema.told_error import told

__all__ = ["handle"]


def handle(context: Context, request: explain_transactions.Request) -> explain_transactions.Response:
    """Answer from memory."""
    asked = {
        (
            TopicPartition(one.topic, one.index),
            ProducerIdentity(one.producer_id, one.producer_epoch),
        ): one
        for one in request.transactions
    }
    try:
        unexplained = context.broker.transactions.unexplained(list(asked))
    except BrokerError as error:
        return explain_transactions.Response(error=told(error))
    return explain_transactions.Response(unexplained=[asked[one] for one in unexplained])
