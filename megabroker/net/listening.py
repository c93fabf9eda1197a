"""Sockets that listen in one process and are served in another.

Owns the binding of what several workers serve. One process binds a socket for each of them and keeps it open;
a connection that comes while its worker is started anew waits in that socket's queue. Sockets that share a
port do so by SO_REUSEPORT: the system deals connections out among them by the addresses they come from.

A socket that is handed over is served through ``Inherited``, which stands in for a reactor when an endpoint
is made to listen, so that everything about the endpoint but its binding happens as always.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from megabroker.config.endpoint import EndpointDescription, parse_endpoint
from megabroker.errors import ErrorCode, StateError
from megabroker.model import HostPort

__all__ = ["Inherited", "advertised", "bind_each", "bind_file", "bind_shared"]

_BACKLOG = 1024
_ANY_ADDRESS = ("0.0.0.0", "::")


def bind_each(endpoints: Sequence[str]) -> list[socket.socket]:
    """Return a listening socket for each endpoint, ``tcp`` or ``ssl``. Raises StateError."""
    return [_bind(parse_endpoint(one), one) for one in endpoints]


def bind_shared(endpoint: str, count: int) -> list[socket.socket]:
    """Return so many listening sockets that share an endpoint's port.

    Raises:
        StateError: it cannot be bound, or somebody has it, sharing it or not.
    """
    found = parse_endpoint(endpoint)
    if found.port:
        _bind(found, endpoint).close()  # sharing it one would not meet whoever has it
    first = _bind(found, endpoint, shared=True)
    port = first.getsockname()[1]
    return [first, *(_bind(found, endpoint, shared=True, port=port) for _ in range(count - 1))]


def bind_file(path: str) -> socket.socket:
    """Return a socket that listens at a path, for the processes of this user. Raises StateError."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(path)
        os.chmod(path, 0o600)
        bound.listen(_BACKLOG)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise StateError(ErrorCode.INVALID_CONFIG, f"Couldn't listen on {path}: {error}.") from error
    return bound


def _bind(
    endpoint: EndpointDescription, text: str, *, shared: bool = False, port: int | None = None
) -> socket.socket:
    wanted = endpoint.port if port is None else port
    family = socket.AF_INET6 if ":" in endpoint.interface else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        address = (endpoint.interface, wanted or 0)
        bound.bind(address if family == socket.AF_INET else socket.getaddrinfo(*address)[0][4])
        bound.listen(int(endpoint.options.get("backlog", _BACKLOG)))
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        where = f"{endpoint.interface or 'any'}:{wanted}"
        raise StateError(
            ErrorCode.INVALID_CONFIG,
            f"endpoint {text}: Couldn't listen on {where}: {error}.",
        ) from error
    return bound


def advertised(host: str | None, port: int | None, bound: tuple[str, int]) -> HostPort:
    """Return what clients are told: what is configured, else what was bound, an address and a port.

    In place of all addresses they are told the machine's name.
    """
    address = os.uname().nodename if bound[0] in _ANY_ADDRESS else bound[0]
    return HostPort(host or address, port or bound[1])


class Inherited:
    """A reactor on which an endpoint listens by serving a socket that listens already.

    Args:
        reactor: the real one.
        plain: what serves plain TCP, that one or one with a transport of its own.
        descriptor: of the socket; taken over, so that it listens no longer than it is served.
    """

    def __init__(self, reactor: Any, plain: Any, descriptor: int) -> None:
        self._reactor = reactor
        self._plain = plain
        self._descriptor = descriptor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """IReactorTCP: serve the socket; where it listens is decided already."""
        return self._adopt(self._plain, factory, interface)

    def _adopt(self, reactor: Any, factory: IProtocolFactory, interface: str) -> IListeningPort:
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        listening: IListeningPort = reactor.adoptStreamPort(self._descriptor, family, factory)
        os.close(self._descriptor)  # it was duplicated
        return listening

    def listenSSL(
        self,
        port: int,
        factory: IProtocolFactory,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """IReactorSSL: the same with TLS."""
        from twisted.protocols.tls import TLSMemoryBIOFactory

        tls = TLSMemoryBIOFactory(contextFactory, False, factory)
        return self._adopt(self._reactor, tls, interface)
