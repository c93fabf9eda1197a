"""Reading a Twisted server endpoint string without a reactor.

Owns the check of such a string and what it says about the port. Never binds anything. ``tcp`` and ``unix``
are checked here, key by key; every other type is parsed by Twisted, plugins included, and thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

__all__ = ["EndpointDescription", "parse_endpoint"]

_TCP_KEYS = frozenset({"port", "interface", "backlog"})
_UNIX_KEYS = frozenset({"address", "mode", "backlog", "lockfile"})
_WITH_PORT = frozenset({"tcp", "ssl"})


@attrs.frozen
class EndpointDescription:
    """A parsed endpoint string.

    Attributes:
        type: ``tcp``, ``unix``, ``ssl``, or what a Twisted plugin provides.
        arguments: the positional ones, the type left out.
        options: the ``key=value`` ones.
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
        return self.options.get("interface", self.arguments[1] if len(self.arguments) > 1 else "")

    @property
    def address(self) -> str | None:
        """The file of a ``unix`` endpoint, else None."""
        if self.type != "unix":
            return None
        return self.options.get("address") or self.arguments[0]


def parse_endpoint(text: str) -> EndpointDescription:
    """Check and take apart a server endpoint string.

    Args:
        text: for example ``tcp:9092:interface=127.0.0.1``; a backslash quotes ``:`` and ``=``.

    Raises:
        ValueError: it names no endpoint that could be listened on; the message says why.
    """
    words, options = _split(text)
    description = EndpointDescription(words[0], tuple(words[1:]), options)
    if description.type == "tcp":
        _check_tcp(description)
    elif description.type == "unix":
        _check_unix(description)
    else:
        _check_by_twisted(text)
    return description


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


def _check_keys(description: EndpointDescription, known: frozenset[str], positional: int) -> None:
    for key in description.options:
        if key not in known:
            raise ValueError(f"{description.type} has no option {key!r}")
    if len(description.arguments) > positional:
        raise ValueError(f"too many parts; in an IPv6 address write each colon as {chr(92)}:")


def _check_tcp(description: EndpointDescription) -> None:
    _check_keys(description, _TCP_KEYS, 3)
    port = description.options.get("port") or (description.arguments[0] if description.arguments else "")
    _integer(port, "the port", 65535)
    backlog = description.options.get("backlog", "50")
    _integer(backlog, "backlog", 1 << 20)


def _check_unix(description: EndpointDescription) -> None:
    _check_keys(description, _UNIX_KEYS, 1)
    if not (description.options.get("address") or (description.arguments and description.arguments[0])):
        raise ValueError("a unix endpoint names a file")
    mode = description.options.get("mode", "666")
    if not mode or any(digit not in "01234567" for digit in mode) or len(mode) > 5:
        raise ValueError("mode is octal digits, such as 660")


def _check_by_twisted(text: str) -> None:
    """Have Twisted build the endpoint. Parsers of plugins, and of TLS, raise whatever they like."""
    from twisted.internet.endpoints import serverFromString

    try:
        serverFromString(object(), text)  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001
        raise ValueError(str(error) or type(error).__name__) from None
