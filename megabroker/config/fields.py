"""Makers of configuration keys, for the broker's own schema and for plugin authors.

Each maker returns an attrs field that carries its kind, documentation, unit, bounds and whether SIGHUP may
change it. Use them in a frozen, keyword-only attrs class::

    @attrs.frozen(kw_only=True)
    class EchoSettings(ProtocolSettings):
        max_line_bytes: int = size_bytes(8192, minimum=1, maximum=1 << 20, doc="Longest line taken.")
        mode: str = choice("plain", ["plain", "loud"], doc="How lines come back.", reloadable=True)

A key without a default (``REQUIRED``) must be in the file. The class may have a method
``faults() -> Iterable[Fault]`` for what only several keys together show.
"""

from __future__ import annotations

import enum
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from megabroker.config.kinds import (
    UNLIMITED,
    Choice,
    DurationMs,
    Endpoint,
    Flag,
    Integer,
    Kind,
    Number,
    Optional,
    Path,
    SizeBytes,
    Text,
)
from megabroker.config.structure import SPEC, ListOf, MapOf, OptionalSection, Section, Spec, as_kind
from megabroker.errors import Fault

__all__ = [
    "REQUIRED",
    "UNLIMITED",
    "Choice",
    "DurationMs",
    "Endpoint",
    "Fault",
    "Flag",
    "Integer",
    "Kind",
    "Number",
    "Path",
    "SizeBytes",
    "Text",
    "choice",
    "custom",
    "duration_ms",
    "endpoint",
    "flag",
    "integer",
    "listing",
    "mapping",
    "number",
    "optional_duration_ms",
    "optional_integer",
    "optional_path",
    "optional_section",
    "optional_size_bytes",
    "optional_text",
    "path",
    "section",
    "size_bytes",
    "text",
]

REQUIRED: Final[Any] = attrs.NOTHING


def custom(kind: Kind, default: Any, *, doc: str, unit: str = "", reloadable: bool = False) -> Any:
    """A key of any kind; the other makers are short forms of this one.

    Args:
        kind: what the key may hold.
        default: the Python value when the key is absent, or ``REQUIRED``; may be an ``attrs.Factory``.
        doc: one sentence for people.
        unit: the unit of a plain number.
        reloadable: whether SIGHUP applies a change without a restart.
    """
    return attrs.field(default=default, metadata={SPEC: Spec(kind, doc, unit, reloadable)})


def integer(
    default: int = REQUIRED,
    *,
    doc: str,
    minimum: int | None = None,
    maximum: int | None = None,
    unlimited: bool = False,
    unit: str = "",
    reloadable: bool = False,
) -> Any:
    """A whole number; ``unlimited`` admits -1 below the minimum."""
    return custom(Integer(minimum, maximum, unlimited), default, doc=doc, unit=unit, reloadable=reloadable)


def optional_integer(
    default: int | None = None,
    *,
    doc: str,
    minimum: int | None = None,
    maximum: int | None = None,
    unit: str = "",
    reloadable: bool = False,
) -> Any:
    """A whole number or ``null``."""
    kind = Optional(Integer(minimum, maximum))
    return custom(kind, default, doc=doc, unit=unit, reloadable=reloadable)


def number(
    default: float = REQUIRED,
    *,
    doc: str,
    minimum: float | None = None,
    maximum: float | None = None,
    unit: str = "",
    reloadable: bool = False,
) -> Any:
    """A number, whole or not."""
    return custom(Number(minimum, maximum), default, doc=doc, unit=unit, reloadable=reloadable)


def flag(default: bool = REQUIRED, *, doc: str, reloadable: bool = False) -> Any:
    """``true`` or ``false``."""
    return custom(Flag(), default, doc=doc, reloadable=reloadable)


def text(
    default: str = REQUIRED,
    *,
    doc: str,
    pattern: str | None = None,
    what: str = "",
    empty: bool = False,
    reloadable: bool = False,
) -> Any:
    """A string; ``pattern`` must match all of it, ``what`` says to people what is expected."""
    return custom(Text(pattern, what, empty), default, doc=doc, reloadable=reloadable)


def optional_text(
    default: str | None = None,
    *,
    doc: str,
    pattern: str | None = None,
    what: str = "",
    reloadable: bool = False,
) -> Any:
    """A string or ``null``."""
    return custom(Optional(Text(pattern, what)), default, doc=doc, reloadable=reloadable)


def choice(
    default: Any,
    options: type[enum.Enum] | Sequence[str],
    *,
    doc: str,
    reloadable: bool = False,
) -> Any:
    """One of a few words, or a member of an enum class spelt by its value."""
    return custom(Choice.of(options), default, doc=doc, reloadable=reloadable)


def duration_ms(
    default: int = REQUIRED,
    *,
    doc: str,
    minimum: int = 0,
    maximum: int | None = None,
    unlimited: bool = False,
    reloadable: bool = False,
) -> Any:
    """A time in milliseconds, also spelt ``30s``, ``5m``, ``12h``, ``7d``; ``unlimited`` admits -1."""
    kind = DurationMs(minimum, maximum, unlimited)
    return custom(kind, default, doc=doc, unit="milliseconds", reloadable=reloadable)


def optional_duration_ms(
    default: int | None = None,
    *,
    doc: str,
    minimum: int = 0,
    maximum: int | None = None,
    reloadable: bool = False,
) -> Any:
    """A time in milliseconds or ``null``."""
    kind = Optional(DurationMs(minimum, maximum))
    return custom(kind, default, doc=doc, unit="milliseconds", reloadable=reloadable)


def size_bytes(
    default: int = REQUIRED,
    *,
    doc: str,
    minimum: int = 0,
    maximum: int | None = None,
    unlimited: bool = False,
    reloadable: bool = False,
) -> Any:
    """A size in bytes, also spelt ``64KiB``, ``16MiB``, ``1GiB``; ``unlimited`` admits -1."""
    kind = SizeBytes(minimum, maximum, unlimited)
    return custom(kind, default, doc=doc, unit="bytes", reloadable=reloadable)


def optional_size_bytes(
    default: int | None = None,
    *,
    doc: str,
    minimum: int = 0,
    maximum: int | None = None,
    reloadable: bool = False,
) -> Any:
    """A size in bytes or ``null``."""
    kind = Optional(SizeBytes(minimum, maximum))
    return custom(kind, default, doc=doc, unit="bytes", reloadable=reloadable)


def path(default: str | pathlib.Path = REQUIRED, *, doc: str, reloadable: bool = False) -> Any:
    """A file or directory, a ``pathlib.Path``; a relative one counts from the working directory."""
    if isinstance(default, str):
        default = pathlib.Path(default)
    return custom(Path(), default, doc=doc, reloadable=reloadable)


def optional_path(default: pathlib.Path | None = None, *, doc: str, reloadable: bool = False) -> Any:
    """A file or directory, or ``null``."""
    return custom(Optional(Path()), default, doc=doc, reloadable=reloadable)


def endpoint(default: str = REQUIRED, *, doc: str, reloadable: bool = False) -> Any:
    """A Twisted server endpoint string; checked by parsing, nothing is bound."""
    return custom(Endpoint(), default, doc=doc, reloadable=reloadable)


def section(cls: type[Any], *, doc: str) -> Any:
    """A nested settings class; absent or ``null`` means all its defaults."""
    return custom(Section(cls), attrs.Factory(cls), doc=doc)


def optional_section(cls: type[Any], *, doc: str) -> Any:
    """A nested settings class, or None where it is absent or ``null``."""
    return custom(OptionalSection(cls), None, doc=doc)


def listing(
    default: Iterable[Any] = (),
    *,
    of: Kind | type[Any],
    doc: str,
    minimum: int = 0,
    maximum: int = 1000,
    reloadable: bool = False,
) -> Any:
    """A list of a kind (``of=Text()``) or of a settings class; a tuple in Python."""
    return custom(ListOf(as_kind(of), minimum, maximum), tuple(default), doc=doc, reloadable=reloadable)


def mapping(
    default: Mapping[str, Any] | None = None,
    *,
    of: Kind | type[Any],
    doc: str,
    maximum: int = 1000,
    reloadable: bool = False,
) -> Any:
    """A mapping from names to a kind or a settings class; a dict in Python."""
    initial = dict(default or {})
    made = attrs.Factory(lambda: dict(initial))
    return custom(MapOf(as_kind(of), maximum), made, doc=doc, reloadable=reloadable)
