"""A configuration as it would stand in its file: every key with the value that is in force.

Owns what is hidden: whatever a key's name or a URL says is a secret. Pure.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Any, Final

import attrs
import yaml

from megabroker.config.kinds import DurationMs, Kind, Path, SizeBytes
from megabroker.config.structure import spec_of

__all__ = ["HIDDEN", "document", "yaml_text"]

HIDDEN: Final = "(hidden)"

_SECRET: Final = re.compile(r"(?i)(password|secret|passphrase|credential)s?$")
# libyaml's is several times as fast, and not in every build of the library.
_DUMPER: Final[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_USER_IN_URL: Final = re.compile(r"(?<=://)[^/@\s]+@")


def document(settings: Any) -> dict[str, Any]:
    """Return a settings class as plain values, by the names of its keys, in their order."""
    found: dict[str, Any] = {}
    for field in attrs.fields(type(settings)):
        spec = spec_of(field)
        if spec is not None:
            value = getattr(settings, field.name)
            is_secret = value is not None and _SECRET.search(field.name) is not None
            found[field.name] = HIDDEN if is_secret else _shown(spec.kind, value)
    return found


def yaml_text(settings: Any) -> str:
    """Return a settings class as YAML."""
    return yaml.dump(document(settings), Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=110)


def _shown(kind: Kind | None, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if attrs.has(type(value)):
        return document(value)
    if isinstance(value, Mapping):
        return {str(name): _shown(None, one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [_shown(None, one) for one in value]
    if isinstance(value, enum.Enum):
        return value.value
    inner = getattr(kind, "of", kind)
    if isinstance(inner, DurationMs | SizeBytes | Path):
        text = inner.show(value)
        return value if text == str(value) and isinstance(value, int) else text
    return value if isinstance(value, int | float) else _USER_IN_URL.sub(f"{HIDDEN}@", str(value))
