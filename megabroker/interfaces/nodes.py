"""Nodes: which does what, and what the processes of one broker ask each other."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from megabroker.model import Node, TopicPartition

__all__ = ["IErrands", "IPeers", "IPlacement"]


class IPlacement(Interface):
    """Which node does what; the answer of a single process is always "me"."""

    me: Node = Attribute("This node.")

    def nodes() -> Sequence[Node]:
        """Return every live node."""

    def controller() -> Node:
        """Return the node that takes topic changes."""

    def leader(topic_partition: TopicPartition) -> Node:
        """Return the node that leads a partition."""

    def coordinator(key: str) -> Node:
        """Return the node that coordinates a group or transactional id."""


class IPeers(Interface):
    """The other processes of this broker, asked in the protocol of Apache Kafka; messages are its wire's."""

    def ask(
        node_id: int,
        key: int,
        version: int,
        request: Any,
        *,
        timeout_seconds: float = 30.0,
        repeat: bool = False,
        for_client: bool = False,
    ) -> Deferred[Any]:
        """Send a request message; fire with the response message.

        Requests that wait at the same time overtake each other. Cancelling is allowed.

        Args:
            key: the API key; ``version`` that of request and answer.
            repeat: send it again if the connection is lost before the answer, which a request must bear; a
                few times, as what ends every connection might be the request.
            for_client: have it wait with what clients want done, and not before what processes need.

        Fails with PeerError (UNREACHABLE, TIMED_OUT), StateError (OVERLOADED) or ProtocolError.
        """

    def errand(node_id: int, wire: str, errand: bytes) -> Deferred[bytes]:
        """Have a wire of another process carry something out; see ``IErrands``. Fails with BrokerError."""


class IErrands(Interface):
    """What a wire carries out for the same wire of other processes, in words of its own."""

    def serve(errand: bytes) -> Awaitable[bytes]:
        """Carry something out; the result is what the other process gets.

        Raises:
            BrokerError: it cannot be.
        """
