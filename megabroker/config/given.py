"""Keys that were given one by one, on a command line, laid over what a file says before it is checked.

Owns the form of such a key, ``topics.retention_ms=1h`` or ``protocols.kafka.listeners[0].endpoint=tcp:9092``.
What they are and may be is then checked like the file's own, so that a fault in one reads like a fault in the
file. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from megabroker.config.kinds import note
from megabroker.config.yaml_text import read_yaml
from megabroker.errors import Fault

__all__ = ["DEFAULT_TEXT", "with_given"]

DEFAULT_TEXT: Final = "protocols: {kafka: {}, mega: {}, cursus: {}}\n"
"""What is served where there is no file: all that the broker brings, with its defaults."""

_STEP: Final = re.compile(r"([A-Za-z0-9_-]+)((?:\[\d{1,3}\])*)")
_EXPECTED: Final = "KEY=VALUE, for example topics.default_partitions=1"


def with_given(document: Any, given: Sequence[str], faults: list[Fault]) -> Any:
    """Return a document with keys replaced; what is no key with a value is noted as a fault.

    Args:
        document: as YAML gave it; lists and mappings on the way to a key are copied.
        given: texts ``KEY=VALUE``; VALUE is read as YAML.
    """
    for text in given:
        path, equals, value_text = text.partition("=")
        steps = _steps(path.strip()) if equals else None
        if steps is None:
            note(faults, "(command line)", text, _EXPECTED)
            continue
        found: list[Fault] = []
        value = read_yaml(value_text, found)
        if found:
            faults += [Fault(path, value_text, found[0].expected)]
            continue
        document = _replaced(document, steps, value, path, faults)
    return document


def _steps(path: str) -> list[str | int] | None:
    steps: list[str | int] = []
    for part in path.split("."):
        found = _STEP.fullmatch(part)
        if found is None:
            return None
        steps += [found[1], *(int(number) for number in re.findall(r"\d+", found[2]))]
    return steps


def _replaced(node: Any, steps: Sequence[str | int], value: Any, path: str, faults: list[Fault]) -> Any:
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if isinstance(step, str):
        if node is not None and not isinstance(node, dict):
            note(faults, path, node, f"a mapping of keys, for {step} to be in")
            return node
        return {**(node or {}), step: _replaced((node or {}).get(step), rest, value, path, faults)}
    entries = list(node) if isinstance(node, list) else []
    if step > len(entries):
        note(faults, path, step, f"an entry from 0 to {len(entries)}")
        return node
    known = entries[step] if step < len(entries) else None
    entries[step : step + 1] = [_replaced(known, rest, value, path, faults)]
    return entries
