"""The API as the console asks it: within the process, with the rights of whoever looks.

Owns nothing of its own. A request is named as the document of the API names it, method and path; its
permissions, kinds and handler are those of the API's route.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from megabroker.access import CLUSTER_NAME
from megabroker.http.caller import Caller
from megabroker.http.reading import refused
from megabroker.http.routes import PARAMETERS, Answer, Call, Route
from megabroker.http.schema import INVALID, Kind, ValueFault

__all__ = ["Api"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Api:
    """See the module.

    Args:
        routes: those of the API.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = {f"{route.method} {route.path}": route for route in routes}

    def may(self, caller: Caller, what: str, path: Mapping[str, str] = _NOTHING) -> bool:
        """Say whether somebody has the permissions that a request needs; nothing of it is logged."""
        return all(
            caller.may(operation, kind, path[parameter] if parameter else CLUSTER_NAME, quiet=True)
            for operation, kind, parameter in self._routes[what].needs
        )

    def permit(self, caller: Caller, what: str, **path: str) -> None:
        """Raise RequestError unless somebody has the permissions that a request needs."""
        self._routes[what].permit(caller, path)

    async def ask(
        self,
        caller: Caller,
        what: str,
        path: Mapping[str, Any] = _NOTHING,
        query: Mapping[str, Any] = _NOTHING,
        body: Any = None,
    ) -> Any:
        """Carry a request out.

        Args:
            what: its method and path, such as ``GET /v1/topics/{topic}``.
            path: parameters in the path.
            query: parameters of the query; what is not here is as it is by default.

        Returns:
            What the API answers as JSON; None for nothing.

        Raises:
            Problem: it is wrong.
            BrokerError: it is refused.
        """
        route = self._routes[what]
        faults: list[tuple[str, ValueFault]] = []
        in_path = {
            name: _checked(PARAMETERS[name][0], value, "path", name, faults) for name, value in path.items()
        }
        in_query = {name: field.default for name, field in route.query.items()}
        for name, value in query.items():
            in_query[name] = _checked(route.query[name].kind, value, "query", name, faults)
        assert INVALID not in in_query.values() or faults, "a parameter that must be there is not"
        read = None if route.body is None else _checked(route.body, body, "body", "", faults)
        if faults:
            raise refused(faults)
        route.permit(caller, in_path)
        result = route.handle(Call(caller, in_path, in_query, read, route))
        if hasattr(result, "__await__"):
            result = await result
        return None if isinstance(result, Answer) else result


def _checked(kind: Kind, value: Any, where: str, name: str, faults: list[tuple[str, ValueFault]]) -> Any:
    found: list[ValueFault] = []
    read = kind.read(value, name, found)
    faults += [(where, fault) for fault in found]
    return read
