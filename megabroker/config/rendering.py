"""A configuration as a file: what is in force, or every key there is with its meaning and default.

Owns the form, which is YAML that the broker reads. What is written of a value is what reading it again gives.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from megabroker.config.schema import Config
from megabroker.config.structure import Key, ListOf, MapOf, Section, Spec, spec_of
from megabroker.config.yaml_text import read_yaml

__all__ = ["Protocols", "commented", "effective"]

Protocols = Mapping[str, tuple[type[Any], str]]
"""By name of a protocol, the class of its settings, and its endpoint if none is said."""

_WIDTH: Final = 100
_HEAD: Final = """\
# megabroker's configuration: all keys with their meanings and defaults, commented out. To change a key,
# remove the "# " before it. The line in brackets contains: unit, allowed values; default; and whether a
# change takes effect on SIGHUP ("reloadable") or after a restart ("restart"). Durations may have a unit
# (1500ms, 30s, 5m, 12h, 7d), and so may sizes (64KiB, 16MiB, 1GiB).
#
#     megabroker config check FILE      checks this file
#     megabroker start --config FILE    starts a broker with it
"""


def effective(config: Config, default: Config, *, changed_only: bool = False) -> str:
    """Return a configuration as YAML; a key that differs from its default has that behind it.

    Args:
        default: with the same protocols, and nothing else said.
        changed_only: leave out keys that have their defaults.
    """
    return "".join(f"{line}\n" for line in _section(config, default, 0, changed_only))


def _section(value: Any, default: Any, depth: int, changed_only: bool) -> Iterator[str]:
    for field in attrs.fields(type(value)):
        spec = spec_of(field)
        if spec is None:
            continue
        now = getattr(value, field.name)
        was = None if default is None else getattr(default, field.name)
        if not (changed_only and now == was):
            yield from _key(field.name, spec.kind, now, was, depth, changed_only)


def _key(name: str, kind: Any, now: Any, was: Any, depth: int, changed_only: bool) -> Iterator[str]:
    indent = "  " * depth
    if isinstance(kind, Section) and now is not None:
        yield f"{indent}{name}:"
        yield from _section(now, was, depth + 1, changed_only)
    elif isinstance(now, Mapping) and now and attrs.has(type(next(iter(now.values())))):
        yield f"{indent}{name}:"
        for key, entry in now.items():
            known = was.get(key) if isinstance(was, Mapping) else None
            if not (changed_only and entry == known):
                yield f"{indent}  {key}:"
                yield from _section(entry, known, depth + 2, changed_only)
    elif isinstance(now, tuple) and now and attrs.has(type(now[0])):
        yield f"{indent}{name}:{'' if now == was else '  # not the default'}"
        for entry in now:
            first, *rest = _section(entry, entry, depth + 2, False)
            yield f"{indent}  - {first.lstrip()}"
            yield from rest
    else:
        note = (
            "" if now == was else f"  # default {_plain(kind, was)}" if was is not None else "  # no default"
        )
        yield f"{indent}{name}: {_plain(kind, now)}{note}"


def _plain(kind: Any, value: Any) -> str:
    """Return a value on one line; a text in quotes where YAML would read something else."""
    if isinstance(value, tuple):
        return "[" + ", ".join(_plain(kind.item, one) for one in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_plain(kind.item, one)}" for key, one in value.items()) + "}"
    text: str = kind.show(value)
    if value is None or not isinstance(value, str) or _read_back(text) == value:
        return text
    return json.dumps(text, ensure_ascii=False)


def _read_back(text: str) -> Any:
    if re.search(r"[\[\]{},]|[:#]\s|\s#|\n", text):
        return None
    return read_yaml(text, [])


# --- every key ------------------------------------------------------------------------------------


def commented(protocols: Protocols) -> str:
    """Return a file that says nothing but which protocols there are, and explains every key."""
    lines = [_HEAD]
    for field in attrs.fields(Config):
        spec = spec_of(field)
        if spec is not None and field.name != "protocols":
            lines += _explained(field, spec, 0)
    lines.append(
        "# The protocols that are served; a protocol that is not listed here is not served.\nprotocols:\n"
    )
    for name, (cls, endpoint) in protocols.items():
        lines.append(f"  {name}:\n")
        for field in attrs.fields(cls):
            spec = spec_of(field)
            if spec is not None:
                shown = f"[{{endpoint: '{endpoint}'}}]" if field.name == "listeners" else None
                lines += _explained(field, spec, 2, shown)
    return "".join(lines)


def _explained(field: Any, spec: Spec, depth: int, shown: str | None = None) -> Iterator[str]:
    indent = "  " * depth
    yield "" if depth else "\n"
    for line in _wrapped(spec.doc, _WIDTH - len(indent)):
        yield f"{indent}# {line}\n"
    kind = spec.kind
    if isinstance(kind, Section) and field.default is not None:
        yield f"{indent}{field.name}:\n"
        for inner in attrs.fields(kind.cls):
            if (its := spec_of(inner)) is not None:
                yield from _explained(inner, its, depth + 1)
        return
    default = field.default.factory() if isinstance(field.default, attrs.Factory) else field.default  # type: ignore[arg-type]
    key = Key(field.name, spec, default)
    yield f"{indent}# [{key.note}]\n"
    if shown is None:
        shown = "" if default is attrs.NOTHING else _plain(kind, default)
    yield f"{indent}# {field.name}: {shown}\n"
    if isinstance(kind, ListOf | MapOf) and isinstance(kind.item, Section):
        names = ", ".join(one.name for one in attrs.fields(kind.item.cls) if spec_of(one) is not None)
        yield f"{indent}#   (each has the keys {names})\n"
    elif isinstance(kind, Section):
        names = ", ".join(one.name for one in attrs.fields(kind.cls) if spec_of(one) is not None)
        yield f"{indent}#   (it has the keys {names})\n"


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width)
