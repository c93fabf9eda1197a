"""Plugs in the cursus text protocol."""

from megabroker.plugin import INTERFACE_VERSION, ProtocolPlugin

__all__ = ["cursus"]

cursus = ProtocolPlugin(
    name="cursus",
    default_endpoint="tcp:9000:interface=127.0.0.1",
    settings="megabroker.protocols.cursus.settings.CursusSettings",
    version=INTERFACE_VERSION,
    factory="megabroker.protocols.cursus.factory.CursusFactory",
    needs_tls=False,
)
