"""AddOffsetsToTxn (25): make a group's offsets part of a producer's transaction.

**Behaviour.** Begins a transaction if none is open.

**Version notes.** 2 knows PRODUCER_FENCED. Producers of the second kind of transactions skip this request.
"""

from __future__ import annotations

from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.model import ProducerIdentity
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.groups import check_group
from megabroker.protocols.kafka.schema import add_offsets_to_txn
from megabroker.protocols.kafka.transactions import check_transactional_id, transaction_error

__all__ = ["handle"]

_KNOWS_FENCED = 2


async def handle(context: Context, request: add_offsets_to_txn.Request) -> add_offsets_to_txn.Response:
    """Answer when the row is stored."""
    response = add_offsets_to_txn.Response()
    try:
        check_transactional_id(context, request.transactional_id)
        if not request.group_id:
            raise RequestError(ErrorCode.INVALID_GROUP)
        check_group(context, request.group_id)
        await context.broker.transactions.add_offsets(
            request.transactional_id,
            ProducerIdentity(request.producer_id, request.producer_epoch),
            request.group_id,
        )
    except BrokerError as error:
        response.error_code = transaction_error(error, fenced=context.version >= _KNOWS_FENCED)
    return response
