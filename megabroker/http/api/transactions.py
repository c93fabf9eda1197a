"""Transactions: which there are, and an end to one that hangs."""

from __future__ import annotations

from typing import Any, Final

from megabroker.access import Operation, ResourceType
from megabroker.errors import ErrorCode, RequestError
from megabroker.http.caller import Caller
from megabroker.http.paging import PAGES, page, paged
from megabroker.http.routes import Call, Need, Route
from megabroker.http.schema import Integer, ListOf, Nullable, Object, Text, optional, required
from megabroker.model import TransactionDescription

__all__ = ["ROUTES", "known_transaction", "show_transaction", "visible_transactions"]

_PLACE: Final = Object(
    {
        "topic": required(Text(), "Name of a topic."),
        "partition": required(Integer(0), "Number of a partition."),
    },
    "TransactionPartition",
)

_TRANSACTION: Final = Object(
    {
        "transactional_id": required(Text(), "Transactional id."),
        "state": required(Text(), "State of the transaction, by Kafka's name."),
        "producer_id": required(Integer(), "Producer id."),
        "producer_epoch": required(Integer(), "Producer epoch."),
        "timeout_ms": required(Integer(), "Timeout of a transaction."),
        "start_time_ms": required(
            Nullable(Integer(0)), "Start of the open transaction, in milliseconds since 1970."
        ),
        "partitions": required(
            ListOf(_PLACE, maximum=1_000_000), "Partitions that the transaction has written to."
        ),
    },
    "Transaction",
)


def visible_transactions(caller: Caller) -> list[TransactionDescription]:
    """Return the transactional ids that the caller may see, by name."""
    found = [
        one
        for one in caller.broker.transactions.all()
        if caller.sees(ResourceType.TRANSACTIONAL_ID, one.transactional_id)
    ]
    return sorted(found, key=lambda one: one.transactional_id)


def known_transaction(caller: Caller, transactional_id: str) -> TransactionDescription:
    """Return what is known of an id. Raises RequestError (TRANSACTIONAL_ID_NOT_FOUND)."""
    found = caller.broker.transactions.describe(transactional_id)
    if found is None:
        raise RequestError(
            ErrorCode.TRANSACTIONAL_ID_NOT_FOUND, f"nobody has used the id {transactional_id[:200]!r} lately"
        )
    return found


def show_transaction(caller: Caller, found: TransactionDescription) -> dict[str, Any]:
    """Return what is to be said of an id; topics that may not be seen are left out."""
    return {
        "transactional_id": found.transactional_id,
        "state": found.state,
        "producer_id": found.producer_id,
        "producer_epoch": found.producer_epoch,
        "timeout_ms": found.timeout_ms,
        "start_time_ms": None if found.start_time_ms < 0 else found.start_time_ms,
        "partitions": [
            {"topic": where.topic, "partition": where.partition}
            for where in sorted(found.partitions)
            if caller.sees(ResourceType.TOPIC, where.topic)
        ],
    }


def list_transactions(call: Call) -> Any:
    """Return a page of the transactional ids that the caller may see."""
    state, caller = call.query["state"], call.caller
    rows = [
        one for one in visible_transactions(caller) if state is None or one.state.lower() == state.lower()
    ]
    return page(
        call,
        "transactions",
        rows,
        lambda one: one.transactional_id,
        lambda one: show_transaction(caller, one),
    )


def get_transaction(call: Call) -> Any:
    """Describe a transactional id."""
    return show_transaction(call.caller, known_transaction(call.caller, call.path["transactional_id"]))


async def post_abort(call: Call) -> Any:
    """Abort the open transaction of an id."""
    caller, transactional_id = call.caller, call.path["transactional_id"]
    known_transaction(caller, transactional_id)
    await caller.broker.transactions.abort(transactional_id)
    caller.changed("AbortTransaction", transactional_id)
    return show_transaction(caller, known_transaction(caller, transactional_id))


_ON_ID: Final = Need(Operation.DESCRIBE, ResourceType.TRANSACTIONAL_ID, "transactional_id")

ROUTES: Final = (
    Route(
        "GET",
        "/v1/transactions",
        list_transactions,
        "Transactional ids.",
        paged("transactions", _TRANSACTION, "Transactions"),
        query={"state": optional(Nullable(Text(0, 100)), "Only ids in this state."), **PAGES},
        asks="DESCRIBE on each id; other ids are omitted",
    ),
    Route(
        "GET",
        "/v1/transactions/{transactional_id}",
        get_transaction,
        "State of a transactional id.",
        _TRANSACTION,
        needs=(_ON_ID,),
    ),
    Route(
        "POST",
        "/v1/transactions/{transactional_id}/abort",
        post_abort,
        "Abort the open transaction of an id; its producer is fenced.",
        _TRANSACTION,
        needs=(Need(Operation.WRITE, ResourceType.TRANSACTIONAL_ID, "transactional_id"),),
    ),
)
