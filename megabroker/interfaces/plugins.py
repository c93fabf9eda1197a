"""What a wire protocol brings."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from zope.interface import Attribute, Interface

from megabroker.interfaces.broker import IBroker
from megabroker.model import Listener

__all__ = ["IManagedFactory", "IProtocolPlugin"]


class IProtocolPlugin(Interface):
    """Describes a wire protocol, lazily: nothing is imported until a configuration names it.

    Installed as a module ``megabroker/plugins/<x>_plugin.py`` of any distribution, found by
    ``megabroker.plugin.discover``. ``megabroker.plugin.ProtocolPlugin`` provides it ready made.
    A plugin that never uses Twisted's TLS itself may say so by an attribute ``needs_tls`` that is False. One
    whose clients choose the node they talk to says so by an attribute ``own_ports`` that is True: then each
    of several workers listens on ports of its own, else all of them take the connections of one port.
    """

    name: str = Attribute("The key under ``protocols:`` in the configuration.")
    version: int = Attribute(
        "Version of the interface for plugins that this one is written for; see ``megabroker.plugin``."
    )
    default_endpoint: str = Attribute("Twisted endpoint string used when the configuration names none.")

    def settings_class() -> type[Any]:
        """Return the attrs class of the settings, its fields made with ``megabroker.config.fields``."""

    def factory(broker: IBroker, settings: Any, listener: Listener) -> IProtocolFactory:
        """Return the Twisted factory for one listener."""


class IManagedFactory(IProtocolFactory):
    """A factory whose connections the broker stops in order.

    Also a promise that its protocols run on the broker's own transport (``megabroker.net.transport``).
    Factories without this interface get Twisted's transport, and their connections are closed when the
    ports are.
    """

    def drain(seconds: float) -> Deferred[None]:
        """Take no more requests, answer those taken, close; fire when every connection is gone.

        Connections still there after ``seconds`` are aborted.
        """
