"""What JSON may look like: kinds that check a value and describe themselves as JSON Schema.

Owns the one description from which a body is checked and the OpenAPI document is made, so that the two cannot
differ. A check never stops at the first fault. Knows neither HTTP nor the broker.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, NamedTuple, Protocol

import attrs

__all__ = [
    "ANYTHING",
    "FLAG",
    "INVALID",
    "OFFSET",
    "Field",
    "Flag",
    "Integer",
    "Kind",
    "ListOf",
    "MapOf",
    "Nullable",
    "Number",
    "Object",
    "Text",
    "ValueFault",
    "optional",
    "required",
]

INVALID: Final[Any] = object()
"""What a check returns beside the fault it has noted."""

_MAX_FAULTS: Final = 50
_SHOWN_CHARS: Final = 100


class ValueFault(NamedTuple):
    """One thing wrong with a value.

    Attributes:
        path: a JSON pointer (RFC 6901) into what was checked.
        found: what is there, shortened.
        expected: what would be right, as a phrase that completes "expected ...".
    """

    path: str
    found: str
    expected: str


class Kind(Protocol):
    """A kind of JSON values."""

    def read(self, value: Any, path: str, faults: list[ValueFault]) -> Any:
        """Return the value as Python has it, or INVALID with a fault noted."""

    def describe(self, named: dict[str, Any]) -> dict[str, Any]:
        """Return its JSON Schema; objects with a name are put into ``named`` and referred to."""


def _note(faults: list[ValueFault], path: str, value: Any, expected: str) -> Any:
    if len(faults) < _MAX_FAULTS:
        shown = repr(value) if not isinstance(value, list | dict) else type(value).__name__
        shown = {"list": "an array", "dict": "an object", "None": "null"}.get(shown, shown)
        shown = {"True": "true", "False": "false"}.get(shown, shown)
        if len(shown) > _SHOWN_CHARS:
            shown = f"{shown[:_SHOWN_CHARS]}..."
        faults.append(ValueFault(path, shown.encode(errors="replace").decode(), expected))
    return INVALID


@attrs.frozen
class Text:
    """A string.

    Attributes:
        pattern: what all of it must match.
        what: what is expected, for people, where there is a pattern.
        choices: if not empty, what it must be one of.
    """

    minimum: int = 0
    maximum: int = 1 << 20
    pattern: str | None = None
    what: str = ""
    choices: tuple[str, ...] = ()
    form: str | None = None

    def read(self, value: Any, path: str, faults: list[ValueFault]) -> Any:
        """See ``Kind``."""
        if not isinstance(value, str):
            return _note(faults, path, value, self._expected)
        if self.choices:
            return value if value in self.choices else _note(faults, path, value, self._expected)
        if not self.minimum <= len(value) <= self.maximum:
            return _note(faults, path, value, self._expected)
        if self.pattern is not None and re.fullmatch(self.pattern, value) is None:
            return _note(faults, path, value, self._expected)
        try:
            value.encode()
        except UnicodeEncodeError:
            return _note(faults, path, value, "text without half of a surrogate pair")
        return value

    @property
    def _expected(self) -> str:
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.what:
            return self.what
        if self.maximum < 1 << 20:
            return f"text of {self.minimum} to {self.maximum} characters"
        return "text" if not self.minimum else "text that is not empty"

    def describe(self, named: dict[str, Any]) -> dict[str, Any]:
        """See ``Kind``."""
        found: dict[str, Any] = {"type": "string"}
        if self.choices:
            return {**found, "enum": list(self.choices)}
        if self.minimum:
            found["minLength"] = self.minimum
        if self.maximum < 1 << 20:
            found["maxLength"] = self.maximum
        if self.pattern is not None:
            found["pattern"] = f"^(?:{self.pattern})$"
        if self.form is not None:
            found["format"] = self.form
        return found


@attrs.frozen
class Integer:
    """A whole number within bounds."""

    minimum: int = -(1 << 63)
    maximum: int = (1 << 63) - 1

    def read(self, value: Any, path: str, faults: list[ValueFault]) -> Any:
        """See ``Kind``."""
        if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
            value = int(value)
        if type(value) is not int or not self.minimum <= value <= self.maximum:
            return _note(faults, path, value, f"a whole number from {self.minimum} to {self.maximum}")
        return value

    def describe(self, named: dict[str, Any]) -> dict[str, Any]:
        """See ``Kind``."""
        return {"type": "integer", "format": "int64", "minimum": self.minimum, "maximum": self.maximum}


@attrs.frozen
class Number:
    """A number, whole or not."""

    def read(self, value: Any, path: str, faults: list[ValueFault]) -> Any:
        """See ``Kind``."""
        if type(value) not in (int, float) or abs(value) > 1e300:
            return _note(faults, path, value, "a number")
        return float(value)

    def describe(self, named: dict[str, Any]) -> dict[str, Any]:
        """See ``Kind``."""
        return {"type": "number", "minimum": -1e300, "maximum": 1e300}


@attrs.frozen
class Flag:
    """True or false."""

    def read(self, value: Any, path: str, faults: list[ValueFault]) -> Any:
        """See ``Kind``."""
        return value if isinstance(value, bool) else _note(faults, path, value, "true or false")

    def describe(self, named: dict[str, Any]) -> dict[str, Any]:
        """See ``Kind``."""
        return {"type": "boolean"}


@attrs.frozen
class Anything:
    """Any JSON value; for answers, and for messages."""

    def read(self, value: Any, path: str, faults: list[ValueFault]) -> Any:
        """See ``Kind``."""
        return value

    def describe(self, named: dict[str, Any]) -> dict[str, Any]:
        """See ``Kind``."""
        return {}


@attrs.frozen
class Nullable:
    """Another kind, or null."""

    of: Kind

    def read(self, value: Any, path: str, faults: list[ValueFault]) -> Any:
        """See ``Kind``."""
        return None if value is None else self.of.read(value, path, faults)

    def describe(self, named: dict[str, Any]) -> dict[str, Any]:
        """See ``Kind``."""
        return {"anyOf": [self.of.describe(named), {"type": "null"}]}


@attrs.frozen
class ListOf:
    """An array of a kind; a list in Python."""

    of: Kind
    minimum: int = 0
    maximum: int = 10_000

    def read(self, value: Any, path: str, faults: list[ValueFault]) -> Any:
        """See ``Kind``."""
        if not isinstance(value, list):
            return _note(faults, path, value, "an array")
        if not self.minimum <= len(value) <= self.maximum:
            expected = f"an array of {self.minimum} to {self.maximum} elements"
            return _note(faults, path, value, expected)
        read = []
        for at, one in enumerate(value):
            if len(faults) >= _MAX_FAULTS:
                return INVALID
            read.append(self.of.read(one, f"{path}/{at}", faults))
        return _all_of(read)

    def describe(self, named: dict[str, Any]) -> dict[str, Any]:
        """See ``Kind``."""
        found = {"type": "array", "items": self.of.describe(named), "maxItems": self.maximum}
        return {**found, "minItems": self.minimum} if self.minimum else found


@attrs.frozen
class MapOf:
    """An object with names of the client's choice, and values of a kind."""

    of: Kind
    maximum: int = 1000

    def read(self, value: Any, path: str, faults: list[ValueFault]) -> Any:
        """See ``Kind``."""
        if not isinstance(value, dict):
            return _note(faults, path, value, "an object")
        if len(value) > self.maximum:
            return _note(faults, path, value, f"an object of at most {self.maximum} members")
        read = {
            Text().read(name, f"{path}/{_escaped(name)}", faults): self.of.read(
                one, f"{path}/{_escaped(name)}", faults
            )
            for name, one in value.items()
        }
        return INVALID if INVALID in read or any(one is INVALID for one in read.values()) else read

    def describe(self, named: dict[str, Any]) -> dict[str, Any]:
        """See ``Kind``."""
        additional = self.of.describe(named)
        return {"type": "object", "additionalProperties": additional, "maxProperties": self.maximum}


@attrs.frozen
class Field:
    """A member of an object.

    Attributes:
        default: what it is when it is absent; INVALID where it must be there.
    """

    kind: Kind
    doc: str
    default: Any = INVALID


def required(kind: Kind, doc: str) -> Field:
    """Return a member that must be there."""
    return Field(kind, doc)


def optional(kind: Kind, doc: str, default: Any = None) -> Field:
    """Return a member that may be absent."""
    return Field(kind, doc, default)


@attrs.frozen
class Object:
    """An object with known members, and no others; a dict in Python, with all of them.

    Attributes:
        name: under which the document describes it; none for what is described where it stands.
        check: says what does not go together, as (member, what is expected) pairs.
    """

    fields: Mapping[str, Field]
    name: str = ""
    check: Callable[[dict[str, Any]], Sequence[tuple[str, str]]] | None = None

    def read(self, value: Any, path: str, faults: list[ValueFault]) -> Any:
        """See ``Kind``."""
        if not isinstance(value, dict):
            return _note(faults, path, value, "an object")
        before = len(faults)
        read: dict[str, Any] = {}
        for name, field in self.fields.items():
            if name in value:
                read[name] = field.kind.read(value[name], f"{path}/{_escaped(name)}", faults)
            elif field.default is INVALID:
                missing = ValueFault(f"{path}/{_escaped(name)}", "nothing", f"a value: {_lowered(field.doc)}")
                faults.append(missing)
            else:
                read[name] = field.default
        for name in value.keys() - self.fields.keys():
            if len(faults) >= _MAX_FAULTS:
                return INVALID  # what might have been meant takes long to find out, for very many names
            _note(faults, f"{path}/{_escaped(name)}", value[name], no_such(name, self.fields))
        if len(faults) == before and self.check is not None:
            for name, expected in self.check(read):
                _note(faults, f"{path}/{_escaped(name)}", value.get(name), expected)
        return read if len(faults) == before else INVALID

    def describe(self, named: dict[str, Any]) -> dict[str, Any]:
        """See ``Kind``."""
        if self.name and self.name in named:
            return {"$ref": f"#/components/schemas/{self.name}"}
        if self.name:
            named[self.name] = {}
        properties = {}
        for name, field in self.fields.items():
            properties[name] = {**field.kind.describe(named), "description": field.doc}
            if field.default is not INVALID:
                properties[name]["default"] = field.default
        found: dict[str, Any] = {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
        }
        needed = [name for name, field in self.fields.items() if field.default is INVALID]
        if needed:
            found["required"] = needed
        if not self.name:
            return found
        named[self.name] = found
        return {"$ref": f"#/components/schemas/{self.name}"}


def no_such(name: str, known: Mapping[str, Any]) -> str:
    """Say that there is no such name, and what was perhaps meant."""
    close = get_close_matches(name[:_SHOWN_CHARS], known, 1)
    meant = f"; did you mean {close[0]}?" if close else f": {', '.join(known) or 'there are none'}"
    return f"a known name{meant}"


def _all_of(read: list[Any]) -> Any:
    return INVALID if any(one is INVALID for one in read) else read


def _escaped(name: str) -> str:
    return name[:_SHOWN_CHARS].encode(errors="replace").decode().replace("~", "~0").replace("/", "~1")


def _lowered(doc: str) -> str:
    return doc[:1].lower() + doc[1:].rstrip(".")


ANYTHING: Final = Anything()
FLAG: Final = Flag()
OFFSET: Final = Integer(0)
