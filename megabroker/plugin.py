"""Finding protocol plugins, and the ready-made descriptor that most of them are.

Owns discovery: every module ``*_plugin`` of the package ``megabroker.plugins`` is imported and every module
attribute that provides ``IProtocolPlugin`` is a plugin. The modules are tiny and import nothing of the
protocol itself; ``twisted.plugin.getPlugins`` is not used, because its pickled cache must be writable or goes
stale, and because it cannot say by name which plugin is broken.

Invariant: a broken plugin is reported by its module's name and skipped; it never stops the broker unless
the configuration asks for it.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger
from twisted.python.reflect import namedAny
from zope.interface import implementer

from megabroker.interfaces import IBroker, IProtocolPlugin
from megabroker.model import Listener

__all__ = ["INTERFACE_VERSION", "ProtocolPlugin", "discover"]

INTERFACE_VERSION = 1

_log = Logger()


@implementer(IProtocolPlugin)
class ProtocolPlugin:
    """A protocol described by names, imported only when a configuration uses it.

    Args:
        name: the key under ``protocols:``.
        default_endpoint: Twisted endpoint string of its listener when the configuration names none.
        settings: dotted name of the attrs class of its settings.
        factory: dotted name of a callable taking (broker, settings, listener) and returning a factory.
        version: version of ``IProtocolPlugin`` this was written for.
    """

    def __init__(
        self,
        name: str,
        default_endpoint: str,
        settings: str,
        factory: str,
        version: int = INTERFACE_VERSION,
    ) -> None:
        self.name = name
        self.version = version
        self.default_endpoint = default_endpoint
        self._settings = settings
        self._factory = factory

    def settings_class(self) -> type[Any]:
        """Import and return the settings class."""
        found: type[Any] = namedAny(self._settings)  # type: ignore[no-untyped-call]
        return found

    def factory(self, broker: IBroker, settings: Any, listener: Listener) -> IProtocolFactory:
        """Import the factory's callable and call it."""
        made: IProtocolFactory = namedAny(self._factory)(broker, settings, listener)  # type: ignore[no-untyped-call]
        return made


def discover() -> dict[str, IProtocolPlugin]:
    """Return every usable plugin by name; the others are logged by module name."""
    package = importlib.import_module("megabroker.plugins")
    found: dict[str, IProtocolPlugin] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        if not info.name.endswith("_plugin"):
            continue
        name = f"{package.__name__}.{info.name}"
        try:
            module = importlib.import_module(name)
        except Exception:  # noqa: BLE001 - anything can be wrong with somebody else's module
            _log.failure("plugin {module} cannot be imported and is skipped", module=name)
            continue
        for plugin in _plugins_of(module):
            if plugin.version != INTERFACE_VERSION:
                _log.error(
                    "plugin {name} of {module} is written for version {version} of IProtocolPlugin, "
                    "expected {expected}; skipped",
                    name=plugin.name,
                    module=name,
                    version=plugin.version,
                    expected=INTERFACE_VERSION,
                )
            elif plugin.name in found:
                _log.error(
                    "plugin {name} of {module} has a name that is taken; skipped",
                    name=plugin.name,
                    module=name,
                )
            else:
                found[plugin.name] = plugin
    return found


def _plugins_of(module: ModuleType) -> list[Any]:
    return [value for value in vars(module).values() if IProtocolPlugin.providedBy(value)]
