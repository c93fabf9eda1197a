"""Plugs in the MEGA binary protocol."""

from megabroker.plugin import INTERFACE_VERSION, ProtocolPlugin

__all__ = ["mega"]

mega = ProtocolPlugin(
    name="mega",
    default_endpoint="tcp:8080:interface=127.0.0.1",
    settings="megabroker.protocols.mega.settings.MegaSettings",
    version=INTERFACE_VERSION,
    factory="megabroker.protocols.mega.factory.MegaFactory",
    needs_tls=False,
)
