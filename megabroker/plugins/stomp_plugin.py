"""Plugs in STOMP; it is served where a configuration has ``protocols: stomp:``."""

from megabroker.plugin import ProtocolPlugin

__all__ = ["stomp"]

stomp = ProtocolPlugin(
    name="stomp",
    version=2,
    default_endpoint="tcp:61613:interface=127.0.0.1",
    settings="megabroker.protocols.stomp.settings.StompSettings",
    factory="megabroker.protocols.stomp.protocol.StompFactory",
    needs_tls=False,
)
