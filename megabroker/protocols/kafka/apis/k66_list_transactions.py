"""ListTransactions (66): the transactional ids this node coordinates.

**Behaviour.** Filters are sets; an empty one lets everything pass. State filters that are no state of
Kafka's come back as unknown, and let nothing pass by themselves.

The regular expression of version 2 has RE2's syntax and must match the whole id. One that is not valid, or
costs too much on the ids there are, is INVALID_REGULAR_EXPRESSION.

**Version notes.** 1 filters by how long a transaction has been open, 2 by a regular expression over the ids
(KIP-1152).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from megabroker.access import Operation, ResourceType
from megabroker.core.name_pattern import NamePattern, PatternTooCostly
from megabroker.core.transactions.transaction import TransactionState
from megabroker.errors import BrokerError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import list_transactions
from megabroker.protocols.kafka.topics import first_seen
from megabroker.protocols.kafka.transactions import transaction_error

__all__ = ["handle"]

_STATES = frozenset(state.value for state in TransactionState)

_MAX_MATCHED_CHARS: Final = 4_000_000
"""About a second of matching, which nothing else runs beside: 100,000 ids of 40 characters."""

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
    try:
        matching = _matching(request.transactional_id_pattern, [one.transactional_id for one in found])
    except (BrokerError, PatternTooCostly):
        response.error_code = int(KafkaError.INVALID_REGULAR_EXPRESSION)
        return response
    for one in found:
        if matching is not None and one.transactional_id not in matching:
            continue
        if states and one.state not in states:
            continue
        if producer_ids and one.producer_id not in producer_ids:
            continue
        if not context.may(
            Operation.DESCRIBE, ResourceType.TRANSACTIONAL_ID, one.transactional_id, quiet=True
        ):
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


def _matching(pattern: str | None, names: Sequence[str]) -> set[str] | None:
    """Return which names match; None for all of them. Raises BrokerError, PatternTooCostly."""
    if not pattern:
        return None
    if sum(map(len, names)) > _MAX_MATCHED_CHARS:
        raise PatternTooCostly
    return NamePattern(pattern, frozenset().union(*names)).matching(names)
