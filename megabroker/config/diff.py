"""What changed between two configurations, key by key.

Owns the comparison only; whoever reloads decides what to do with a key that needs a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import attrs

from megabroker.config.schema import Config
from megabroker.config.structure import Section, spec_of

__all__ = ["KeyChange", "changes"]


class KeyChange(NamedTuple):
    """One key with another value than before.

    Attributes:
        path: dotted path, for example ``logging.level``.
        old: the former Python value, None when the section is new.
        new: the present one, None when the section is gone.
        reloadable: whether it can be applied without a restart.
    """

    path: str
    old: Any
    new: Any
    reloadable: bool


def changes(old: Config, new: Config) -> list[KeyChange]:
    """Return every key whose value differs, in the order of the schema.

    Lists are compared as wholes. A protocol that comes, goes or changes its plugin is one change, not
    reloadable.
    """
    found: list[KeyChange] = []
    _compare(old, new, "", found)
    return found


def _compare(old: Any, new: Any, prefix: str, found: list[KeyChange]) -> None:
    for field in attrs.fields(type(old)):
        spec = spec_of(field)
        if spec is None:
            continue
        path = prefix + field.name
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before == after:
            continue
        if isinstance(spec.kind, Section) and None not in (before, after):
            _compare(before, after, path + ".", found)
        elif isinstance(old, Config) and field.name == "protocols":
            _compare_protocols(before, after, path, found)
        else:
            found.append(KeyChange(path, before, after, spec.reloadable))


def _compare_protocols(
    old: Mapping[str, Any], new: Mapping[str, Any], path: str, found: list[KeyChange]
) -> None:
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if before is not None and type(before) is type(after):
            _compare(before, after, f"{path}.{name}.", found)
        else:
            found.append(KeyChange(f"{path}.{name}", before, after, False))
