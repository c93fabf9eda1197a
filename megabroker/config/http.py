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

    enabled: bool = fields.flag(True, doc="Whether there is an HTTP API at all.")
    endpoint: str = fields.endpoint(
        "tcp:8090:interface=127.0.0.1",
        doc="Twisted server endpoint string: what to bind; each of several workers takes the next port.",
    )
    tls: TlsSettings | None = fields.optional_section(TlsSettings, doc="TLS, 1.2 and 1.3; null for none.")
    authentication: str = fields.choice(
        "auto",
        ("auto", "required", "none"),
        doc="Whether clients must say who they are: always, never, or where a protocol's listener asks for "
        "it (auto).",
    )
    allowed_hosts: tuple[str, ...] = fields.listing(
        of=Text(pattern=r"[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\]", what="a host name or address, no port"),
        maximum=100,
        reloadable=True,
        doc="Names by which clients may ask for this broker, beside localhost and its addresses; empty is "
        "for these alone on a loopback address, and for any elsewhere.",
    )
    allowed_origins: tuple[str, ...] = fields.listing(
        of=Text(pattern=r"https?://[^/\s]+", what="an origin such as https://tools.example.org"),
        maximum=100,
        reloadable=True,
        doc="Origins of other web pages whose scripts may change something here.",
    )
    console: bool = fields.flag(True, doc="Whether there is a console for web browsers beside the API.")
    session_seconds: int = fields.integer(
        43_200,
        minimum=60,
        maximum=2_592_000,
        unit="seconds",
        reloadable=True,
        doc="How long a log-in to the console lasts after it was last used.",
    )
    max_sessions: int = fields.integer(
        1000,
        minimum=1,
        maximum=100_000,
        unit="sessions",
        reloadable=True,
        doc="Log-ins to the console at most, a tenth of them for one user; a further one ends the one that "
        "was used longest ago.",
    )
    max_connections: int = fields.integer(
        100,
        minimum=1,
        maximum=10_000,
        unit="connections",
        reloadable=True,
        doc="Connections at most; further ones are closed at once.",
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
        doc="Bytes of messages in one answer; more of them are got by asking again.",
    )
    request_seconds: int = fields.integer(
        30,
        minimum=1,
        maximum=3600,
        unit="seconds",
        reloadable=True,
        doc="How long a client may take over sending one request, or reading one answer.",
    )
    idle_seconds: int = fields.integer(
        60,
        minimum=1,
        maximum=86_400,
        unit="seconds",
        reloadable=True,
        doc="How long a connection may be silent between two requests.",
    )

    def faults(self) -> Iterable[Fault]:
        """Yield what does not go together."""
        kind = parse_endpoint(self.endpoint).type
        if kind not in _TYPES:
            yield Fault("endpoint", self.endpoint, f"an endpoint of type {' or '.join(_TYPES)}")
        elif self.tls is not None and kind == "unix":
            yield Fault("endpoint", self.endpoint, "an endpoint of type tcp or systemd, as there is tls")
