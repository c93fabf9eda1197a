"""Finding protocol plugins, and the ready-made descriptor that most of them are.

Owns discovery: every module ``*_plugin`` of the package ``megabroker.plugins`` is imported and every module
attribute that provides ``IProtocolPlugin`` is a plugin. The modules are tiny and import nothing of the
protocol itself; ``twisted.plugin.getPlugins`` is not used, because its pickled cache must be writable or goes
stale, and because it cannot say by name which plugin is broken.

Owns the version of the interface, too. It is one number. Whatever is added for plugins, or changed in a way
that they can notice, makes it one higher; a descriptor says which one its plugin was written for, and is used
as long as that is not below ``OLDEST_INTERFACE_VERSION``. ``docs/plugins.md`` states what holds for how long.

Invariant: a broken plugin is reported by its module's name and skipped; it never stops the broker unless
the configuration asks for it.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Final

from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger
from twisted.python.reflect import namedAny
from zope.interface import implementer

from megabroker import __version__
from megabroker.interfaces import IBroker, IProtocolPlugin
from megabroker.model import Listener

__all__ = [
    "INTERFACE_VERSION",
    "OLDEST_INTERFACE_VERSION",
    "PUBLIC_MODULES",
    "ProtocolPlugin",
    "discover",
    "misfit",
]

INTERFACE_VERSION: Final[int] = 2
"""The interface there is."""

OLDEST_INTERFACE_VERSION: Final[int] = 1
"""The oldest one for which plugins are still used."""

PUBLIC_MODULES: Final = (
    "megabroker.access",
    "megabroker.codec.batch",
    "megabroker.codec.framing",
    "megabroker.codec.murmur",
    "megabroker.config.fields",
    "megabroker.config.protocol",
    "megabroker.errors",
    "megabroker.interfaces",
    "megabroker.model",
    "megabroker.net.connection",
    "megabroker.net.factory",
    "megabroker.net.output",
    "megabroker.net.wire",
    "megabroker.plugin",
    "megabroker.plugins",
    "megabroker.protocols.gate",
    "megabroker.protocols.reading",
    "megabroker.testing",
)
"""What plugins may import: the version is about the names in ``__all__`` of each, and about nothing else."""

_log = Logger()


@implementer(IProtocolPlugin)
class ProtocolPlugin:
    """A protocol described by names, imported only when a configuration uses it.

    Args:
        name: the key under ``protocols:``.
        default_endpoint: Twisted endpoint string of its listener when the configuration names none.
        settings: dotted name of the attrs class of its settings.
        factory: dotted name of a callable taking (broker, settings, listener) and returning a factory.
        version: the version of the interface that it was written for.
        own_ports: whether its clients choose the node they talk to, so that of several workers each listens
            on ports of its own; else all of them take the connections of one port.
        needs_tls: whether it uses Twisted's TLS even if its endpoints do not; a broker none of whose
            protocols does goes without, which saves 13 MiB.

    Attributes:
        factory_name: the dotted name given as ``factory``.
    """

    def __init__(
        self,
        name: str,
        default_endpoint: str,
        settings: str,
        factory: str,
        version: int,
        needs_tls: bool = True,
        own_ports: bool = False,
    ) -> None:
        self.name = name
        self.version = version
        self.needs_tls = needs_tls
        self.own_ports = own_ports
        self.default_endpoint = default_endpoint
        self._settings = settings
        self.factory_name = factory

    def settings_class(self) -> type[Any]:
        """Import and return the settings class."""
        found: type[Any] = namedAny(self._settings)  # type: ignore[no-untyped-call]
        return found

    def factory(self, broker: IBroker, settings: Any, listener: Listener) -> IProtocolFactory:
        """Import the factory's callable and call it."""
        made: IProtocolFactory = namedAny(self.factory_name)(broker, settings, listener)  # type: ignore[no-untyped-call]
        return made


def discover() -> dict[str, IProtocolPlugin]:
    """Return every usable plugin by name; the others are logged by module name.

    Our own modules come first, so that nobody takes the name of a built-in protocol.
    """
    package = importlib.import_module("megabroker.plugins")
    found: dict[str, IProtocolPlugin] = {}
    for name in _module_names(package):
        try:
            for plugin in _plugins_of(importlib.import_module(name)):
                _add(plugin, name, found)
        except (Exception, SystemExit):  # noqa: BLE001 - anything can be wrong with somebody else's module
            _log.failure("plugin {module} cannot be used and is skipped", module=name)
    return found


def _module_names(package: ModuleType) -> list[str]:
    """Return the full names of the plugin modules, by directory in order of the path, then by name."""
    directories: dict[str, str] = {}
    for directory in dict.fromkeys(os.path.realpath(path) for path in package.__path__):
        for info in sorted(pkgutil.iter_modules([directory]), key=lambda info: info.name):
            name = f"{package.__name__}.{info.name}"
            if not info.name.endswith("_plugin"):
                continue
            if name in directories:
                _log.error(
                    "plugin {module} of {directory} is hidden by the one of {first}; skipped",
                    module=name,
                    directory=directory,
                    first=directories[name],
                )
            directories.setdefault(name, directory)
    return list(directories)


def _plugins_of(module: ModuleType) -> Iterable[Any]:
    """Return the plugins among a module's attributes, each once."""
    found = [value for value in vars(module).values() if IProtocolPlugin.providedBy(value)]
    return {id(value): value for value in found}.values()


def misfit(version: object) -> str | None:
    """Say why a plugin written for this version of the interface cannot be used; None if it can."""
    if isinstance(version, int) and OLDEST_INTERFACE_VERSION <= version <= INTERFACE_VERSION:
        return None
    served = f"{OLDEST_INTERFACE_VERSION} to {INTERFACE_VERSION}"
    if OLDEST_INTERFACE_VERSION == INTERFACE_VERSION:
        served = f"{INTERFACE_VERSION}"
    is_newer = isinstance(version, int) and version > INTERFACE_VERSION
    return (
        f"is written for version {version!r} of the interface for plugins, megabroker {__version__} has "
        f"{served}: expected a newer " + ("megabroker" if is_newer else "version of the plugin")
    )


def _add(plugin: Any, module: str, found: dict[str, IProtocolPlugin]) -> None:
    reason = misfit(plugin.version)
    if reason is not None:
        _log.error(
            "plugin {name} of {module} {reason}; skipped", name=plugin.name, module=module, reason=reason
        )
    elif plugin.name in found:
        _log.error(
            "plugin {name} of {module} has a name that is taken; skipped", name=plugin.name, module=module
        )
    else:
        found[plugin.name] = plugin
