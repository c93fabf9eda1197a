"""Building settings classes from plain mappings, driven by the metadata of their attrs fields.

Owns sections, lists and mappings of kinds, unknown and missing keys. The invariant: a settings object exists
only if everything under it was without fault; all faults are noted, not only the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from megabroker.config.kinds import INVALID, MISSING, Kind, note
from megabroker.errors import Fault

__all__ = [
    "SPEC",
    "Key",
    "ListOf",
    "MapOf",
    "OptionalSection",
    "Reader",
    "Section",
    "Spec",
    "as_kind",
    "did_you_mean",
    "keys",
    "spec_of",
    "structure",
]

SPEC: Final = "megabroker.config"
Reader = Callable[[object, str, list[Fault]], Any]


@attrs.frozen(eq=False, repr=False)
class Spec:
    """What is known of a key besides its name.

    Attributes:
        doc: one sentence for people.
        unit: the unit of a plain number, empty when it has none.
        reloadable: whether SIGHUP applies a change without a restart.
    """

    kind: Kind
    doc: str
    unit: str = ""
    reloadable: bool = False


def spec_of(field: attrs.Attribute[Any]) -> Spec | None:
    """Return the spec of an attrs field, or None if it was not made with ``megabroker.config.fields``."""
    spec = field.metadata.get(SPEC)
    return spec if isinstance(spec, Spec) else None


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return ``"; did you mean x?"``, or nothing when no known word is near."""
    import difflib  # only a faulty file needs it

    near = difflib.get_close_matches(str(word)[:100], list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def structure(
    cls: type[Any],
    value: object,
    path: str,
    faults: list[Fault],
    readers: Mapping[str, Reader] | None = None,
) -> Any:
    """Build ``cls`` from what YAML gave, or note every fault and return ``INVALID``.

    A class may have a method ``faults() -> Iterable[Fault]`` for what only several keys together show; the
    paths it gives are relative to the section.

    Args:
        cls: an attrs class whose fields were made with ``megabroker.config.fields``.
        value: a mapping, or None for an empty section.
        path: dotted path of the section, empty for the whole file.
        faults: where faults are added.
        readers: by key, what reads it instead of its kind.
    """
    before = len(faults)
    if value is None:
        value = {}
    if not isinstance(value, Mapping):
        note(faults, path or "(file)", value, "a mapping of keys")
        return INVALID
    specs = {field.name: (field, spec) for field in attrs.fields(cls) if (spec := spec_of(field))}
    for key in value:
        if key not in specs:
            note(faults, _join(path, key), value[key], _instead_of(key, specs))
    arguments: dict[str, Any] = {}
    for name, (field, spec) in specs.items():
        if name in value:
            read = (readers or {}).get(name) or spec.kind.read
            arguments[field.alias] = read(value[name], _join(path, name), faults)
        elif field.default is attrs.NOTHING:
            note(faults, _join(path, name), MISSING, f"{spec.kind.expected}; the key is required")
        elif isinstance(spec.kind, Section):
            arguments[field.alias] = spec.kind.read(None, _join(path, name), faults)
    if len(faults) > before:
        return INVALID
    built = cls(**arguments)
    cross_check = getattr(built, "faults", None)
    if cross_check is not None:
        for fault in cross_check():
            note(faults, _join(path, fault.path), fault.value, fault.expected)
    return INVALID if len(faults) > before else built


def _instead_of(key: object, known: Iterable[str]) -> str:
    """Say what is expected in place of a key that does not exist; dots in it may have meant sections."""
    section, *rest = str(key)[:100].split(".")
    if rest and section in known:
        return "it nested: " + ", below that ".join(f"{part}:" for part in (section, *rest))
    return "a key that exists here" + did_you_mean(section, known)


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


@attrs.frozen(eq=False, repr=False)
class Section(Kind):
    """A mapping with the keys of a settings class; ``null`` means all defaults."""

    cls: type[Any]

    @property
    def expected(self) -> str:
        return "a mapping of keys"

    def read(self, value: object, path: str, faults: list[Fault]) -> Any:
        return structure(self.cls, value, path, faults)


@attrs.frozen(eq=False, repr=False)
class OptionalSection(Section):
    """The same where absent and ``null`` mean that there is none."""

    @property
    def expected(self) -> str:
        return "a mapping of keys, or null"

    def read(self, value: object, path: str, faults: list[Fault]) -> Any:
        return None if value is None else super().read(value, path, faults)


@attrs.frozen(eq=False, repr=False)
class ListOf(Kind):
    """A YAML list, a tuple in Python."""

    item: Kind
    minimum: int = 0
    maximum: int = 1000

    @property
    def expected(self) -> str:
        return f"a list of {self.minimum} to {self.maximum} entries"

    def read(self, value: object, path: str, faults: list[Fault]) -> Any:
        if not isinstance(value, list) or not self.minimum <= len(value) <= self.maximum:
            note(faults, path, value, self.expected)
            return INVALID
        items = [self.item.read(entry, f"{path}[{index}]", faults) for index, entry in enumerate(value)]
        return INVALID if INVALID in items else tuple(items)

    def show(self, value: Any) -> str:
        return "[" + ", ".join(self.item.show(entry) for entry in value) + "]"


@attrs.frozen(eq=False, repr=False)
class MapOf(Kind):
    """A YAML mapping from names to values of one kind."""

    item: Kind
    maximum: int = 1000

    @property
    def expected(self) -> str:
        return f"a mapping of up to {self.maximum} names"

    def read(self, value: object, path: str, faults: list[Fault]) -> Any:
        if value is None:
            return {}
        if not isinstance(value, Mapping) or len(value) > self.maximum:
            note(faults, path, value, self.expected)
            return INVALID
        result: dict[str, Any] = {}
        complete = True
        for key, entry in value.items():
            if not isinstance(key, str):
                note(faults, _join(path, key), entry, "a name that is a string; put it in quotes")
                complete = False
                continue
            result[key] = self.item.read(entry, _join(path, key), faults)
            complete = complete and result[key] is not INVALID
        return result if complete else INVALID

    def show(self, value: Any) -> str:
        return "{" + ", ".join(f"{key}: {self.item.show(entry)}" for key, entry in value.items()) + "}"


def as_kind(of: Kind | type[Any]) -> Kind:
    """Accept a kind as it is, and a settings class as a section of it."""
    return of if isinstance(of, Kind) else Section(of)


@attrs.frozen(eq=False, repr=False)
class Key:
    """One key of a schema, for documentation."""

    path: str
    spec: Spec
    default: Any

    @property
    def shown_default(self) -> str:
        """The default as it would be written in YAML, ``required`` when there is none."""
        return "required" if self.default is attrs.NOTHING else self.spec.kind.show(self.default)

    @property
    def note(self) -> str:
        """Unit, values allowed, default and whether a change needs a restart, in one line.

        The line beside each key in ``etc/broker.yaml``.
        """
        what = ", ".join(part for part in (self.spec.unit, self.spec.kind.range) if part)
        default = "required" if self.default is attrs.NOTHING else f"default {self.shown_default}"
        change = "reloadable" if self.spec.reloadable else "restart"
        return "; ".join(part for part in (what, default, change) if part)


def keys(cls: type[Any], path: str = "") -> Iterator[Key]:
    """Yield every key of a settings class, sections entered and not listed themselves.

    Entries of a list of sections are yielded as ``path[].key``.
    """
    for field in attrs.fields(cls):
        spec = spec_of(field)
        if spec is None:
            continue
        name = _join(path, field.name)
        if isinstance(spec.kind, Section):
            yield from keys(spec.kind.cls, name)
            continue
        default: Any = field.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            default = default.factory()
        yield Key(name, spec, default)
        if isinstance(spec.kind, ListOf) and isinstance(spec.kind.item, Section):
            yield from keys(spec.kind.item.cls, name + "[]")
