"""The processes of a broker, and where they listen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import attrs

__all__ = ["HTTP", "PEERS", "HostPort", "Listener", "Node", "Worker"]


class HostPort(NamedTuple):
    """Where a client connects to."""

    host: str
    port: int


@attrs.frozen
class Listener:
    """One advertised listener of a node.

    Attributes:
        protocol: the plugin's name, for example ``kafka``.
        name: the listener's name within it.
    """

    protocol: str
    name: str
    address: HostPort


@attrs.frozen
class Node:
    """A broker process as clients see it."""

    id: int
    rack: str | None = None
    listeners: tuple[Listener, ...] = ()

    def address(self, protocol: str, name: str) -> HostPort | None:
        """Return the advertised address of the listener ``name``, else of the protocol's first one."""
        found: HostPort | None = None
        for listener in self.listeners:
            if listener.protocol == protocol:
                if listener.name == name:
                    return listener.address
                found = found or listener.address
        return found


PEERS = ("", "")
"""Stands for protocol and listener where the other processes of the same broker connect."""

HTTP = ("http", "")
"""Stands for them where the broker is administered over HTTP."""


@attrs.frozen
class Worker:
    """One of the processes that are a broker together.

    Attributes:
        index: which of them; 0 controls and coordinates.
        nodes: all of them.
        sockets: where each takes the requests of the others, the path of a Unix socket.
        descriptors: open sockets that listen for this one, by protocol and name of the listener; what takes
            the requests of the others is ``PEERS``, what is administered over HTTP ``HTTP``.
    """

    index: int
    nodes: tuple[Node, ...]
    sockets: tuple[str, ...]
    descriptors: Mapping[tuple[str, str], int]

    @property
    def me(self) -> Node:
        """The node that this one is."""
        return self.nodes[self.index]
