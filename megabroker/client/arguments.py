"""Arguments of clients, checked before anything is sent: what was given, and what was expected."""

from __future__ import annotations

__all__ = ["checked_i32", "checked_payload", "checked_seconds", "checked_topic"]

_LONGEST_SECONDS = 86400.0 * 365
_I32_MIN, _I32_MAX = -(2**31), 2**31 - 1


def checked_topic(topic: object) -> str:
    """Return a name. Raises TypeError: it is no str."""
    if not isinstance(topic, str):
        raise TypeError(f"topic_name: expected a str, not {_shown(topic)}")
    return topic


def checked_payload(payload: object) -> bytes:
    """Return a payload as bytes. Raises TypeError: it is neither text nor bytes."""
    if isinstance(payload, str):
        return payload.encode()
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise TypeError(f"payload: expected a str or bytes, not {_shown(payload)}")
    return bytes(payload)


def checked_i32(name: str, value: object) -> int:
    """Return a number. Raises TypeError, ValueError: it has no place in 32 bits."""
    if not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, not {_shown(value)}")
    if not _I32_MIN <= value <= _I32_MAX:
        raise ValueError(f"{name}: expected a number of 32 bits, not {value}")
    return value


def checked_seconds(name: str, value: object) -> float:
    """Return a time-out. Raises TypeError, ValueError: it is no number above 0."""
    if not isinstance(value, int | float):
        raise TypeError(f"{name}: expected seconds, not {_shown(value)}")
    if not 0 < value <= _LONGEST_SECONDS:
        raise ValueError(f"{name}: expected more than 0 and at most {_LONGEST_SECONDS} seconds, not {value}")
    return float(value)


def _shown(value: object) -> str:
    """Return a value for an error: its type and what it is."""
    return f"{type(value).__name__} {value!r:.60}"
