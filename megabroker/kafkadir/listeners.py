"""The listeners of a Kafka broker as listeners of ours.

Owns ``listeners``, ``advertised.listeners``, ``listener.security.protocol.map`` and
``controller.listener.names``. The controller's are not served. PLAINTEXT is served as it is, TLS with keys
and certificates in PEM files, SASL by SCRAM, whose users are in the directories; a listener that lets in whom
nothing here can recognise, or whose keys cannot be read, is a fault, because serving it otherwise would let
anybody in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from megabroker.errors import Fault

__all__ = ["read_listeners", "used_by"]

_LISTENER: Final = re.compile(r"([A-Za-z0-9_.-]+)://(\[[0-9A-Fa-f:.%]*\]|[^:\[\]/]*):([0-9]{1,5})")
_DEFAULT: Final = "PLAINTEXT://:9092"
_SCRAM: Final = frozenset({"SCRAM-SHA-256", "SCRAM-SHA-512"})
_USED: Final = {
    "sasl": ("sasl.enabled.mechanisms",),
    "tls": (
        *("ssl.keystore.location", "ssl.keystore.type", "ssl.truststore.location", "ssl.truststore.type"),
        *("ssl.client.auth", "ssl.principal.mapping.rules"),
    ),
}
"""By a listener's key, the properties it comes from."""

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
        secured = _secured(one, protocol, properties, faults)
        if secured is None:
            continue
        told = advertised.get(one.name, one)
        where = f":interface={_quoted(one.host)}" if one.host else ""
        listener: dict[str, Any] = {"name": one.name, "endpoint": f"tcp:{one.port}{where}", **secured}
        if told.host and told.host not in ("0.0.0.0", "::"):
            listener["advertised_host"] = told.host
        if told.port:
            listener["advertised_port"] = told.port
        found.append(listener)
    if not found and not faults:
        expected = "a listener that is not the controller's"
        faults.append(Fault("listeners", properties.get("listeners"), expected))
    return found


def used_by(name: str, listeners: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a property says something of listeners of ours."""
    plain = re.sub(r"listener\.name\.[^.]+\.", "", name)
    return any(plain in names and key in one for key, names in _USED.items() for one in listeners)


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


def _secured(
    one: _Address, protocol: str, properties: Mapping[str, str], faults: list[Fault]
) -> dict[str, Any] | None:
    """Return the keys of a listener that say who may connect, or note why it cannot be served."""
    prefix = f"listener.name.{one.name.lower()}."
    text = f"{one.name}://{one.host}:{one.port}"

    def setting(name: str) -> str:
        return properties.get(prefix + name) or properties.get(name) or ""

    found: dict[str, Any] = {}
    if protocol.startswith("SASL_"):
        wanted = _items(setting("sasl.enabled.mechanisms") or "GSSAPI")
        if not set(wanted) <= _SCRAM:
            expected = f"for {text} some of {', '.join(sorted(_SCRAM))}, whose users are in the directories"
            faults.append(Fault("sasl.enabled.mechanisms", ",".join(wanted), expected))
            return None
        found["sasl"] = wanted
    if protocol.endswith("SSL"):
        tls = _tls(text, setting, faults)
        if tls is None:
            return None
        found["tls"] = tls
    return found


def _tls(text: str, setting: Callable[[str], str], faults: list[Fault]) -> dict[str, Any] | None:
    place = setting("ssl.keystore.location")
    if setting("ssl.keystore.type").upper() != "PEM" or not place or setting("ssl.key.password"):
        expected = "a PEM file with key and certificates, the key not encrypted, and ssl.keystore.type=PEM"
        faults.append(Fault("ssl.keystore.location", place, f"for {text} {expected}"))
        return None
    tls: dict[str, Any] = {"certificate_chain": place, "private_key": place}
    client_auth = setting("ssl.client.auth") or "none"
    if client_auth != "none":
        trusted = setting("ssl.truststore.location")
        if setting("ssl.truststore.type").upper() != "PEM" or not trusted:
            expected = f"for {text} a file of certificates in PEM, and ssl.truststore.type=PEM"
            faults.append(Fault("ssl.truststore.location", trusted, expected))
            return None
        tls |= {"client_auth": client_auth, "client_ca": trusted}
    rules = setting("ssl.principal.mapping.rules")
    return tls | {"principal_rules": rules} if rules else tls
