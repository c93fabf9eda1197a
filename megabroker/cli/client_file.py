"""A Kafka client's properties, as kcat -F and the Java tools' --command-config read them, for our commands.

Owns which properties are understood, in librdkafka's spelling and in Java's. Pure but for the reading of the
file. Properties of other things are passed over, so that one file serves all tools.

    bootstrap.servers=broker.example.org:9093
    security.protocol=SASL_SSL
    sasl.mechanism=SCRAM-SHA-512
    sasl.username=alice
    sasl.password=secret
    ssl.ca.location=/etc/ca.pem
"""

from __future__ import annotations

import pathlib
import re
from typing import Final

import attrs
import click

__all__ = ["ClientFile", "read_client_file"]

_PROTOCOLS: Final = {
    "plaintext": (False, False),
    "ssl": (True, False),
    "sasl_plaintext": (False, True),
    "sasl_ssl": (True, True),
}
_JAAS: Final = re.compile(
    r"""\b(username|password)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s;]+))"""
)


@attrs.frozen(kw_only=True)
class ClientFile:
    """What such a file says; None, or false, where it says nothing."""

    brokers: str | None = None
    tls: bool = False
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    mechanism: str | None = None
    ca: pathlib.Path | None = None
    certificate: pathlib.Path | None = None
    key: pathlib.Path | None = None


def read_client_file(path: pathlib.Path) -> ClientFile:
    """Read a file. Raises click.UsageError, which says what would be right."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--client-config: expected a readable file of properties ({error})") from None
    found = _properties(text, path)
    protocol = found.get("security.protocol", "plaintext").lower()
    if protocol not in _PROTOCOLS:
        raise click.UsageError(
            f"{path}: security.protocol is {protocol}: expected one of {', '.join(_PROTOCOLS)}"
        )
    tls, sasl = _PROTOCOLS[protocol]
    if "ssl.truststore.location" in found and found.get("ssl.truststore.type", "JKS").upper() != "PEM":
        raise click.UsageError(
            f"{path}: ssl.truststore.location is a Java key store: expected ssl.ca.location, a file in PEM"
        )
    jaas = {
        one[1]: one[2] or one[3] or one[4] or "" for one in _JAAS.finditer(found.get("sasl.jaas.config", ""))
    }
    mechanism = found.get("sasl.mechanism") or found.get("sasl.mechanisms")
    return ClientFile(
        brokers=found.get("bootstrap.servers") or found.get("metadata.broker.list"),
        tls=tls,
        user=(found.get("sasl.username") or jaas.get("username")) if sasl else None,
        password=(found.get("sasl.password") or jaas.get("password")) if sasl else None,
        mechanism=mechanism.upper() if mechanism and sasl else None,
        ca=_path(found.get("ssl.ca.location") or found.get("ssl.truststore.location")),
        certificate=_path(found.get("ssl.certificate.location") or found.get("ssl.keystore.location")),
        key=_path(found.get("ssl.key.location")),
    )


def _properties(text: str, path: pathlib.Path) -> dict[str, str]:
    """Return the properties of a text; a line may go on after a backslash, as Java's may."""
    found: dict[str, str] = {}
    for number, line in enumerate(re.sub(r"\\\r?\n[ \t]*", "", text).splitlines(), 1):
        line = line.strip()
        if not line or line[0] in "#!":
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise click.UsageError(f"{path}: line {number} is {line[:80]!r}: expected property=value")
        found[key.strip()] = value.strip()
    return found


def _path(text: str | None) -> pathlib.Path | None:
    return pathlib.Path(text) if text else None
