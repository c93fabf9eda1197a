"""Records as text: how consumed ones are printed, and how those to be produced are read.

Pure. A record printed as JSON and read again is the same record: text where keys and values are UTF-8, and
base64, under another name, where they are not.

    {"topic":"a","partition":0,"offset":7,"timestamp":1795265170250,"key":"k","value":"v","headers":[["n","v"]]}
    {"topic":"a","partition":0,"offset":8,"timestamp":1795265170250,"key":null,"value_base64":"gA==","headers":[]}

A format is kcat's: %t topic, %p partition, %o offset, %T timestamp in ms, %k key, %K its length, %s value,
%S its length, %h headers, %% a percent sign; \\n \\t \\r \\\\ \\0 \\xNN as in C.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from megabroker.cli.output import printable
from megabroker.model import Header, Record

__all__ = ["Form", "Input", "as_json", "compiled", "form_named", "json_input", "pretty", "unbase64"]

Form = Callable[[str, int, Record], bytes]
"""Makes of (topic, partition, record) what is printed, line end included."""

Input = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]], int | None, int | None]
"""A record to be produced: key, value, headers, partition and timestamp in ms, None where it is not said."""

_TOKEN: Final = re.compile(r"%(.)|\\(x[0-9a-fA-F]{2}|.)|([^%\\]+)|(.)", re.DOTALL)
_ESCAPES: Final = {"n": b"\n", "t": b"\t", "r": b"\r", "\\": b"\\", "0": b"\0"}
_FIELDS: Final = frozenset(
    {"topic", "partition", "offset", "timestamp", "key", "key_base64", "value", "value_base64", "headers"}
)
_PAIRS: Final = 'headers: expected pairs such as [["name", "value"]]'
_Part = Callable[[str, int, Record], bytes]


def _length(data: bytes | None) -> bytes:
    return b"-1" if data is None else str(len(data)).encode()


def _headers(headers: Sequence[Header]) -> bytes:
    return b",".join(one.key.encode() + b"=" + (one.value or b"") for one in headers)


_PARTS: Final[Mapping[str, _Part]] = {
    "t": lambda topic, partition, one: topic.encode(),
    "p": lambda topic, partition, one: str(partition).encode(),
    "o": lambda topic, partition, one: str(one.offset).encode(),
    "T": lambda topic, partition, one: str(one.timestamp_ms).encode(),
    "k": lambda topic, partition, one: one.key or b"",
    "K": lambda topic, partition, one: _length(one.key),
    "s": lambda topic, partition, one: one.value or b"",
    "S": lambda topic, partition, one: _length(one.value),
    "h": lambda topic, partition, one: _headers(one.headers),
    "%": lambda topic, partition, one: b"%",
}


def form_named(text: str) -> Form:
    """Return the form of a name, ``value``, ``json`` or ``pretty``, or of a format. Raises ValueError."""
    named: dict[str, Form] = {
        "value": lambda topic, partition, one: (one.value or b"") + b"\n",
        "json": as_json,
        "pretty": pretty,
    }
    if text in named:
        return named[text]
    if "%" not in text:
        raise ValueError(f"expected {', '.join(named)}, or a format such as '%o %k %s\\n'")
    return compiled(text)


def compiled(text: str) -> Form:
    """Return what a format means. Raises ValueError, which says what in it means nothing."""
    parts: list[_Part] = []
    for token in _TOKEN.finditer(text):
        letter, escape, plain, stray = token.groups()
        if letter is not None:
            if letter not in _PARTS:
                raise ValueError(f"%{letter} means nothing: expected one of %{' %'.join(_PARTS)}")
            parts.append(_PARTS[letter])
            continue
        if stray is not None:
            raise ValueError(f"nothing follows the last {stray}: expected {stray}{stray}")
        parts.append(_constant(plain.encode() if plain is not None else _unescaped(escape)))
    return lambda topic, partition, one: b"".join([part(topic, partition, one) for part in parts])


def _constant(data: bytes) -> _Part:
    return lambda topic, partition, one: data


def _unescaped(escape: str) -> bytes:
    if escape[0] == "x" and len(escape) == 3:
        return bytes.fromhex(escape[1:])
    if escape not in _ESCAPES:
        known = " ".join(f"\\{letter}" for letter in _ESCAPES)
        raise ValueError(f"\\{escape} means nothing: expected one of {known} \\xNN")
    return _ESCAPES[escape]


# --- JSON -----------------------------------------------------------------------------------------


def as_json(topic: str, partition: int, one: Record) -> bytes:
    """Return a record as a line of JSON."""
    row: dict[str, Any] = {
        "topic": topic,
        "partition": partition,
        "offset": one.offset,
        "timestamp": one.timestamp_ms,
        **_field("key", one.key),
        **_field("value", one.value),
        "headers": [_header(header) for header in one.headers],
    }
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


def _field(name: str, data: bytes | None) -> dict[str, str | None]:
    if data is None:
        return {name: None}
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def _header(one: Header) -> list[Any]:
    (value,) = _field("", one.value).items()
    return [one.key, value[1] if not value[0] else {"base64": value[1]}]


def json_input(line: bytes) -> Input:
    """Read a record from a line of JSON. Raises ValueError, which says what was expected."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected an object of JSON ({error})") from None
    if not isinstance(row, dict):
        raise ValueError('expected an object such as {"key": "k", "value": "v"}')
    if unknown := sorted(set(row) - _FIELDS):
        raise ValueError(f"{unknown[0]!r} means nothing: expected {', '.join(sorted(_FIELDS))}")
    if "value" not in row and "value_base64" not in row:
        raise ValueError("expected a value, null for a tombstone")
    headers = row.get("headers") or []
    pairs = list(headers.items()) if isinstance(headers, dict) else headers
    if not isinstance(pairs, list):
        raise ValueError(_PAIRS)
    return (
        _bytes_of(row, "key"),
        _bytes_of(row, "value"),
        [_read_header(one) for one in pairs],
        _number(row, "partition", 1 << 31),
        _number(row, "timestamp", 1 << 62),
    )


def _bytes_of(row: Mapping[str, Any], name: str) -> bytes | None:
    if (coded := row.get(f"{name}_base64")) is not None:
        return unbase64(coded, f"{name}_base64")
    value = row.get(name)
    if value is None or isinstance(value, str):
        return None if value is None else value.encode("utf-8", "surrogatepass")
    # What is not text is sent as the JSON it is, so that {"value": {"id": 7}} needs no quoting.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def unbase64(text: object, what: str) -> bytes:
    """Return what a text in base64 stands for. Raises ValueError."""
    try:
        if not isinstance(text, str | bytes):
            raise binascii.Error
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError(f"{what}: expected base64") from None


def _read_header(one: object) -> tuple[str, bytes | None]:
    match one:
        case [str(name), None]:
            return name, None
        case [str(name), str(value)]:
            return name, value.encode()
        case [str(name), {"base64": str(value)}]:
            return name, unbase64(value, f"header {name}")
        case (str(name), str(value)):
            return name, value.encode()
    raise ValueError(_PAIRS)


def _number(row: Mapping[str, Any], name: str, below: int) -> int | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < below:
        raise ValueError(f"{name}: expected a whole number")
    return value


# --- for people -----------------------------------------------------------------------------------


def pretty(topic: str, partition: int, one: Record) -> bytes:
    """Return a record for people: nothing in it can control a terminal."""
    time = datetime.fromtimestamp(max(0, one.timestamp_ms) / 1000).isoformat(sep=" ", timespec="milliseconds")
    lines = [f"{topic}/{partition} offset {one.offset}  {time}"]
    if one.key is not None:
        lines.append(f"  key     {_shown(one.key)}")
    lines += [f"  header  {printable(it.key)}={_shown(it.value)}" for it in one.headers]
    lines += [f"  {line}" for line in _value_lines(one.value)]
    return "\n".join(lines).encode("utf-8", "replace") + b"\n"


def _value_lines(value: bytes | None) -> Iterator[str]:
    text = _shown(value)
    if value and value[:1] in b"{[":
        try:
            text = json.dumps(json.loads(value), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            pass
    first, *more = text.split("\n")
    yield f"value   {printable(first)}"
    yield from (f"        {printable(line)}" for line in more)


def _shown(data: bytes | None) -> str:
    if data is None:
        return "(null)"
    try:
        return "".join(char if char == "\n" else printable(char) for char in data.decode())
    except UnicodeDecodeError:
        return "0x" + data[:1024].hex() + ("..." if len(data) > 1024 else "")
