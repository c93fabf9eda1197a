"""Lists in pages: so many a time, and a token for those that follow.

A token says after which key to go on, so that what comes or goes between two pages neither repeats the others
nor leaves any out.
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeVar

from megabroker.http.reading import refused
from megabroker.http.routes import Call
from megabroker.http.schema import (
    Field,
    Integer,
    Kind,
    ListOf,
    Nullable,
    Object,
    Text,
    ValueFault,
    optional,
    required,
)

__all__ = ["MOST_ROWS", "OF_NODE", "PAGES", "of_node", "page", "paged"]

_NOTHING: Final[Mapping[str, Field]] = MappingProxyType({})
_T = TypeVar("_T")
MOST_ROWS: Final = 1000

PAGES: Final[dict[str, Field]] = {
    "limit": optional(Integer(1, MOST_ROWS), "Maximum number of items on a page.", 100),
    "page_token": optional(
        Nullable(Text(1, 4096, pattern=r"[A-Za-z0-9_=-]+", what="the next_page_token of another page")),
        "next_page_token of the previous page.",
    ),
}
"""The parameters of every list."""


OF_NODE: Final[dict[str, Field]] = {
    "node": required(Integer(0), "Node that answers; the items of other nodes are not listed."),
    "nodes": required(Integer(1), "Number of nodes."),
}
"""What a page has beside its rows, if each node knows of its own only."""


def of_node(call: Call) -> dict[str, int]:
    """Return what `OF_NODE` describes."""
    placement = call.caller.broker.placement
    return {"node": placement.me.id, "nodes": len(placement.nodes())}


def paged(name: str, of: Kind, title: str, beside: Mapping[str, Field] = _NOTHING) -> Object:
    """Return what a page looks like.

    Args:
        beside: further fields.
    """
    return Object(
        {
            name: required(ListOf(of, maximum=MOST_ROWS), "Items on this page."),
            "next_page_token": required(
                Nullable(Text()), "page_token of the next page; null on the last page."
            ),
            **beside,
        },
        title,
    )


def page(
    call: Call, name: str, rows: Sequence[_T], key: Callable[[_T], str], show: Callable[[_T], Any]
) -> Any:
    """Return the page that is asked for.

    Args:
        name: of the list.
        rows: all there are, in the order of their keys.
        show: makes what is shown of one.
    """
    limit, token = call.query["limit"], call.query["page_token"]
    begin = 0 if token is None else bisect_right(rows, _after(token), key=key)
    end = begin + limit
    following = _token(key(rows[end - 1])) if end < len(rows) else None
    return {name: [show(row) for row in rows[begin:end]], "next_page_token": following}


def _token(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _after(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        fault = ValueFault("page_token", repr(token[:100]), "the next_page_token of another page")
        raise refused([("query", fault)]) from None
