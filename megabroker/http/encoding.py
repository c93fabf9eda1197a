"""Bytes of messages as JSON has them, and back: text, JSON, or base64.

Owns what is shown of bytes that are not what was hoped for: what is not JSON is text, what is no UTF-8 is
base64, and each answer says which it is.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final, NoReturn

from megabroker.http.schema import Text, ValueFault

__all__ = ["READABLE", "SHOWN", "WRITABLE", "decoded", "encoded"]

TEXT, JSON, BASE64, OMITTED = "text", "json", "base64", "omitted"

WRITABLE: Final = Text(choices=(TEXT, JSON, BASE64))
"""How a message that is produced may be written."""

READABLE: Final = Text(choices=("auto", TEXT, JSON, BASE64))
"""How messages may be asked for."""

SHOWN: Final = Text(choices=(TEXT, JSON, BASE64, OMITTED))
"""How one is shown."""

_DEEPEST: Final = 100


def decoded(value: Any, encoding: str, path: str, faults: list[ValueFault]) -> bytes | None:
    """Return the bytes that a client has written; None for null, or what a fault is noted of."""
    if value is None:
        return None
    if encoding == JSON:
        try:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        except UnicodeEncodeError:
            fault = ValueFault(path, "half of a surrogate pair", "Unicode text")
        except ValueError:
            fault = ValueFault(path, "a number too large for JSON, or none", "numbers as JSON has them")
        except RecursionError:
            # What could just be read can be too deep to be written.
            fault = ValueFault(path, "nested too deeply", "JSON that is nested less")
        faults.append(fault)
        return None
    if not isinstance(value, str):
        found = f"a {type(value).__name__}"
        faults.append(ValueFault(path, found, f"text, or the encoding json instead of {encoding}"))
        return None
    try:
        return base64.b64decode(value, validate=True) if encoding == BASE64 else value.encode()
    except (binascii.Error, UnicodeEncodeError, ValueError):
        faults.append(ValueFault(path, repr(value[:100]), "base64" if encoding == BASE64 else "Unicode text"))
        return None


def encoded(data: bytes | None, wanted: str) -> tuple[Any, str]:
    """Return bytes as JSON has them, and how that is called."""
    if data is None:
        return None, TEXT
    if wanted != BASE64:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            pass
        else:
            if wanted == JSON:
                try:
                    return _shallow(json.loads(text, parse_constant=_refuse)), JSON
                except (ValueError, RecursionError):
                    pass
            return text, TEXT
    return base64.b64encode(data).decode(), BASE64


def _shallow(value: Any) -> Any:
    """Return JSON that can be written again. Raises ValueError."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
            return value
    raise ValueError("nested too deeply")


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")
