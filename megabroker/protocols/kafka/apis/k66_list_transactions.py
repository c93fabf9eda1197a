"""ListTransactions (66): the transactional ids this node coordinates.

**Behaviour.** Filters are sets; an empty one lets everything pass. State filters that are no state of Kafka's
come back as unknown, and let nothing pass by themselves.

**Version notes.** 1 filters by how long a transaction has been open. 2, which filters by a regular expression
over the ids, is not offered.
"""

from __future__ import annotations

from megabroker.core.transactions.transaction import TransactionState
from megabroker.errors import BrokerError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import list_transactions
from megabroker.protocols.kafka.topics import first_seen
from megabroker.protocols.kafka.transactions import transaction_error

__all__ = ["handle"]

_STATES = frozenset(state.value for state in TransactionState)

_Row = list_transactions.Response.TransactionState


def handle(context: Context, request: list_transactions.Request) -> list_transactions.Response:
    """Answer at once."""
    states, _ = first_seen(request.state_filters)
    response = list_transactions.Response(unknown_state_filters=[one for one in states if one not in _STATES])
    producer_ids = frozenset(request.producer_id_filters)
    now_ms = context.broker.now_ms()
    try:
        found = context.broker.transactions.all()
    except BrokerError as error:
        response.error_code = transaction_error(error)
        return response
    for one in found:
        if states and one.state not in states:
            continue
        if producer_ids and one.producer_id not in producer_ids:
            continue
        open_for_ms = -1 if one.start_time_ms < 0 else now_ms - one.start_time_ms
        if request.duration_filter >= 0 and open_for_ms <= request.duration_filter:
            continue
        response.transaction_states.append(
            _Row(
                transactional_id=one.transactional_id,
                producer_id=one.producer_id,
                transaction_state=one.state,
            )
        )
    return response
