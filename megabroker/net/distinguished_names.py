"""The name in a certificate as Java writes it, which is how Apache Kafka's administrators know it (RFC 2253).

    CN=alice,O=Org\\, Inc.,C=DE         the last part of the name first
    CN=alice+UID=u1,DC=example          parts that belong together
    2.5.4.5=#1303313233,CN=alice        parts without a word: number, and DER in hexadecimal

Pure: DER in, text out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["written"]

_WORDS: Final = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.25": "DC",
    "0.9.2342.19200300.100.1.1": "UID",
}
_TEXTS: Final = frozenset({12, 19, 20, 22, 27, 28, 30})  # tags of DER whose values are characters
_quoted = re.compile(r'[,=+<>#;"\\]')


def written(name: bytes) -> str:
    """Return a name, given its DER. Raises ValueError if it is none."""
    parts = []
    ((_, relatives, _),) = _items(name)
    for together in _items(relatives):
        pairs = []
        for pair in _items(together[1]):
            kind, value = _items(pair[1])
            pairs.append(_pair(_number(kind[1]), *value))
        parts.append("+".join(pairs))
    return ",".join(reversed(parts))


def _pair(kind: str, tag: int, value: bytes, whole: bytes) -> str:
    word = _WORDS.get(kind)
    if word is None or tag not in _TEXTS:
        return f"{word or kind}=#{whole.hex()}"
    text = _quoted.sub(r"\\\g<0>", value.decode(errors="replace")).replace("\0", "\\00")
    body = text.strip(" ")
    if not body:
        return f"{word}=" + "\\ " * len(text)
    front = len(text) - len(text.lstrip(" "))
    back = len(text) - len(text.rstrip(" "))
    return f"{word}=" + "\\ " * front + body + "\\ " * back


def _items(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield (tag, content, the whole of it) of what stands in a row."""
    at = 0
    while at < len(data):
        start = at
        if len(data) - at < 2:
            raise ValueError("cut short")
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(data[at : at + count])
            at += count
        if length > len(data) - at:
            raise ValueError("cut short")
        yield tag, data[at : at + length], data[start : at + length]
        at += length


def _number(data: bytes) -> str:
    """Return an object identifier in digits and dots."""
    numbers: list[int] = []
    value = 0
    for byte in data:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    if not numbers:
        raise ValueError("an object identifier of no number")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))
