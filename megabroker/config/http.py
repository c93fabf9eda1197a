"""The section ``http``: where the broker is administered over HTTP, and what such clients may take of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from megabroker.config import fields
from megabroker.config.endpoint import parse_endpoint
from megabroker.config.kinds import Text
from megabroker.config.security import TlsSettings
from megabroker.config.units import KIB, MIB
from megabroker.errors import Fault

__all__ = ["HttpSettings"]

_TYPES: Final = ("tcp", "unix", "systemd")


@attrs.frozen(kw_only=True)
class HttpSettings:
    """Administration over HTTP."""

    enabled: bool = fields.flag(True, doc="Whether the HTTP API is served.")
    endpoint: str = fields.endpoint(
        "tcp:8090:interface=127.0.0.1",
        doc="Twisted server endpoint string to listen on; with several workers, each takes the next port.",
    )
    tls: TlsSettings | None = fields.optional_section(TlsSettings, doc="TLS, 1.2 and 1.3; null for none.")
    authentication: str = fields.choice(
        "auto",
        ("auto", "required", "none"),
        doc="Whether clients must authenticate: always, never, or if a listener of a protocol "
        "requires it (auto).",
    )
    allowed_hosts: tuple[str, ...] = fields.listing(
        of=Text(pattern=r"[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\]", what="a host name or address, no port"),
        maximum=100,
        reloadable=True,
        doc="Host names that are accepted in requests, in addition to localhost and its "
        "addresses; if empty, only these are accepted on a loopback address, and all names "
        "elsewhere.",
    )
    allowed_origins: tuple[str, ...] = fields.listing(
        of=Text(pattern=r"https?://[^/\s]+", what="an origin such as https://tools.example.org"),
        maximum=100,
        reloadable=True,
        doc="Origins of other web sites whose scripts may send requests that change something.",
    )
    console: bool = fields.flag(True, doc="Whether the web console is served.")
    session_seconds: int = fields.integer(
        43_200,
        minimum=60,
        maximum=2_592_000,
        unit="seconds",
        reloadable=True,
        doc="How long a session of the console lasts after its last use.",
    )
    max_sessions: int = fields.integer(
        1000,
        minimum=1,
        maximum=100_000,
        unit="sessions",
        reloadable=True,
        doc="Maximum number of sessions of the console, a tenth of them for one user; a further"
        " one ends the least recently used one.",
    )
    max_connections: int = fields.integer(
        100,
        minimum=1,
        maximum=10_000,
        unit="connections",
        reloadable=True,
        doc="Maximum number of connections; further ones are closed at once.",
    )
    max_body_bytes: int = fields.size_bytes(
        4 * MIB,
        minimum=KIB,
        maximum=64 * MIB,
        reloadable=True,
        doc="Largest body of a request; a larger one is refused.",
    )
    max_answer_bytes: int = fields.size_bytes(
        MIB,
        minimum=64 * KIB,
        maximum=64 * MIB,
        reloadable=True,
        doc="Maximum size of the messages in one answer; further requests return the others.",
    )
    request_seconds: int = fields.integer(
        30,
        minimum=1,
        maximum=3600,
        unit="seconds",
        reloadable=True,
        doc="How long a client may take to send a request, or to read an answer.",
    )
    idle_seconds: int = fields.integer(
        60,
        minimum=1,
        maximum=86_400,
        unit="seconds",
        reloadable=True,
        doc="How long a connection may be idle between two requests.",
    )

    def faults(self) -> Iterable[Fault]:
        """Yield what does not go together."""
        kind = parse_endpoint(self.endpoint).type
        if kind not in _TYPES:
            yield Fault("endpoint", self.endpoint, f"an endpoint of type {' or '.join(_TYPES)}")
        elif self.tls is not None and kind == "unix":
            yield Fault("endpoint", self.endpoint, "an endpoint of type tcp or systemd, as there is tls")
