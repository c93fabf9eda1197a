"""The part of a protocol's settings that every protocol has: whether it is served, and where.

A plugin's settings class inherits ``ProtocolSettings`` and adds its own keys beside ``enabled`` and
``listeners``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import attrs

from megabroker.config import fields
from megabroker.config.endpoint import parse_endpoint
from megabroker.config.kinds import Choice
from megabroker.config.security import MECHANISMS, TlsSettings
from megabroker.errors import Fault

__all__ = ["ListenerSettings", "ProtocolSettings"]


@attrs.frozen(kw_only=True)
class ListenerSettings:
    """One place where a protocol is served."""

    name: str = fields.text(
        "default",
        pattern=r"[A-Za-z0-9._-]{1,100}",
        what="1 to 100 of letters, digits, dot, underscore, hyphen",
        doc="Name of the listener, unique within its protocol.",
    )
    endpoint: str = fields.endpoint(doc="Twisted server endpoint string to listen on.")
    advertised_host: str | None = fields.optional_text(
        doc="Host name that clients are told to connect to; null means the bound address, or "
        "the machine's host name if that is all addresses.",
    )
    advertised_port: int | None = fields.optional_integer(
        minimum=1, maximum=65535, doc="Port that clients are told to connect to; null means the bound port."
    )
    tls: TlsSettings | None = fields.optional_section(TlsSettings, doc="TLS, 1.2 and 1.3; null for none.")
    sasl: tuple[str, ...] = fields.listing(
        of=Choice.of(MECHANISMS),
        maximum=len(MECHANISMS),
        doc="SASL mechanisms with which clients must authenticate; for kafka. Some of PLAIN, "
        "SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER.",
    )
    auth: str = fields.choice(
        "none",
        ("none", "required"),
        doc="Whether clients must first authenticate, with the command AUTH; for cursus.",
    )

    def faults(self) -> Iterable[Fault]:
        """Yield what does not go together."""
        if self.tls is not None and parse_endpoint(self.endpoint).type not in ("tcp", "systemd"):
            yield Fault("endpoint", self.endpoint, "an endpoint of type tcp or systemd, as there is tls")


@attrs.frozen(kw_only=True)
class ProtocolSettings:
    """What every section under ``protocols:`` has.

    Attributes:
        ways_to_authenticate: the keys of a listener by which this protocol has clients say who they are.
    """

    ways_to_authenticate: ClassVar[frozenset[str]] = frozenset()

    enabled: bool = fields.flag(True, doc="Whether the protocol is served.")
    listeners: tuple[ListenerSettings, ...] = fields.listing(
        of=ListenerSettings,
        minimum=1,
        maximum=100,
        doc="Listeners of the protocol; if absent, one listener at the protocol's default endpoint.",
    )

    def faults(self) -> Iterable[Fault]:
        """Yield what is wrong with the listeners together. A subclass that overrides this calls it too."""
        seen: set[str] = set()
        for index, listener in enumerate(self.listeners):
            if listener.name in seen:
                yield Fault(f"listeners[{index}].name", listener.name, "a name no other listener here has")
            seen.add(listener.name)
            for key, none in (("sasl", ()), ("auth", "none")):
                value = getattr(listener, key)
                if value != none and key not in self.ways_to_authenticate:
                    yield Fault(
                        f"listeners[{index}].{key}", value, "no such key: it is not for this protocol"
                    )

    def listener(self, name: str) -> ListenerSettings | None:
        """Return a listener by its name."""
        return next((one for one in self.listeners if one.name == name), None)
