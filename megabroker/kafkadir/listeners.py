"""The listeners of a Kafka broker as listeners of ours.

Owns ``listeners``, ``advertised.listeners``, ``listener.security.protocol.map`` and
``controller.listener.names``. The controller's are not served. PLAINTEXT is served as it is, SSL with keys
in a PEM file; a listener that authenticates by SASL or whose keys cannot be read is a fault, because
serving it otherwise would let anybody in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from megabroker.errors import Fault

__all__ = ["read_listeners"]

_LISTENER: Final = re.compile(r"([A-Za-z0-9_.-]+)://(\[[0-9A-Fa-f:.%]*\]|[^:\[\]/]*):([0-9]{1,5})")
_DEFAULT: Final = "PLAINTEXT://:9092"
_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")


class _Address(NamedTuple):
    name: str
    host: str
    port: int


def read_listeners(properties: Mapping[str, str], faults: list[Fault]) -> list[dict[str, Any]]:
    """Return our listeners; what is wrong is added to ``faults`` by the property's name."""
    security = _security(properties, faults)
    controllers = set(_items(properties.get("controller.listener.names", "")))
    advertised = {one.name: one for one in _addresses(properties, "advertised.listeners", "", faults)}
    found = []
    for one in _addresses(properties, "listeners", _DEFAULT, faults):
        if one.name in controllers:
            continue
        protocol = security.get(one.name.upper(), one.name.upper())
        endpoint = _endpoint(one, protocol, properties, faults)
        if endpoint is None:
            continue
        told = advertised.get(one.name, one)
        listener: dict[str, Any] = {"name": one.name, "endpoint": endpoint}
        if told.host and told.host not in ("0.0.0.0", "::"):
            listener["advertised_host"] = told.host
        if told.port:
            listener["advertised_port"] = told.port
        found.append(listener)
    if not found and not faults:
        expected = "a listener that is not the controller's"
        faults.append(Fault("listeners", properties.get("listeners"), expected))
    return found


def _quoted(text: str) -> str:
    """Return a value as it stands in an endpoint string."""
    return re.sub(r"([\\:=])", r"\\\1", text)


def _items(text: str) -> list[str]:
    return [item for one in text.split(",") if (item := one.strip())]


def _addresses(properties: Mapping[str, str], name: str, default: str, faults: list[Fault]) -> list[_Address]:
    found = []
    for item in _items(properties.get(name) or default):
        match = _LISTENER.fullmatch(item)
        if match is None or int(match[3]) > 65535:
            faults.append(Fault(name, item, "NAME://HOST:PORT, separated by commas"))
            continue
        found.append(_Address(match[1], match[2].strip("[]"), int(match[3])))
    return found


def _security(properties: Mapping[str, str], faults: list[Fault]) -> dict[str, str]:
    name = "listener.security.protocol.map"
    found = {}
    for item in _items(properties.get(name, "")):
        listener, _, protocol = item.partition(":")
        if protocol.upper() not in _PROTOCOLS:
            faults.append(Fault(name, item, f"LISTENER:PROTOCOL with one of {', '.join(_PROTOCOLS)}"))
        found[listener.strip().upper()] = protocol.strip().upper()
    return found


def _endpoint(one: _Address, protocol: str, properties: Mapping[str, str], faults: list[Fault]) -> str | None:
    """Return the endpoint string of a listener, or note why it cannot be served."""
    where = f":interface={_quoted(one.host)}" if one.host else ""
    if protocol == "PLAINTEXT":
        return f"tcp:{one.port}{where}"
    text = f"{one.name}://{one.host}:{one.port}"
    if protocol != "SSL":
        expected = f"a listener of PLAINTEXT or SSL, not {protocol}: nobody is authenticated here"
        faults.append(Fault("listeners", text, expected))
        return None
    prefix = f"listener.name.{one.name.lower()}."

    def setting(name: str) -> str:
        return properties.get(prefix + name) or properties.get(name) or ""

    if setting("ssl.client.auth") == "required":
        expected = "none: certificates of clients are not checked here"
        faults.append(Fault("ssl.client.auth", "required", expected))
        return None
    place = setting("ssl.keystore.location")
    if setting("ssl.keystore.type").upper() != "PEM" or not place or setting("ssl.key.password"):
        expected = "a PEM file with key and certificates, the key not encrypted, and ssl.keystore.type=PEM"
        faults.append(Fault("ssl.keystore.location", place, f"for {text} {expected}"))
        return None
    file = _quoted(place)
    return f"ssl:{one.port}:privateKey={file}:certKey={file}{where}"
