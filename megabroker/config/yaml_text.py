"""A strict reading of YAML: JSON-like scalars, every repeated key found, faults with line and column.

``true`` and ``false`` are the only booleans (``off`` is a word, as ``dedup.scope`` needs it). Integers
are decimal without leading zeros; there are no dates and no merge keys. Never builds anything but plain
values.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from megabroker.errors import Fault

__all__ = ["read_yaml"]

_DEEPEST = 32
_RESOLVERS: Final = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9_]{0,30})", "-+0123456789"),
    (
        "float",
        r"[-+]?([0-9]{1,30}\.[0-9]{0,30}([eE][-+]?[0-9]{1,3})?|[0-9]{1,30}[eE][-+]?[0-9]{1,3})",
        "-+0123456789",
    ),
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
)


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the resolvers above and a bound on nesting."""

    yaml_implicit_resolvers = {
        first: [
            (f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"))
            for tag, pattern, firsts in _RESOLVERS
            if first in firsts
        ]
        for first in sorted({first for _, _, firsts in _RESOLVERS for first in firsts})
    }

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > _DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {_DEEPEST} levels", problem_mark=mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read_yaml(text: str, faults: list[Fault]) -> Any:
    """Return the plain value of one YAML document; None for an empty one or when a fault was noted."""
    try:
        loader = _StrictLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _note_duplicates(node, "", faults, set())
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        faults.append(Fault("(file)", (error.problem or "malformed")[:200], f"valid YAML{where}"))
    except yaml.reader.ReaderError as error:
        faults.append(Fault("(file)", f"character {error.character!r}", f"printable text; {error.reason}"))
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        # An explicit tag on a scalar that does not fit it, such as !!int abc, ends in any of these.
        faults.append(Fault("(file)", str(error)[:200], "values that fit their YAML tags"))
    return None


def _note_duplicates(node: yaml.Node, path: str, faults: list[Fault], visited: set[int]) -> None:
    """Note every key that a mapping has twice; aliases are entered once."""
    if id(node) in visited:
        return
    visited.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, entry in enumerate(node.value):
            _note_duplicates(entry, f"{path}[{index}]", faults, visited)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, entry in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            inner = f"{path}.{key.value}" if path else str(key.value)
            line = key.start_mark.line + 1
            if key.value in lines:
                value = entry.value if isinstance(entry, yaml.ScalarNode) else f"line {line}"
                expected = f"each key once; line {line} repeats line {lines[key.value]}"
                faults.append(Fault(inner, value, expected))
            lines.setdefault(key.value, line)
            _note_duplicates(entry, inner, faults, visited)
