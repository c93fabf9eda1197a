"""Writes the encoder of one (message, version) as Python text.

Owns the writing half of the generated code. Fixed-size values wait in a run, as expressions, until
something of variable size must follow them; then one ``pack`` writes them. Tagged fields at their
default are not written, as Kafka does it; the others are written in ascending order of their tags.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable

from megabroker.protocols.kafka.schema.fields import Field, Struct
from megabroker.protocols.kafka.schema.source import FIXED, Source, fields_in, is_tagged

__all__ = ["EncoderSource"]

_FEW = 9
"""Arrays of fewer numbers, such as replicas, have a ``Struct`` ready."""


@functools.cache
def _few(code: str) -> tuple[Callable[..., bytes], ...]:
    return tuple(struct.Struct(f">{count}{code}").pack for count in range(_FEW))


class EncoderSource(Source):
    """The text of ``encode(message, out, cuts)``; `constants` are the globals it needs."""

    def __init__(self, cls: type[Struct], version: int, flexible: bool) -> None:
        super().__init__(version, flexible)
        self._run: list[tuple[str, str]] = []
        self._out = "out"
        self.open("def encode(message, out, cuts):")
        self.line("add_out = out.append")
        self._fields(cls, "message")
        self._flush()
        self.close()

    def _add(self, text: str) -> None:
        self.line(f"add_{self._out}({text})")

    def _packed(self, run: list[tuple[str, str]]) -> str:
        codes = "".join(code for code, _ in run)
        if all(value.lstrip("-").isdigit() for _, value in run):
            return repr(struct.pack(">" + codes, *(int(value) for _, value in run)))
        pack = self.constant(f"pack_{codes.replace('?', 'o')}", struct.Struct(">" + codes).pack)
        return f"{pack}({', '.join(value for _, value in run)})"

    def _flush(self) -> None:
        if self._run:
            self._add(self._packed(self._run))
            self._run = []

    def _varint(self, value: str) -> None:
        """Write a varint, in one piece with what waits when it is a single byte."""
        if not self._run:
            self._add(f"ONE_BYTE[{value}] if {value} < 128 else uvarint({value})")
            return
        self.open(f"if {value} < 128:")
        self._add(self._packed([*self._run, ("B", value)]))
        self.close()
        self.open("else:")
        self._add(self._packed(self._run))
        self._add(f"uvarint({value})")
        self.close()
        self._run = []

    def _length(self, field: Field, value: str) -> None:
        if self.compact(field):
            self._varint(value)
        else:
            self._run.append(("h" if field.kind == "string" else "i", value))
            self._flush()

    def _fields(self, cls: type[Struct], target: str) -> None:
        present = fields_in(cls, self.version)
        for field in present:
            if not is_tagged(field, self.version):
                self._field(field, f"{target}.{field.name}")
        if self.flexible:
            tagged = [field for field in present if is_tagged(field, self.version)]
            self._tags(sorted(tagged, key=lambda field: field.tag or 0), target)

    def _field(self, field: Field, value: str) -> None:
        if field.kind in FIXED:
            self._run.append((FIXED[field.kind], value))
        elif field.kind == "struct":
            self._struct(field, value)
        elif field.kind == "array":
            self._array(field, value)
        else:
            self._bytes(field, value)

    def _bytes(self, field: Field, value: str) -> None:
        data, length = self.name("b"), self.name("n")
        plus = " + 1" if self.compact(field) else ""
        measure = f"size_of({data})" if field.kind == "records" else f"len({data})"
        self.line(f"{data} = {value}")
        if self.nullable(field):
            self.open(f"if {data} is None:")
            self.line(f"{length} = {0 if plus else -1}")
            self.close()
            self.open("else:")
        if field.kind == "string":
            self.line(f"{data} = {data}.encode()")
        self.line(f"{length} = {measure}{plus}")
        if self.nullable(field):
            self.close()
        self._length(field, length)
        if self.nullable(field):
            self.open(f"if {data} is not None:")
        if field.kind == "records":
            if self._out != "out":
                raise NotImplementedError(f"{field.name}: records in a tagged field")
            self.line("cuts.append(len(out))")
        self._add(data)
        if self.nullable(field):
            self.close()

    def _struct(self, field: Field, value: str) -> None:
        assert field.struct is not None
        inner = self.name("m")
        self.line(f"{inner} = {value}")
        if not self.nullable(field):
            self._fields(field.struct, inner)
            return
        self._flush()
        self.open(f"if {inner} is None:")
        self._add(r'b"\xff"')
        self.close()
        self.open("else:")
        self._run.append(("b", "1"))
        self._fields(field.struct, inner)
        self._flush()
        self.close()

    def _array(self, field: Field, value: str) -> None:
        item = field.item
        assert item is not None
        items, length = self.name("a"), self.name("n")
        plus = " + 1" if self.compact(field) else ""
        self.line(f"{items} = {value}")
        if self.nullable(field):
            self.open(f"if {items} is None:")
            self.line(f"{length} = {0 if plus else -1}")
            self.line(f"{items} = ()")
            self.close()
            self.open("else:")
        self.line(f"{length} = len({items}){plus}")
        if self.nullable(field):
            self.close()
        self._length(field, length)
        if item.kind in FIXED and item.kind != "uuid":
            code = FIXED[item.kind]
            few = self.constant(f"few_{code.replace('?', 'o')}", _few(code))
            count = self.name("n")
            self.line(f"{count} = len({items})")
            self.open(f"if {count}:")
            many = f'pack(f">{{{count}}}{code}", *{items})'
            self._add(f"{few}[{count}](*{items}) if {count} < {_FEW} else {many}")
            self.close()
            return
        element = self.name("m")
        self.open(f"for {element} in {items}:")
        if item.kind == "struct":
            assert item.struct is not None
            self._fields(item.struct, element)
        else:
            self._field(item, element)
        self._flush()
        self.close()

    def _tags(self, fields: list[Field], target: str) -> None:
        """Write the tagged fields; mostly all have their defaults, and nothing is made or called for them."""
        if not fields:
            self._run.append(("B", "0"))
            return
        waiting, outer = self._run, self._out
        differs = []
        for field in fields:
            value = self.name("v")
            self.line(f"{value} = {target}.{field.name}")
            differs.append((field, value, self._differs(field, value)))
        self.open(f"if {' or '.join(test for _, _, test in differs)}:")
        tags = self.name("tags")
        self.line(f"{tags} = []")
        for field, value, test in differs:
            self.open(f"if {test}:")
            self._run, self._out = [], self.name("part")
            self.line(f"{self._out} = []")
            self.line(f"add_{self._out} = {self._out}.append")
            self._field(field, value)
            self._flush()
            data = self.name("b")
            self.line(f'{data} = b"".join({self._out})')
            self.line(f"{tags} += (uvarint({field.tag}), uvarint(len({data})), {data})")
            self.close()
        self._run, self._out = list(waiting), outer
        self._flush()
        self._add(f"uvarint(len({tags}) // 3)")
        part = self.name("b")
        self.open(f"for {part} in {tags}:")
        self._add(part)
        self.close()
        self.close()
        self.open("else:")
        self._run = [*waiting, ("B", "0")]
        self._flush()
        self.close()

    def _differs(self, field: Field, value: str) -> str:
        """Return the expression that says whether a tagged field has to be written."""
        if field.kind == "array" and field.default is not None:
            return f"{value} != []"
        if field.kind == "struct" and field.default is not None:
            assert field.struct is not None
            name = "default_" + field.struct.__qualname__.replace(".", "_")
            return f"{value} != {self.constant(name, field.struct())}"
        return f"{value} is not None" if field.default is None else f"{value} != {field.default!r}"
