"""What the decoder and the encoder generator share: lines, names, and the sizes of types.

Owns the mapping of fixed-size types to ``struct`` codes and the choice of the fields of one version.
"""

from __future__ import annotations

import itertools
import struct
from typing import Any, Final

from megabroker.protocols.kafka.schema.fields import Field, Struct, Versions

__all__ = ["FIXED", "Source", "fields_in", "is_tagged", "min_size", "within"]

FIXED: Final = {
    "boolean": "?",
    "int8": "b",
    "int16": "h",
    "int32": "i",
    "int64": "q",
    "uint16": "H",
    "uint32": "I",
    "float64": "d",
    "uuid": "16s",
}
"""The ``struct`` code of every fixed-size type."""


def within(version: int, versions: Versions) -> bool:
    """Say whether ``version`` lies in the range."""
    return versions[0] <= version <= versions[1]


def is_tagged(field: Field, version: int) -> bool:
    """Say whether the field is a tagged one in this version."""
    return field.tag is not None and within(version, field.tagged)


def fields_in(cls: type[Struct], version: int) -> list[Field]:
    """List the fields that this version has, in wire order, tagged ones included."""
    return [field for field in cls.__schema__.fields if within(version, field.versions)]


def min_size(field: Field, version: int, flexible: bool) -> int:
    """Count the fewest bytes, at least 1 for an array element, that a value of this field can take."""
    if field.kind in FIXED:
        return struct.calcsize(">" + FIXED[field.kind])
    if field.kind == "struct":
        if within(version, field.nullable):
            return 1
        assert field.struct is not None
        lines = [item for item in fields_in(field.struct, version) if not is_tagged(item, version)]
        return sum(min_size(item, version, flexible) for item in lines) + flexible
    if flexible and not field.legacy:
        return 1
    return 2 if field.kind == "string" else 4


class Source:
    """Generated Python in the making.

    Attributes:
        constants: the global names that the text uses, with their values.
    """

    def __init__(self, version: int, flexible: bool) -> None:
        self.version = version
        self.flexible = flexible
        self.constants: dict[str, Any] = {}
        self._lines: list[str] = []
        self._indent = 0
        self._numbers = itertools.count()

    @property
    def text(self) -> str:
        """The whole function."""
        return "\n".join(self._lines)

    def line(self, text: str) -> None:
        """Add a line at the present depth."""
        self._lines.append("    " * self._indent + text)

    def open(self, text: str) -> None:
        """Add the head of a block and go into it."""
        self.line(text)
        self._indent += 1

    def close(self) -> None:
        """Leave the block."""
        self._indent -= 1

    def name(self, prefix: str) -> str:
        """Make a local name that nothing else uses."""
        return f"{prefix}{next(self._numbers)}"

    def constant(self, name: str, value: Any) -> str:
        """Give the text a global; the same name always has the same value."""
        self.constants[name] = value
        return name

    def compact(self, field: Field) -> bool:
        """Say whether the field's length is an unsigned varint of n+1."""
        return self.flexible and not field.legacy

    def nullable(self, field: Field) -> bool:
        """Say whether the field may be null in this version."""
        return within(self.version, field.nullable)
