"""Routes: what is done at which address, what it takes and answers, and what it needs.

Owns the matching of addresses. From one table of routes come the dispatch, the checks of parameters and
bodies, the permissions, and the OpenAPI document.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

import attrs

from megabroker.access import CLUSTER_NAME, Operation, ResourceType
from megabroker.errors import ErrorCode
from megabroker.http.caller import Caller
from megabroker.http.problems import Problem
from megabroker.http.schema import Field, Integer, Kind, Text
from megabroker.model import Principal

__all__ = ["PARAMETERS", "Answer", "Call", "Headers", "Manner", "Need", "Route", "Router"]

Headers = Callable[[str], str | None]
"""Returns a header of a request, or None."""

_NAME: Final = Text(1, 249, pattern=r"[a-zA-Z0-9._-]+", what="a topic's name: 1 to 249 of A-Z a-z 0-9 . _ -")
_ANY_NAME: Final = Text(1, 1000)

PARAMETERS: Final[Mapping[str, tuple[Kind, str]]] = MappingProxyType(
    {
        "topic": (_NAME, "Name of a topic."),
        "partition": (Integer(0, (1 << 31) - 1), "Number of a partition."),
        "group": (_ANY_NAME, "Name of a group."),
        "transactional_id": (_ANY_NAME, "A transactional id."),
        "user": (_ANY_NAME, "Name of a user."),
        "connection": (Text(1, 100), "Id of a connection, from the list."),
        "logger": (_ANY_NAME, "Name of a logger; root for all."),
        "path": (Text(1, 1000), "The rest of the path."),
    }
)
"""What can stand in braces in the path of a route."""


class Need(NamedTuple):
    """A permission that a route needs.

    Attributes:
        parameter: which part of the address names the resource; none for the cluster.
    """

    operation: Operation
    resource_type: ResourceType = ResourceType.CLUSTER
    parameter: str = ""


@attrs.frozen
class Answer:
    """An answer that is not the JSON of status 200, or not JSON at all.

    Attributes:
        body: bytes; or pieces of them, which are sent as the client takes them.
        headers: further ones.
    """

    status: int = 200
    body: bytes | AsyncIterator[bytes] = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = MappingProxyType({})


class Manner(Protocol):
    """How routes that are no part of the API know who asks, and tell what was wrong."""

    def identify(self, headers: Headers, certified: Principal, host: str) -> Awaitable[Principal]:
        """Fire with who asks. Fails with Problem.

        Args:
            certified: whom the certificate names.
            host: the address of the client.
        """

    def refuse(self, problem: Problem, headers: Headers, uri: str) -> Awaitable[Answer]:
        """Fire with what tells of a problem."""


@attrs.frozen
class Call:
    """One request, checked.

    Attributes:
        path: parameters in the address, by name.
        query: those behind the question mark, with defaults.
        body: what came with it.
        headers: returns a header, or None.
    """

    caller: Caller
    path: Mapping[str, Any]
    query: Mapping[str, Any]
    body: Any
    route: Route
    headers: Headers = lambda name: None


@attrs.frozen
class Route:
    """One thing that can be done.

    Attributes:
        path: parts in braces are parameters of ``PARAMETERS``; ``{path...}`` takes all that is left.
        handle: does it, returning or awaiting JSON or an ``Answer``.
        summary: one sentence.
        answer: what is answered; None for nothing, or what is not JSON.
        query: parameters behind the question mark.
        body: what must come with it; None for nothing.
        needs: permissions, all of them; the first that is lacking refuses.
        asks: says which permissions the handler asks for itself, if any.
        may_be_empty: when the answer is 204 with nothing in it, if that can be.
        is_open: whether nobody has to say who they are.
        reads: ``json`` or ``form``, the type of the body.
        hidden: whether it is no part of the API.
        waits: whether it may wait for what never comes.
        media: the type of an answer that is not JSON.
        manner: how it knows who asks and tells what was wrong, where not as the API does.
    """

    method: str
    path: str
    handle: Callable[[Call], Any]
    summary: str
    answer: Kind | None = None
    query: Mapping[str, Field] = attrs.field(factory=dict)
    body: Kind | None = None
    needs: tuple[Need, ...] = ()
    asks: str = ""
    status: int = 200
    may_be_empty: str = ""
    is_open: bool = False
    reads: str = "json"
    hidden: bool = False
    waits: bool = False
    media: str = "application/json"
    manner: Manner | None = None

    @property
    def parameters(self) -> list[str]:
        """The names in braces."""
        return [name.removesuffix("...") for name in re.findall(r"{([a-z_.]+)}", self.path)]

    @property
    def changes(self) -> bool:
        """Whether something is another way afterwards."""
        return self.method not in ("GET", "HEAD")

    def permit(self, caller: Caller, path: Mapping[str, Any]) -> None:
        """Raise RequestError unless the caller has every permission."""
        for operation, resource_type, parameter in self.needs:
            caller.need(operation, resource_type, path[parameter] if parameter else CLUSTER_NAME)


class _Node:
    """Where an address may go on."""

    def __init__(self) -> None:
        self.words: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.routes: dict[str, Route] = {}
        self.rest: dict[str, Route] = {}


class Router:
    """Finds routes.

    Args:
        routes: all there are; a method and a path must come once only.
        elsewhere: what is expected of who asks for what is not here.
    """

    def __init__(
        self, routes: Iterable[Route], elsewhere: str = "an address that /v1/openapi.json has"
    ) -> None:
        self.routes = tuple(routes)
        self._elsewhere = elsewhere
        self._root = _Node()
        for route in self.routes:
            node, place = self._root, self._root.routes
            for part in route.path.strip("/").split("/"):
                if part.endswith("...}"):
                    place = node.rest
                    continue
                if part.startswith("{"):
                    node.parameter = node.parameter or _Node()
                    node = node.parameter
                else:
                    node = node.words.setdefault(part, _Node())
                place = node.routes
            if route.method in place:
                raise ValueError(f"{route.method} {route.path} is there twice")
            place[route.method] = route

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """Return the route, and its parameters as text.

        Raises:
            Problem: 404 for an address that nothing is at, 405 for one at which this cannot be done, 400 for
                one that cannot be read.
        """
        node, values, rest = self._root, list[str](), None
        parts = path.strip("/").split("/")
        for at, part in enumerate(parts):
            if node.rest:
                rest = node.rest, [*values, _unquoted("/".join(parts[at:]))]
            found = node.words.get(part)
            if found is None:
                found = node.parameter if part else None
                values.append(_unquoted(part))
            if found is None:
                break
            node = found
        else:
            if node.routes:
                return self._by_method(node.routes, method, path, values)
        if rest is not None:
            return self._by_method(rest[0], method, path, rest[1])
        raise Problem(
            404,
            ErrorCode.INVALID_REQUEST,
            f"no such path: {path[:200]}: expected {self._elsewhere}",
        )

    @staticmethod
    def _by_method(
        routes: Mapping[str, Route], method: str, path: str, values: list[str]
    ) -> tuple[Route, dict[str, str]]:
        route = routes.get(method) or (routes.get("GET") if method == "HEAD" else None)
        if route is None:
            allowed = sorted({*routes, "OPTIONS", *({"HEAD"} if "GET" in routes else ())})
            raise Problem(
                405,
                ErrorCode.INVALID_REQUEST,
                f"{method[:20]} is not for {path[:200]}: expected {', '.join(allowed)}",
                headers={"Allow": ", ".join(allowed)},
            )
        return route, dict(zip(route.parameters, values, strict=True))


def _unquoted(part: str) -> str:
    try:
        return unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        raise Problem(
            400, ErrorCode.INVALID_REQUEST, "the address has bytes that are not UTF-8: expected UTF-8"
        ) from None
