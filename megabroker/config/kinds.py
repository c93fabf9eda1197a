"""Kinds of scalar values: how one YAML scalar becomes one Python value, or a fault.

Owns the accepted spellings (``64MiB``, ``30m``, ``-1`` for unlimited) and the phrase that says what was
expected. Never raises on a bad value: ``read`` notes a fault and returns ``INVALID``, so that all faults of a
file are found in one pass.
"""

from __future__ import annotations

import enum
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from megabroker.config.endpoint import parse_endpoint
from megabroker.errors import Fault

__all__ = [
    "INVALID",
    "MISSING",
    "UNLIMITED",
    "Choice",
    "DurationMs",
    "Endpoint",
    "Flag",
    "Integer",
    "Kind",
    "Number",
    "Optional",
    "Path",
    "SizeBytes",
    "Text",
    "note",
]

UNLIMITED: Final = -1
_LONGEST_SHOWN = 200


class _Invalid(enum.Enum):
    INVALID = "invalid"


INVALID: Final = _Invalid.INVALID


class _Summary:
    """Stands in a fault for a value too large, or too tangled, to be printed."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


MISSING: Final = _Summary("nothing")


def note(faults: list[Fault], path: str, value: object, expected: str) -> None:
    """Add a fault, with a value that is safe to print: aliases can make a small YAML file huge."""
    if isinstance(value, Mapping):
        value = _Summary(f"a mapping of {len(value)}")
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        value = _Summary(f"a list of {len(value)}")
    elif isinstance(value, str | bytes) and len(value) > _LONGEST_SHOWN:
        value = _Summary(f"{value[:_LONGEST_SHOWN]!r}...")
    faults.append(Fault(path, value, expected))


class Kind:
    """What a key may hold."""

    __slots__ = ()

    @property
    def expected(self) -> str:
        """A phrase that completes "expected ..."."""
        raise NotImplementedError

    @property
    def range(self) -> str:
        """The values allowed, in the fewest words; empty when that is not a range or a few words."""
        return ""

    def read(self, value: object, path: str, faults: list[Fault]) -> Any:
        """Return the Python value, or note a fault and return ``INVALID``.

        Args:
            value: what YAML gave.
            path: the dotted path, for the fault.
            faults: where faults are added.
        """
        try:
            return self.convert(value)
        except ValueError as error:
            note(faults, path, value, str(error) or self.expected)
            return INVALID

    def convert(self, value: Any) -> Any:
        """Return the Python value.

        Raises:
            ValueError: it does not fit; an empty message means ``expected``.
        """
        raise NotImplementedError

    def show(self, value: Any) -> str:
        """Return a value as it would be written in YAML."""
        return "null" if value is None else str(value)


def _bounds(what: str, minimum: object, maximum: object) -> str:
    if minimum is not None and maximum is not None:
        return f"{what} from {minimum} to {maximum}"
    if minimum is not None:
        return f"{what}, {minimum} or more"
    if maximum is not None:
        return f"{what}, {maximum} or less"
    return what


def _range(minimum: object, maximum: object, unlimited: bool) -> str:
    suffix = ", -1 is unlimited" if unlimited else ""
    if minimum is None and maximum is None:
        return suffix[2:]
    return f"{'' if minimum is None else f'{minimum} '}to {'any' if maximum is None else maximum}{suffix}"


def _check_bounds(value: float, minimum: float | None, maximum: float | None) -> None:
    if (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
        raise ValueError


@attrs.frozen(eq=False, repr=False)
class Integer(Kind):
    """A whole number within bounds; ``unlimited`` admits -1 besides."""

    minimum: int | None = None
    maximum: int | None = None
    unlimited: bool = False

    @property
    def expected(self) -> str:
        suffix = ", or -1 for unlimited" if self.unlimited else ""
        return _bounds("an integer", self.minimum, self.maximum) + suffix

    @property
    def range(self) -> str:
        return _range(self.minimum, self.maximum, self.unlimited)

    def convert(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError
        if not (self.unlimited and value == UNLIMITED):
            _check_bounds(value, self.minimum, self.maximum)
        return value


@attrs.frozen(eq=False, repr=False)
class Number(Kind):
    """A number, whole or not; never infinite, never NaN."""

    minimum: float | None = None
    maximum: float | None = None

    @property
    def expected(self) -> str:
        return _bounds("a number", self.minimum, self.maximum)

    @property
    def range(self) -> str:
        return _range(self.minimum, self.maximum, False)

    def convert(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError
        _check_bounds(value, self.minimum, self.maximum)
        return float(value)


@attrs.frozen(eq=False, repr=False)
class Flag(Kind):
    """``true`` or ``false``."""

    @property
    def expected(self) -> str:
        return "true or false"

    @property
    def range(self) -> str:
        return "true | false"

    def convert(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    def show(self, value: Any) -> str:
        return "true" if value else "false"


@attrs.frozen(eq=False, repr=False)
class Text(Kind):
    """A string, of at least one character unless ``empty``; ``what`` describes the pattern to people."""

    pattern: str | None = None
    what: str = ""
    empty: bool = False

    @property
    def expected(self) -> str:
        if self.what:
            return self.what
        return f"a string matching {self.pattern}" if self.pattern else "a string"

    def convert(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("a string; put it in quotes" if isinstance(value, int | float) else "")
        if not value and not self.empty:
            raise ValueError
        if self.pattern is not None and re.fullmatch(self.pattern, value) is None:
            raise ValueError
        return value


@attrs.frozen(eq=False, repr=False)
class Choice(Kind):
    """One of a few words. With an enum class the Python value is its member, the words are its values."""

    options: tuple[Any, ...]

    @staticmethod
    def of(options: type[enum.Enum] | Sequence[str]) -> Choice:
        """Make a choice from an enum class or from words."""
        return Choice(tuple(options))

    def _words(self) -> dict[str, Any]:
        return {self.show(option): option for option in self.options}

    @property
    def expected(self) -> str:
        return "one of " + ", ".join(self._words())

    @property
    def range(self) -> str:
        return " | ".join(self._words())

    def convert(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValueError
        words = self._words()
        if str(value) not in words:
            raise ValueError
        return words[str(value)]

    def show(self, value: Any) -> str:
        return str(value.value) if isinstance(value, enum.Enum) else str(value)


def _scaled(value: Any, units: Mapping[str, int]) -> int:
    """Read ``"64MiB"`` or a plain integer by a table of units."""
    if isinstance(value, bool):
        raise ValueError
    if isinstance(value, int):
        return value
    found = re.fullmatch(r"(-?[0-9]{1,19}) ?([A-Za-z]*)", value) if isinstance(value, str) else None
    if found is None or (found[2] and found[2] not in units):
        raise ValueError
    return int(found[1]) * units.get(found[2], 1)


def _shown_scaled(value: int, units: Mapping[str, int]) -> str:
    for unit, size in sorted(units.items(), key=lambda item: -item[1]):
        if value > 0 and value % size == 0 and size > 1:
            return f"{value // size}{unit}"
    return str(value)


_MS_UNITS = {
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
}
_BYTE_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_BYTE_UNITS_READ = _BYTE_UNITS | {"kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@attrs.frozen(eq=False, repr=False)
class DurationMs(Kind):
    """A time in milliseconds: ``1500``, ``1500ms``, ``30s``, ``30m``, ``12h``, ``7d``."""

    minimum: int = 0
    maximum: int | None = None
    unlimited: bool = False

    @property
    def expected(self) -> str:
        low = self.show(self.minimum) if self.minimum else None
        high = None if self.maximum is None else self.show(self.maximum)
        suffix = ", or -1 for unlimited" if self.unlimited else ""
        return _bounds("a duration such as 1500 (milliseconds), 30s, 5m, 12h or 7d", low, high) + suffix

    @property
    def range(self) -> str:
        high = None if self.maximum is None else self.show(self.maximum)
        return _range(self.show(self.minimum), high, self.unlimited)

    def convert(self, value: Any) -> int:
        ms = _scaled(value, _MS_UNITS)
        if not (self.unlimited and ms == UNLIMITED):
            _check_bounds(ms, self.minimum, self.maximum)
        return ms

    def show(self, value: Any) -> str:
        return _shown_scaled(value, _MS_UNITS)


@attrs.frozen(eq=False, repr=False)
class SizeBytes(Kind):
    """A size in bytes: ``1048588``, ``64KiB``, ``1GiB``, ``10MB``."""

    minimum: int = 0
    maximum: int | None = None
    unlimited: bool = False

    @property
    def expected(self) -> str:
        low = self.show(self.minimum) if self.minimum else None
        high = None if self.maximum is None else self.show(self.maximum)
        suffix = ", or -1 for unlimited" if self.unlimited else ""
        return _bounds("a size such as 4096 (bytes), 64KiB, 16MiB or 1GiB", low, high) + suffix

    @property
    def range(self) -> str:
        high = None if self.maximum is None else self.show(self.maximum)
        return _range(self.show(self.minimum), high, self.unlimited)

    def convert(self, value: Any) -> int:
        size = _scaled(value, _BYTE_UNITS_READ)
        if not (self.unlimited and size == UNLIMITED):
            _check_bounds(size, self.minimum, self.maximum)
        return size

    def show(self, value: Any) -> str:
        return _shown_scaled(value, _BYTE_UNITS)


@attrs.frozen(eq=False, repr=False)
class Path(Kind):
    """A file or directory; a relative one counts from the working directory, ``~`` is the home directory."""

    @property
    def expected(self) -> str:
        return "a path"

    def convert(self, value: Any) -> pathlib.Path:
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError
        try:
            return pathlib.Path(value).expanduser()
        except RuntimeError as error:
            raise ValueError(f"a path ({error})") from None

    def show(self, value: Any) -> str:
        return str(value) if value.is_absolute() else f"./{value}"


@attrs.frozen(eq=False, repr=False)
class Endpoint(Kind):
    """A Twisted server endpoint string, checked by parsing; nothing is bound."""

    @property
    def expected(self) -> str:
        return "a Twisted server endpoint such as tcp:9092:interface=127.0.0.1"

    def convert(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError
        try:
            parse_endpoint(value)
        except ValueError as error:
            raise ValueError(f"{self.expected} ({error})") from None
        return value


@attrs.frozen(eq=False, repr=False)
class Optional(Kind):
    """Another kind, or ``null``."""

    kind: Kind

    @property
    def expected(self) -> str:
        return f"{self.kind.expected}, or null"

    @property
    def range(self) -> str:
        return f"{self.kind.range}, or null" if self.kind.range else ""

    def convert(self, value: Any) -> Any:
        if value is None:
            return None
        try:
            return self.kind.convert(value)
        except ValueError as error:
            raise ValueError(f"{error}, or null" if str(error) else "") from None

    def show(self, value: Any) -> str:
        return "null" if value is None else self.kind.show(value)
