"""EndTxn (26): commit or abort a producer's transaction.

**Behaviour.** Answered when the outcome is certain; the markers that show it to consumers follow, and a
request for the next transaction may be told CONCURRENT_TRANSACTIONS until they are written.

**Version notes.** 2 knows PRODUCER_FENCED. 5 raises the producer's epoch and answers with the identity to go
on with; repeated under the epoch before, it gets the same answer (KIP-890).
"""

from __future__ import annotations

from megabroker.errors import BrokerError
from megabroker.model import ProducerIdentity
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import end_txn
from megabroker.protocols.kafka.transactions import check_transactional_id, transaction_error

__all__ = ["handle"]

_KNOWS_FENCED = 2
_BUMPS_EPOCH = 5


async def handle(context: Context, request: end_txn.Request) -> end_txn.Response:
    """Answer when the decision is stored."""
    try:
        check_transactional_id(context, request.transactional_id)
        identity = await context.broker.transactions.end(
            request.transactional_id,
            ProducerIdentity(request.producer_id, request.producer_epoch),
            request.committed,
            bump_epoch=context.version >= _BUMPS_EPOCH,
        )
    except BrokerError as error:
        return end_txn.Response(
            error_code=transaction_error(error, fenced=context.version >= _KNOWS_FENCED),
            producer_id=-1,
            producer_epoch=-1,
        )
    if context.version < _BUMPS_EPOCH:
        return end_txn.Response()
    return end_txn.Response(producer_id=identity.producer_id, producer_epoch=identity.producer_epoch)
