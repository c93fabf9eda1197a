"""What a listener has done, in plain numbers to be looked at: bytes, requests and how long they took.

Owns the numbers and how they are kept: integers and lists that are added to in the reactor thread, without a
lock and without a call where a request is cheap. Whoever shows them (``megabroker.ops.metrics``) reads them
when asked; nothing here knows what they are called there.

Requests that came in one turn of the reactor and are answered in one took as long as each other: they are
counted together at its end (``Turns.answered``), and each costs an addition.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol

from megabroker.latency import Latency

__all__ = ["Counts", "RequestNotes"]


class RequestNotes(Protocol):
    """Takes note of single requests, for a log of them."""

    def note(self, protocol: str, api: str, connection: Any, seconds: float, **about: Any) -> None:
        """Take note of a request that is answered; may pass it over."""


class Counts:
    """The numbers of one listener.

    Attributes:
        received_bytes: what its connections have received.
        sent_bytes: what they have handed to their sockets, or are about to.
        opened: connections that were admitted.
        refused: connections that were not.
        latencies: of requests, by what the wire calls them.
        limits: how often a limit was met, by its key in the configuration.
        violations: connections closed because what came was not the protocol.
        failures: connections closed for a fault of the broker's own.
        denied: clients that could not prove who they are.
        throttled: how often a client was told, or made, to wait by its quotas.
        throttled_ms: for how long, all together.
        notes: takes note of single requests; None where nobody wants to.
    """

    def __init__(self) -> None:
        self.received_bytes = 0
        self.sent_bytes = 0
        self.opened = 0
        self.refused = 0
        self.latencies: dict[str, Latency] = {}
        self.limits: Counter[str] = Counter()
        self.violations = 0
        self.failures = 0
        self.denied = 0
        self.throttled = 0
        self.throttled_ms = 0
        self.notes: RequestNotes | None = None

    def latency(self, api: str) -> Latency:
        """Return the latency of a kind of request."""
        found = self.latencies.get(api)
        if found is None:
            found = self.latencies[api] = Latency()
        return found

    def met(self, key: str) -> None:
        """A limit has been met."""
        self.limits[key] += 1
