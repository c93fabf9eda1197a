"""From a YAML file to a ``Config``, or to the full list of what is wrong with it.

Owns the reading of the file and what concerns several protocols together. Imports no plugin: descriptions of
them are handed in, and only those that the file names are asked for their settings class.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import attrs

from megabroker.config.endpoint import EndpointDescription, parse_endpoint
from megabroker.config.given import with_given
from megabroker.config.kinds import INVALID, note
from megabroker.config.protocol import ListenerSettings, ProtocolSettings
from megabroker.config.schema import Config
from megabroker.config.structure import Reader, did_you_mean, structure
from megabroker.config.workers import http_faults, listener_faults, own_ports, worker_config
from megabroker.config.yaml_text import read_yaml
from megabroker.errors import ConfigError, Fault

__all__ = ["MAX_FILE_BYTES", "PluginDescription", "load", "parse"]

MAX_FILE_BYTES: Final = 4 << 20
_ANY_ADDRESS = frozenset({"", "0.0.0.0", "::"})


class PluginDescription(Protocol):
    """What is needed of an ``IProtocolPlugin`` here."""

    @property
    def default_endpoint(self) -> str:
        """The endpoint served when the file names none."""

    def settings_class(self) -> type[Any]:
        """Return a subclass of ``ProtocolSettings``."""


def load(
    path: str | os.PathLike[str], plugins: Mapping[str, PluginDescription], given: Sequence[str] = ()
) -> Config:
    """Read and check a configuration file. Blocking.

    Args:
        path: the file, UTF-8, at most ``MAX_FILE_BYTES`` long.
        plugins: by name, the protocols there are.
        given: keys in place of the file's, as ``KEY=VALUE``.

    Raises:
        ConfigError: with every fault found.
    """
    source = os.fspath(path)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ConfigError([Fault("(file)", source, f"a file of at most {MAX_FILE_BYTES} bytes")], source)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError([Fault("(file)", source, f"a readable file ({error.strerror})")], source) from None
    except UnicodeDecodeError as error:
        raise ConfigError([Fault("(file)", source, f"UTF-8 text ({error})")], source) from None
    return parse(text, source, plugins, given)


def parse(
    text: str, source: str, plugins: Mapping[str, PluginDescription], given: Sequence[str] = ()
) -> Config:
    """Check a configuration given as YAML text; ``source`` names it in the error.

    Raises:
        ConfigError: with every fault found.
    """
    faults: list[Fault] = []
    document = read_yaml(text, faults)
    if not faults:
        document = with_given(document, given, faults)
    config: Any = INVALID
    if document is not None or not faults:
        config = structure(Config, document, "", faults, {"protocols": _protocols_reader(plugins)})
    if isinstance(config, Config):
        own = own_ports(plugins)
        if config.workers > 1:
            faults += listener_faults(config.protocols, config.workers, own, "protocols")
            faults += http_faults(config.http, config.workers)
        if not faults:
            _note_conflicts([worker_config(config, i, own) for i in range(config.workers)], own, faults)
    if faults or not isinstance(config, Config):
        raise ConfigError(faults, source)
    return config


def _protocols_reader(plugins: Mapping[str, PluginDescription]) -> Reader:
    """Return what reads ``protocols:`` by the settings classes of the plugins."""

    def read(value: object, path: str, faults: list[Fault]) -> Any:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            note(faults, path, value, "a mapping from protocol names to their settings")
            return INVALID
        result: dict[str, ProtocolSettings] = {}
        for name, entry in value.items():
            plugin = plugins.get(name) if isinstance(name, str) else None
            if plugin is None:
                known = ", ".join(sorted(plugins)) or "none is installed"
                expected = f"a protocol that is installed ({known})" + did_you_mean(name, plugins)
                note(faults, f"{path}.{name}", entry, expected)
                continue
            settings = _read_protocol(plugin, entry, f"{path}.{name}", faults)
            if settings is not None:
                result[name] = settings
        return result

    return read


def _read_protocol(
    plugin: PluginDescription, value: object, path: str, faults: list[Fault]
) -> ProtocolSettings | None:
    try:
        cls = plugin.settings_class()
    except Exception as error:  # noqa: BLE001 - a plugin's import raises whatever it likes
        note(faults, path, value, f"a plugin that can be imported ({type(error).__name__}: {error})")
        return None
    settings = structure(cls, value, path, faults)
    if settings is INVALID:
        return None
    if not isinstance(settings, ProtocolSettings):
        note(faults, path, cls.__name__, "a plugin whose settings inherit ProtocolSettings")
        return None
    if not settings.listeners:
        listener = ListenerSettings(endpoint=plugin.default_endpoint)
        settings = attrs.evolve(settings, listeners=(listener,))
    return settings


def _note_conflicts(workers: Sequence[Config], own: frozenset[str], faults: list[Fault]) -> None:
    """Note listeners of enabled protocols that would bind the same port or the same file.

    Args:
        workers: the configuration as each process has it.
        own: protocols that listen on ports of their own in each; the others' are shared.
    """
    taken: list[tuple[EndpointDescription, str]] = []
    for number, config in enumerate(workers):
        for where, endpoint in _endpoints(config, config.protocols if number == 0 else own):
            found = parse_endpoint(endpoint)
            for other, owner in taken:
                if _collide(found, other):
                    what = "file" if found.address else "port"
                    of_worker = f" (worker {number + 1} of {len(workers)})" if number else ""
                    note(faults, where, endpoint, f"a {what} that {owner} does not take{of_worker}")
                    break
            taken.append((found, where))


def _endpoints(config: Config, protocols: Container[str]) -> Iterator[tuple[str, str]]:
    """Yield what a process binds of its own, with the path of the key that says so."""
    for name, settings in config.protocols.items():
        for index, listener in enumerate(settings.listeners if settings.enabled else ()):
            if name in protocols:
                yield f"protocols.{name}.listeners[{index}].endpoint", listener.endpoint
    if config.http.enabled:
        yield "http.endpoint", config.http.endpoint


def _collide(one: EndpointDescription, other: EndpointDescription) -> bool:
    if one.address is not None:
        return one.address == other.address
    if not one.port or one.port != other.port:
        return False
    if one.interface == other.interface:
        return True
    return bool({one.interface, other.interface} & _ANY_ADDRESS) and (":" in one.interface) == (
        ":" in other.interface
    )
