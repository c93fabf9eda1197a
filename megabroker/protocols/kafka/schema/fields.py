"""The notation in which Kafka messages are written down, and the classes it makes.

A message is a class; a field is an annotated name with one of the specifiers below; a struct is a nested
class. One class serves every version of a message: each field says in which versions it is on the wire.

    from megabroker.protocols.kafka.schema import fields as f

    class Request(f.Message, key=8, versions="0-10", flexible="8+"):
        class Topic(f.Struct):
            name: str = f.string("0-9")
            topic_id: bytes = f.uuid("10+")

        group_id: str = f.string()
        group_instance_id: str | None = f.string("7+", nullable="7+", default=None)
        topics: list[Topic] = f.array(Topic)

Version ranges are ``"3"``, ``"3-5"``, ``"3+"`` (without an upper end) or ``""`` (no version). Fields are
written in wire order. ``nullable`` is the range in which null is allowed, ``tag`` makes the field a
tagged one in the versions ``tagged`` (by default in every version that has it). A field that a version
lacks keeps its default when decoded and is left out when encoded, whatever its value: Kafka refuses
some such messages, we never do, so a handler may fill in everything it knows. A tagged struct with the
default None is None where it is not to be sent, or was not, whatever ``nullable`` says: what nearly nobody
sends costs nothing then.

The classes are slotted, take keywords, compare by value and print themselves. Invariant: the annotations
are for people and mypy only; what is on the wire follows from the specifiers alone.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import error as struct_error
from typing import Any, ClassVar, Final, Protocol, TypeVar, dataclass_transform

import attrs

from megabroker.codec.primitives import Buffer

__all__ = [
    "ZERO_UUID",
    "Buffer",
    "Decode",
    "Field",
    "Message",
    "Opaque",
    "Records",
    "Schema",
    "Struct",
    "array",
    "boolean",
    "bytestring",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "records",
    "string",
    "struct",
    "title",
    "uint16",
    "uint32",
    "uuid",
    "versions_of",
]

ZERO_UUID: Final = bytes(16)

LATEST: Final = 32767


class Opaque(Protocol):
    """Bytes kept elsewhere, such as a range of a file, to be sent as they are; ``length`` in bytes."""

    @property
    def length(self) -> int: ...


Records = Buffer | Opaque

Versions = tuple[int, int]


def versions_of(text: str) -> Versions:
    """Read a version range; the result is (first, last), both inclusive, and empty when first > last."""
    if not text:
        return 1, 0
    if text.endswith("+"):
        return int(text[:-1]), LATEST
    first, dash, last = text.partition("-")
    return int(first), int(last if dash else first)


@attrs.frozen
class Field:
    """One field of a message.

    Attributes:
        kind: the wire type, one of the specifier names below.
        versions: where the field exists.
        nullable: where it may be null.
        default: the value in versions without the field; a fresh copy of it for arrays and structs.
        tag: tag number, or None for a field in line.
        tagged: where it is tagged.
        item: for an array its element, as a field without a name.
        struct: for a struct its class.
        legacy: whether it keeps the fixed-width length also in flexible versions.
        name: set when the class is made.
    """

    kind: str
    versions: Versions
    nullable: Versions
    default: Any
    tag: int | None
    tagged: Versions
    item: Field | None = None
    struct: type[Struct] | None = None
    legacy: bool = False
    name: str = ""


@attrs.frozen
class Schema:
    """What a class declares: its fields in wire order and, for a message, key and version ranges."""

    fields: tuple[Field, ...]
    key: int = -1
    versions: Versions = (0, LATEST)
    flexible: Versions = (1, 0)


_UNSET: Final[Any] = object()


def _field(
    kind: str,
    versions: str,
    nullable: str,
    default: Any,
    tag: int | None,
    tagged: str | None,
    *,
    item: Field | None = None,
    struct: type[Struct] | None = None,
    legacy: bool = False,
) -> Any:
    exists = versions_of(versions)
    tagged_in = exists if tagged is None else versions_of(tagged)
    return Field(
        kind,
        exists,
        versions_of(nullable),
        default,
        tag,
        tagged_in if tag is not None else (1, 0),
        item,
        struct,
        legacy,
    )


def _scalar(kind: str, zero: Any) -> Callable[..., Any]:
    def specifier(
        versions: str = "0+", *, default: Any = zero, tag: int | None = None, tagged: str | None = None
    ) -> Any:
        return _field(kind, versions, "", default, tag, tagged)

    specifier.__name__ = specifier.__qualname__ = kind
    specifier.__doc__ = f"A field of the fixed-size type {kind}."
    return specifier


boolean = _scalar("boolean", False)
int8 = _scalar("int8", 0)
int16 = _scalar("int16", 0)
int32 = _scalar("int32", 0)
int64 = _scalar("int64", 0)
uint16 = _scalar("uint16", 0)
uint32 = _scalar("uint32", 0)
float64 = _scalar("float64", 0.0)
uuid = _scalar("uuid", ZERO_UUID)


def string(
    versions: str = "0+",
    *,
    nullable: str = "",
    default: str | None = "",
    tag: int | None = None,
    tagged: str | None = None,
    legacy: bool = False,
) -> Any:
    """A string, strictly UTF-8; at most 32767 bytes in versions that are not flexible."""
    return _field("string", versions, nullable, default, tag, tagged, legacy=legacy)


def bytestring(
    versions: str = "0+",
    *,
    nullable: str = "",
    default: bytes | None = b"",
    tag: int | None = None,
    tagged: str | None = None,
) -> Any:
    """Opaque bytes, copied out of the input when decoded."""
    return _field("bytestring", versions, nullable, default, tag, tagged)


def records(versions: str = "0+", *, nullable: str = "", default: bytes | None = None) -> Any:
    """Record batches, never copied: decoded as a view of the input, encoded from any buffer or `Opaque`."""
    return _field("records", versions, nullable, default, None, None)


def struct(
    cls: type[Struct],
    versions: str = "0+",
    *,
    nullable: str = "",
    default: Any = _UNSET,
    tag: int | None = None,
    tagged: str | None = None,
) -> Any:
    """One struct; by default one with all its own defaults, or null with ``default=None``."""
    return _field("struct", versions, nullable, default, tag, tagged, struct=cls)


def array(
    item: type[Struct] | Callable[[], Any],
    versions: str = "0+",
    *,
    nullable: str = "",
    default: Any = _UNSET,
    tag: int | None = None,
    tagged: str | None = None,
) -> Any:
    """A list of structs or of a primitive (``f.array(f.int32)``); by default empty, or null."""
    element: Field = struct(item) if isinstance(item, type) else item()
    return _field("array", versions, nullable, default, tag, tagged, item=element)


@dataclass_transform(kw_only_default=True)
class _StructMeta(type):
    """Turns the fields of a class body into slots, a schema and a constructor."""

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        key: int = -1,
        versions: str = "0+",
        flexible: str = "",
    ) -> _StructMeta:
        declared = [item for item in namespace.items() if isinstance(item[1], Field)]
        fields = tuple(attrs.evolve(field, name=attribute) for attribute, field in declared)
        for attribute, _ in declared:
            del namespace[attribute]
        namespace["__slots__"] = tuple(field.name for field in fields)
        namespace["__match_args__"] = ()
        namespace["__schema__"] = Schema(fields, key, versions_of(versions), versions_of(flexible))
        return super().__new__(mcs, name, bases, namespace)

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_: Any) -> None:
        super().__init__(name, bases, namespace)


def _constructor(fields: tuple[Field, ...]) -> Any:
    scope: dict[str, Any] = {"UNSET": _UNSET}
    arguments, lines = [], []
    for field in fields:
        name = field.name
        if field.default is _UNSET:
            arguments.append(f"{name}=UNSET")
            fresh = "[]"
            if field.struct is not None:
                scope[f"make_{name}"] = field.struct
                fresh = f"make_{name}()"
            lines.append(f"    self.{name} = {fresh} if {name} is UNSET else {name}")
        else:
            arguments.append(f"{name}={field.default!r}")
            lines.append(f"    self.{name} = {name}")
    if not fields:
        return lambda self: None
    source = f"def __init__(self, *, {', '.join(arguments)}):\n" + "\n".join(lines)
    exec(source, scope)
    return scope["__init__"]


class Struct(metaclass=_StructMeta):
    """A part of a message; a value, but not a frozen one: handlers fill responses in place."""

    __slots__: ClassVar[tuple[str, ...]] = ()
    __schema__: ClassVar[Schema]
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, **values: Any) -> None:
        """Make the constructor of this class, at its first use: half the cost of importing a table."""
        cls: Any = self.__class__
        cls.__init__ = _constructor(cls.__schema__.fields)
        cls.__init__(self, **values)

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        module = self.__class__.__module__.rpartition(".")[2]
        return f"{module}.{self.__class__.__qualname__}({values})"


M = TypeVar("M", bound="Message")
Decode = Callable[[Buffer, int, int], tuple[Any, int]]
Encode = Callable[[Any, list[Any], list[int]], None]


class Message(Struct):
    """A whole request, response or header: a struct that can be decoded and encoded by version."""

    __slots__ = ()

    __decoders__: ClassVar[dict[int, Decode]]
    __encoders__: ClassVar[dict[int, Encode]]

    def __init_subclass__(cls) -> None:
        cls.__decoders__ = {}
        cls.__encoders__ = {}

    @classmethod
    def decoder(cls: type[M], version: int) -> Callable[[Buffer, int, int], tuple[M, int]]:
        """Give the function ``decode(data, pos, end) -> (message, position after it)``.

        It is built at first use and kept; it raises ProtocolError and nothing else. Bytes after the
        message are left to the caller. Records in the result are views that keep ``data`` alive and, if it
        is a bytearray, from being resized.

        Raises:
            ProtocolError: when the version is not one this message has.
        """
        decode = cls.__decoders__.get(version)
        if decode is None:
            from megabroker.protocols.kafka.schema import compiler

            decode = cls.__decoders__[version] = compiler.decoder(cls, version)
        return decode

    @classmethod
    def decode(
        cls: type[M], data: Buffer, version: int, pos: int = 0, end: int | None = None
    ) -> tuple[M, int]:
        """Decode one message from ``data[pos:end]``; see `decoder`."""
        return cls.decoder(version)(data, pos, len(data) if end is None else end)

    def encode(self, version: int) -> bytes:
        """Encode to one piece of bytes.

        Raises:
            ValueError: when a value does not fit its field, null included.
            TypeError: when records are `Opaque`; use `encode_parts`.
        """
        out: list[Any] = []
        self._encode(version, out, [])
        return b"".join(out)

    def encode_parts(self, version: int) -> list[Buffer | Opaque]:
        """Encode to buffers in wire order, in which records are the very objects that were given.

        Raises:
            ValueError: when a value does not fit its field, null included.
        """
        out: list[Any] = []
        cuts: list[int] = []
        self._encode(version, out, cuts)
        if not cuts:
            return [b"".join(out)]
        parts: list[Buffer | Opaque] = []
        start = 0
        for cut in cuts:
            parts.append(b"".join(out[start:cut]))
            parts.append(out[cut])
            start = cut + 1
        if start < len(out):
            parts.append(b"".join(out[start:]))
        return parts

    def _encode(self, version: int, out: list[Any], cuts: list[int]) -> None:
        encode = self.__encoders__.get(version)
        if encode is None:
            from megabroker.protocols.kafka.schema import compiler

            encode = self.__encoders__[version] = compiler.encoder(self.__class__, version)
        try:
            encode(self, out, cuts)
        except (struct_error, AttributeError, TypeError, OverflowError) as error:
            raise ValueError(f"cannot encode {title(self.__class__, version)}: {error}") from error


def title(message: type[Message], version: int) -> str:
    """Name a message and its version as errors do."""
    return f"{message.__module__.rpartition('.')[2]}.{message.__qualname__} v{version}"
