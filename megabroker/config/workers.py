"""The configuration of each of several workers, made of the one file that configures all.

Owns what differs between them: each is a node of its own, and where clients must be able to choose whom they
talk to, each has a port of its own; what listens elsewhere is shared by all. Must never touch a socket.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from megabroker.config.endpoint import parse_endpoint
from megabroker.config.http import HttpSettings
from megabroker.config.protocol import ListenerSettings, ProtocolSettings
from megabroker.config.schema import Config
from megabroker.errors import Fault

__all__ = ["http_faults", "listener_faults", "own_ports", "shifted", "worker_config"]

_SHAREABLE: Final = ("tcp", "ssl")
_LAST_PORT: Final = 65535
_QUOTED: Final = str.maketrans({character: f"\\{character}" for character in "\\:="})


def own_ports(plugins: Mapping[str, Any]) -> frozenset[str]:
    """Return the protocols whose clients choose the node, so that each worker needs ports of its own."""
    return frozenset(name for name, plugin in plugins.items() if getattr(plugin, "own_ports", False))


def shifted(endpoint: str, by: int) -> str:
    """Return an endpoint string with another port; any free port stays one."""
    found = parse_endpoint(endpoint)
    if not found.port or not by:
        return endpoint
    arguments, options = list(found.arguments), dict(found.options)
    if "port" in options:
        options["port"] = str(found.port + by)
    else:
        arguments[0] = str(found.port + by)
    parts = [found.type, *(one.translate(_QUOTED) for one in arguments)]
    parts += [f"{key}={value.translate(_QUOTED)}" for key, value in options.items()]
    return ":".join(parts)


def _shifted_listener(listener: ListenerSettings, by: int) -> ListenerSettings:
    """Return a listener on a later port, that being what clients are told as well."""
    told = listener.advertised_port
    return attrs.evolve(
        listener,
        endpoint=shifted(listener.endpoint, by),
        advertised_port=None if told is None else told + by,
    )


def worker_config(config: Config, index: int, own: frozenset[str]) -> Config:
    """Return what a worker goes by.

    Args:
        index: which one, from 0.
        own: protocols that have ports of their own in each worker.
    """
    protocols = dict(config.protocols)
    for name in own & protocols.keys():
        settings = protocols[name]
        moved = tuple(_shifted_listener(listener, index) for listener in settings.listeners)
        protocols[name] = attrs.evolve(settings, listeners=moved)
    return attrs.evolve(
        config,
        node=attrs.evolve(config.node, id=config.node.id + index),
        http=attrs.evolve(config.http, endpoint=shifted(config.http.endpoint, index)),
        protocols=protocols,
    )


def http_faults(settings: HttpSettings, workers: int) -> Iterable[Fault]:
    """Yield why so many workers cannot each have a port for HTTP."""
    if settings.enabled:
        found, last = parse_endpoint(settings.endpoint), _LAST_PORT - workers + 1
        if found.type not in _SHAREABLE:
            expected = f"an endpoint of type tcp, as workers is {workers}"
            yield Fault("http.endpoint", settings.endpoint, expected)
        elif (found.port or 0) > last:
            expected = f"a port up to {last}: each of {workers} workers takes the next one"
            yield Fault("http.endpoint", settings.endpoint, expected)


def listener_faults(
    protocols: Mapping[str, ProtocolSettings], workers: int, own: frozenset[str], path: str
) -> Iterable[Fault]:
    """Yield the listeners of enabled protocols that so many workers cannot have."""
    for name, settings in protocols.items():
        for index, listener in enumerate(settings.listeners if settings.enabled else ()):
            where = f"{path}.{name}.listeners[{index}]"
            found = parse_endpoint(listener.endpoint)
            if found.type not in _SHAREABLE:
                expected = f"an endpoint of type {' or '.join(_SHAREABLE)}, as workers is {workers}"
                yield Fault(f"{where}.endpoint", listener.endpoint, expected)
            elif name in own:
                last = _LAST_PORT - workers + 1
                expected = f"a port up to {last}: each of {workers} workers takes the next one"
                if (found.port or 0) > last:
                    yield Fault(f"{where}.endpoint", listener.endpoint, expected)
                if (listener.advertised_port or 0) > last:
                    yield Fault(f"{where}.advertised_port", listener.advertised_port, expected)
