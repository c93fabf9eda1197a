"""Plugs in the example's line protocol."""

from megabroker.plugin import ProtocolPlugin

__all__ = ["echo_line"]

echo_line = ProtocolPlugin(
    name="echo_line",
    default_endpoint="tcp:7000:interface=127.0.0.1",
    settings="echo_line.settings.EchoLineSettings",
    version=1,
    factory="echo_line.protocol.EchoLineFactory",
)
