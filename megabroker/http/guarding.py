"""Whether a request may come from where it comes: protection of a browser's user from other web pages.

Owns two checks. *Host*: a page whose name was made to point at this machine (DNS rebinding) asks for that
name; on a loopback address only names of this machine are answered. *Origin*: what changes something is
refused when a browser says that another page's script sent it. Knows no twisted.web.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

import attrs

from megabroker.errors import ErrorCode
from megabroker.http.problems import Problem

__all__ = ["Guard", "is_loopback"]

_THIS_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


def is_loopback(interface: str) -> bool:
    """Say whether only this machine reaches an address that is bound; a Unix socket has none."""
    try:
        return ipaddress.ip_address(interface).is_loopback
    except ValueError:
        return interface in ("localhost", "local")


@attrs.frozen
class Guard:
    """See the module.

    Attributes:
        hosts: further names that are answered.
        origins: other pages that may change something.
        any_host: whether every name is answered.
    """

    hosts: Collection[str]
    origins: Collection[str]
    any_host: bool

    def check_host(self, host: str | None) -> None:
        """Raise Problem unless this is who was asked for; browsers always say whom they ask for."""
        name = _without_port(host or "localhost")
        if self.any_host or name in _THIS_MACHINE or name in {one.lower() for one in self.hosts}:
            return
        raise Problem(
            421,
            ErrorCode.INVALID_REQUEST,
            f"the header Host is {name[:100]!r}: expected localhost, or a name in http.allowed_hosts",
        )

    def check_origin(self, host: str | None, origin: str | None, site: str | None) -> None:
        """Raise Problem if another web page's script would change something."""
        if self.allows(origin):
            return
        if origin is None:
            if site in (None, "same-origin", "none"):
                return
        elif _host_of(origin) == (host or "").lower() != "":
            return
        raise Problem(
            403,
            ErrorCode.INVALID_REQUEST,
            f"the request is from a page of {(origin or site or '')[:100]!r}: expected one of this broker, "
            "or of an origin in http.allowed_origins",
        )

    def allows(self, origin: str | None) -> bool:
        """Say whether an origin is one of those that the configuration names."""
        return origin is not None and origin in self.origins


def _host_of(origin: str) -> str:
    """Return host and port of an origin; nothing for ``null``, and for what is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _without_port(host: str) -> str:
    name, colon, port = host.strip().lower().rpartition(":")
    return name if colon and port.isdigit() else host.strip().lower()
