"""Connections of clients, whatever they speak."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from megabroker.access import Operation
from megabroker.errors import ErrorCode
from megabroker.http.caller import Caller
from megabroker.http.paging import OF_NODE, PAGES, of_node, page, paged
from megabroker.http.problems import Problem
from megabroker.http.routes import Answer, Call, Need, Route
from megabroker.http.schema import FLAG, Integer, Nullable, Object, Text, optional, required
from megabroker.http.sockets import traffic_of

__all__ = ["ROUTES", "all_connections", "show_connection"]

_CONNECTION: Final = Object(
    {
        "id": required(Text(), "Id of the connection while it is open."),
        "protocol": required(Text(), "Protocol of the connection."),
        "listener": required(Text(), "Name of the listener."),
        "peer": required(Text(), "Address and port of the client."),
        "principal": required(Text(), "The authenticated principal of the client."),
        "client_id": required(Nullable(Text()), "Name and version of the client software."),
        "is_tls": required(FLAG, "Whether the connection uses TLS."),
        "received_bytes": required(Nullable(Integer(0)), "Bytes received from the client; null if unknown."),
        "sent_bytes": required(Nullable(Integer(0)), "Bytes sent to the client; null if unknown."),
    },
    "Connection",
)


def all_connections(caller: Caller) -> Iterator[tuple[str, Any, Any]]:
    """Yield every connection of this process: how it is named, its listener's factory, itself."""
    for factory in caller.inside.factories():
        listener = factory.listener
        for connection in list(getattr(factory, "connections", ())):
            yield f"{listener.protocol}-{listener.name}-{connection.peer}", factory, connection


def show_connection(named: str, factory: Any, connection: Any) -> dict[str, Any]:
    """Return what is to be said of a connection."""
    received, sent = traffic_of(connection.transport)
    return {
        "id": named,
        "protocol": factory.listener.protocol,
        "listener": factory.listener.name,
        "peer": connection.peer,
        "principal": str(connection.principal),
        "client_id": getattr(connection, "client_id", None),
        "is_tls": factory.tls is not None,
        "received_bytes": received,
        "sent_bytes": sent,
    }


def list_connections(call: Call) -> Any:
    """Return a page of the connections."""
    protocol, listener = call.query["protocol"], call.query["listener"]
    rows = sorted(
        (
            row
            for row in all_connections(call.caller)
            if protocol in (None, row[1].listener.protocol) and listener in (None, row[1].listener.name)
        ),
        key=lambda row: row[0],
    )
    found = page(call, "connections", rows, lambda row: row[0], lambda row: show_connection(*row))
    return {**found, **of_node(call)}


def delete_connection(call: Call) -> Any:
    """Close a connection."""
    wanted, caller = call.path["connection"], call.caller
    for named, _, connection in all_connections(caller):
        if named == wanted:
            connection.close(f"closed by {caller.principal} over HTTP")
            caller.changed("CloseConnection", named)
            return Answer(204)
    raise Problem(404, ErrorCode.INVALID_REQUEST, f"there is no connection {wanted!r}")


ROUTES: Final = (
    Route(
        "GET",
        "/v1/connections",
        list_connections,
        "Client connections of the node that answers, without HTTP connections.",
        paged("connections", _CONNECTION, "Connections", OF_NODE),
        query={
            "protocol": optional(Nullable(Text(1, 100)), "Only connections of this protocol."),
            "listener": optional(Nullable(Text(1, 100)), "Only connections of this listener."),
            **PAGES,
        },
        needs=(Need(Operation.DESCRIBE),),
    ),
    Route(
        "DELETE",
        "/v1/connections/{connection}",
        delete_connection,
        "Close a connection.",
        needs=(Need(Operation.ALTER),),
        status=204,
    ),
)
