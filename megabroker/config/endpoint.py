"""Reading a Twisted server endpoint string without a reactor.

Owns the check of such a string and what it says about the port. Never binds anything. ``tcp``, ``unix`` and
``systemd`` are checked here, key by key; every other type is parsed by Twisted, plugins included, and thrown
away.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

__all__ = ["EndpointDescription", "parse_endpoint"]

_TCP_KEYS = ("port", "interface", "backlog")
_UNIX_KEYS = ("address", "mode", "backlog", "lockfile")
_SYSTEMD_KEYS = ("domain", "index", "name")
_SYSTEMD_DOMAINS = ("INET", "INET6", "UNIX")
_WITH_PORT = frozenset({"tcp", "ssl"})


@attrs.frozen
class EndpointDescription:
    """A parsed endpoint string.

    Attributes:
        type: ``tcp``, ``unix``, ``systemd``, ``ssl``, or what a Twisted plugin provides.
        arguments: the positional ones, the type left out; always empty for ``tcp`` and ``unix``.
        options: the ``key=value`` ones; for ``tcp`` and ``unix`` the positional ones too, by their names.
    """

    type: str
    arguments: tuple[str, ...]
    options: Mapping[str, str]

    @property
    def port(self) -> int | None:
        """The TCP port, 0 for any free one; None when the type has no port of its own."""
        if self.type not in _WITH_PORT:
            return None
        return int(self.options.get("port") or self.arguments[0])

    @property
    def interface(self) -> str:
        """The address bound, empty for all of IPv4; meaningful with a port only."""
        return self.options.get("interface", "")

    @property
    def address(self) -> str | None:
        """The file of a ``unix`` endpoint, else None."""
        return self.options["address"] if self.type == "unix" else None


def parse_endpoint(text: str) -> EndpointDescription:
    """Check and take apart a server endpoint string.

    Args:
        text: for example ``tcp:9092:interface=127.0.0.1``; a backslash quotes ``:`` and ``=``.

    Raises:
        ValueError: it names no endpoint that could be listened on; the message says why.
    """
    words, options = _split(text)
    kind, arguments = words[0], words[1:]
    if kind == "tcp":
        options = _named(kind, arguments, options, _TCP_KEYS)
        _check_tcp(options)
        return EndpointDescription(kind, (), options)
    if kind == "unix":
        options = _named(kind, arguments, options, _UNIX_KEYS)
        _check_unix(options)
        return EndpointDescription(kind, (), options)
    if kind == "systemd":
        options = _named(kind, arguments, options, _SYSTEMD_KEYS)
        _check_systemd(options)
        return EndpointDescription(kind, (), options)
    _check_by_twisted(text)
    return EndpointDescription(kind, tuple(arguments), options)


def _split(text: str) -> tuple[list[str], dict[str, str]]:
    """Split at unquoted colons, and each part at its first unquoted equals sign."""
    words: list[str] = []
    options: dict[str, str] = {}
    key: str | None = None
    current: list[str] = []

    def finish() -> None:
        nonlocal key
        if key is None:
            words.append("".join(current))
        elif key in options:
            raise ValueError(f"{key} is given twice")
        else:
            options[key] = "".join(current)
        key = None
        current.clear()

    characters = iter(text)
    for character in characters:
        if character == "\\":
            current.append(next(characters, "\\"))
        elif character == ":":
            finish()
        elif character == "=" and key is None:
            key = "".join(current)
            current.clear()
        else:
            current.append(character)
    finish()
    if not words or not words[0]:
        raise ValueError("it begins with a type, such as tcp")
    return words, options


def _integer(text: str, what: str, maximum: int) -> None:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= maximum):
        raise ValueError(f"{what} is a number from 0 to {maximum}")


def _named(kind: str, arguments: list[str], options: dict[str, str], keys: tuple[str, ...]) -> dict[str, str]:
    """Give positional arguments their names."""
    if len(arguments) > len(keys):
        raise ValueError("too many parts; in an IPv6 address each colon is quoted by a backslash")
    result = dict(zip(keys, arguments, strict=False))
    for key, value in options.items():
        if key not in keys:
            raise ValueError(f"{kind} has no option {key!r}")
        if key in result:
            raise ValueError(f"{key} is given twice; in an IPv6 address each colon is quoted by a backslash")
        result[key] = value
    return result


def _check_tcp(options: Mapping[str, str]) -> None:
    _integer(options.get("port", ""), "the port", 65535)
    _integer(options.get("backlog", "50"), "backlog", 1 << 20)


def _check_unix(options: Mapping[str, str]) -> None:
    if not options.get("address"):
        raise ValueError("a unix endpoint names a file")
    mode = options.get("mode", "666")
    if not mode or any(digit not in "01234567" for digit in mode) or len(mode) > 5:
        raise ValueError("mode is octal digits, such as 660")
    _integer(options.get("backlog", "50"), "backlog", 1 << 20)


def _check_systemd(options: Mapping[str, str]) -> None:
    """Check what a socket is called; whether it was handed over is known to the process that has it."""
    if options.get("domain") not in _SYSTEMD_DOMAINS:
        raise ValueError(f"domain is one of {', '.join(_SYSTEMD_DOMAINS)}")
    if ("index" in options) == ("name" in options):
        raise ValueError("a systemd endpoint has either index or name, which FileDescriptorName= gives")
    if "index" in options:
        _integer(options["index"], "index", 1000)


def _check_by_twisted(text: str) -> None:
    """Have Twisted build the endpoint. Parsers of plugins, and of TLS, raise whatever they like."""
    from twisted.internet.endpoints import serverFromString

    try:
        serverFromString(object(), text)  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001
        raise ValueError(str(error) or type(error).__name__) from None
