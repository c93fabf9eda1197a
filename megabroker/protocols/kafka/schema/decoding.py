"""Writes the decoder of one (message, version) as Python text.

Owns the reading half of the generated code. The text runs inside one ``try`` that turns a read past the
end (``IndexError``, ``struct.error``) and invalid UTF-8 into ProtocolError, so only what would allocate
or jump is checked in line: every length, count and tag size against the bytes that remain.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from megabroker.protocols.kafka.schema.fields import Field, Struct
from megabroker.protocols.kafka.schema.source import FIXED, Source, fields_in, is_tagged, min_size

__all__ = ["DecoderSource"]

Put = Callable[[str], str]


class DecoderSource(Source):
    """The text of ``decode(buf, pos, end)``; `constants` are the globals it needs besides the helpers."""

    def __init__(self, cls: type[Struct], version: int, flexible: bool, title: str) -> None:
        super().__init__(version, flexible)
        self.title = title
        self._run: list[tuple[str, str]] = []
        self.open("def decode(buf, pos, end):")
        self.open("if end != len(buf):")
        self.line("buf = memoryview(buf)[:end]")
        self.line("end = len(buf)")
        self.close()
        self.line("budget = ELEMENT_LIMIT")
        self.open("try:")
        self.line(f"result = new({self._class(cls)})")
        self._fields(cls, "result")
        self._flush()
        self.line("return result, pos")
        self.close()
        self.open("except (IndexError, struct_error):")
        self.line(f"raise ProtocolError({title + ': truncated'!r}) from None")
        self.close()
        self.open("except UnicodeDecodeError:")
        self.line(f"raise ProtocolError({title + ': a string is not UTF-8'!r}) from None")
        self.close()
        self.close()

    def _class(self, cls: type[Struct]) -> str:
        return self.constant("class_" + cls.__qualname__.replace(".", "_"), cls)

    def _fields(self, cls: type[Struct], target: str) -> None:
        """Read a struct into the object that ``target`` names, tagged fields last."""
        present = fields_in(cls, self.version)
        for field in cls.__schema__.fields:
            if field not in present or is_tagged(field, self.version):
                self.line(f"{target}.{field.name} = {self._default(field)}")
        for field in present:
            if not is_tagged(field, self.version):
                self._field(field, f"{target}.{field.name}")
        if self.flexible:
            self._tags([field for field in present if is_tagged(field, self.version)], target)

    def _default(self, field: Field) -> str:
        if field.kind == "array":
            return "None" if field.default is None else "[]"
        if field.kind == "struct" and field.default is not None:
            assert field.struct is not None
            return f"{self._class(field.struct)}()"
        return repr(field.default)

    def _field(self, field: Field, target: str) -> None:
        if field.kind in FIXED:
            self._run.append((FIXED[field.kind], target))
        elif field.kind == "struct":
            self._struct(field, target)
        elif field.kind == "array":
            self._array(field, target)
        else:
            self._bytes(field, lambda value: f"{target} = {value}")

    def _flush(self) -> None:
        """Read the fixed-size values gathered so far, with one unpack."""
        if not self._run:
            return
        codes = "".join(code for code, _ in self._run)
        targets = ", ".join(target for _, target in self._run)
        if codes == "B":
            self.line(f"{targets} = buf[pos]")
        else:
            layout = struct.Struct(">" + codes)
            unpack = self.constant(f"unpack_{codes.replace('?', 'o')}", layout.unpack_from)
            self.line(f"({targets}{',' if len(self._run) == 1 else ''}) = {unpack}(buf, pos)")
        self.line(f"pos += {struct.calcsize('>' + codes)}")
        self._run.clear()

    def _varint(self, prefix: str, often_long: bool = False) -> str:
        """Read an unsigned varint, fused with what stands before it, into a new local.

        Args:
            often_long: whether to spend code on two bytes, so that those cost no call.
        """
        value = self.name(prefix)
        self._run.append(("B", value))
        self._flush()
        self.open(f"if {value} > 127:")
        if often_long:
            second = self.name(prefix)
            self.line(f"{second} = buf[pos]")
            self.open(f"if {second} < 128:")
            self.line(f"{value} = {value} & 127 | {second} << 7")
            self.line("pos += 1")
            self.close()
            self.open("else:")
        self.line(f"{value}, pos = read_uvarint(buf, pos - 1, end)")
        if often_long:
            self.close()
        self.close()
        return value

    def _length(self, field: Field) -> tuple[str, int]:
        """Read the length of a field; gives the local that holds it and what it is when empty."""
        if self.compact(field):
            return self._varint("n", often_long=field.kind == "records"), 1
        value = self.name("n")
        self._run.append(("h" if field.kind == "string" else "i", value))
        self._flush()
        return value, 0

    def _null(self, field: Field, value: str, empty: int, put: Put) -> None:
        """Close an ``if value > empty`` block: what is left is empty, null or wrong."""
        if self.nullable(field):
            self.open(f"elif {value} == {empty - 1}:")
            self.line(put("None"))
            self.close()
        self.open("else:")
        self._refuse(f"{field.name or field.kind} has a negative length or a null that is not allowed")
        self.close()

    def _refuse(self, why: str) -> None:
        self.line(f"raise ProtocolError({self.title + ': ' + why!r})")

    def _bytes(self, field: Field, put: Put) -> None:
        value, empty = self._length(field)
        stop = self.name("e")
        self.open(f"if {value} >= {empty}:")
        self.line(f"{stop} = pos + {value}{' - 1' if empty else ''}")
        self.open(f"if {stop} > end:")
        self._refuse(f"{field.name or field.kind} is longer than what remains")
        self.close()
        if field.kind == "string":
            self.line(put(f'str(buf[pos:{stop}], "utf-8")'))
        elif field.kind == "records":
            self.line(put(f"memoryview(buf)[pos:{stop}]"))
        else:
            self.line(put(f"bytes(buf[pos:{stop}])"))
        self.line(f"pos = {stop}")
        self.close()
        self._null(field, value, empty, put)

    def _struct(self, field: Field, target: str) -> None:
        assert field.struct is not None
        inner = self.name("m")
        if not self.nullable(field):
            self.line(f"{inner} = {target} = new({self._class(field.struct)})")
            self._fields(field.struct, inner)
            return
        if is_tagged(field, self.version):
            raise NotImplementedError(f"{field.name}: a nullable tagged struct")
        marker = self.name("n")
        self._run.append(("b", marker))
        self._flush()
        self.open(f"if {marker} < 0:")
        self.line(f"{target} = None")
        self.close()
        self.open("else:")
        self.line(f"{inner} = {target} = new({self._class(field.struct)})")
        self._fields(field.struct, inner)
        self._flush()
        self.close()

    def _array(self, field: Field, target: str) -> None:
        item = field.item
        assert item is not None
        value, empty = self._length(field)
        self.open(f"if {value} >= {empty}:")
        if empty:
            self.line(f"{value} -= 1")
        size = min_size(item, self.version, self.flexible) or 1
        self.open(f"if {value}{f' * {size}' if size > 1 else ''} > end - pos:")
        self._refuse(f"{field.name} has more elements than what remains can hold")
        self.close()
        self.line(f"budget -= {value}")
        self.open("if budget < 0:")
        self._refuse("too many array elements")
        self.close()
        if item.kind in FIXED:
            code = FIXED[item.kind]
            unpack = self.constant(f"every_{code.replace('?', 'o')}", struct.Struct(">" + code).iter_unpack)
            stop = self.name("e")
            self.line(f"{stop} = pos + {value} * {size}")
            self.line(f"{target} = [value for (value,) in {unpack}(buf[pos:{stop}])]")
            self.line(f"pos = {stop}")
        else:
            self._loop(item, target, value)
        self.close()
        self._null(field, value, empty, lambda text: f"{target} = {text}")

    def _loop(self, item: Field, target: str, count: str) -> None:
        items = self.name("a")
        self.line(f"{items} = {target} = []")
        self.open(f"for _ in range({count}):")
        if item.kind == "struct":
            assert item.struct is not None
            inner = self.name("m")
            self.line(f"{inner} = new({self._class(item.struct)})")
            self._fields(item.struct, inner)
            self._flush()
            self.line(f"{items}.append({inner})")
        else:
            self._bytes(item, lambda value: f"{items}.append({value})")
        self.close()

    def _tags(self, fields: list[Field], target: str) -> None:
        if not fields:
            count = self.name("t")
            self._run.append(("B", count))
            self._flush()
            self.open(f"if {count}:")
            self.line("pos = skip_tags(buf, pos - 1, end)")
            self.close()
            return
        count = self._varint("t")
        self.open(f"while {count}:")
        self.line(f"{count} -= 1")
        tag = self._varint("k")
        size = self._varint("z")
        stop = self.name("e")
        self.line(f"{stop} = pos + {size}")
        self.open(f"if {stop} > end:")
        self._refuse("a tagged field is longer than what remains")
        self.close()
        for index, field in enumerate(fields):
            self.open(f"{'elif' if index else 'if'} {tag} == {field.tag}:")
            self._field(field, f"{target}.{field.name}")
            self._flush()
            self.open(f"if pos != {stop}:")
            self._refuse(f"the tagged field {field.name} does not have the size it states")
            self.close()
            self.close()
        self.open("else:")
        self.line(f"pos = {stop}")
        self.close()
        self.close()
