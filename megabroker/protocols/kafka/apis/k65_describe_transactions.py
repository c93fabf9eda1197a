"""DescribeTransactions (65): where transactional ids stand.

**Behaviour.** An id nobody has used, or has not used for long, is TRANSACTIONAL_ID_NOT_FOUND. Each id is
described once.

**Version notes.** There is one version.
"""

from __future__ import annotations

from megabroker.errors import BrokerError, ErrorCode, StateError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import describe_transactions
from megabroker.protocols.kafka.topics import first_seen
from megabroker.protocols.kafka.transactions import check_transactional_id, transaction_error

__all__ = ["handle"]

_State = describe_transactions.Response.TransactionState


def handle(context: Context, request: describe_transactions.Request) -> describe_transactions.Response:
    """Answer at once."""
    distinct, _ = first_seen(request.transactional_ids)
    return describe_transactions.Response(transaction_states=[_describe(context, one) for one in distinct])


def _describe(context: Context, transactional_id: str) -> _State:
    row = _State(transactional_id=transactional_id)
    try:
        check_transactional_id(context, transactional_id)
        found = context.broker.transactions.describe(transactional_id)
        if found is None:
            raise StateError(ErrorCode.TRANSACTIONAL_ID_NOT_FOUND)
    except BrokerError as error:
        row.error_code = transaction_error(error)
        return row
    row.transaction_state = found.state
    row.transaction_timeout_ms = found.timeout_ms
    row.transaction_start_time_ms = found.start_time_ms
    row.producer_id = found.producer_id
    row.producer_epoch = found.producer_epoch
    topics: dict[str, list[int]] = {}
    for where in found.partitions:
        topics.setdefault(where.topic, []).append(where.partition)
    row.topics = [_State.Topic(topic=name, partitions=indexes) for name, indexes in topics.items()]
    return row
