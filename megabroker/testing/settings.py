"""The configuration of a broker for tests: in memory, at free ports, quiet about the rest."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

__all__ = ["as_text", "complete", "merged"]

_ENDPOINT = "tcp:0:interface=127.0.0.1"


def complete(config: Mapping[str, Any], protocols: Sequence[str]) -> dict[str, Any]:
    """Return a configuration with what it does not say: storage, protocols, and where they listen.

    Raises:
        ValueError: it asks for what a broker for tests cannot be.
    """
    if config.get("workers", 1) != 1:
        raise ValueError(f"workers: {config['workers']!r}: expected 1, a broker for tests is one process")
    names = list(config.get("protocols") or protocols)
    base = {
        "storage": "memory",
        "durability": "os",
        "http": {"enabled": False},
        "groups": {"initial_rebalance_delay_ms": 0},  # nobody wants to wait for further members
        "protocols": {name: {"listeners": [{"endpoint": _ENDPOINT}]} for name in names},
    }
    return copy.deepcopy(merged(base, config))


def as_text(config: Mapping[str, Any], data_directory: str | None) -> str:
    """Return a configuration as YAML."""
    more = {} if data_directory is None else {"data_dir": data_directory}
    return yaml.safe_dump({**config, **more})


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return one configuration changed by another, section by section."""
    result = dict(base)
    for key, value in over.items():
        known = result.get(key)
        if isinstance(value, Mapping) and isinstance(known, Mapping):
            result[key] = merged(known, value)
        else:
            result[key] = value
    return result
