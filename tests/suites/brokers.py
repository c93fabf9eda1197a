"""The brokers that suites run against, each with the settings that suites take for granted.

Topics are created when they are asked for, with four partitions; sessions of groups may be as short as
100 ms; the first rebalance of a group waits for nobody.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from tests.brokers import BrokerProcess
from tests.interop.apache_kafka import ApacheKafka
from tests.suites.results import Suite

__all__ = ["BROKERS"]

_SETTINGS: dict[str, Any] = {
    "node": {"id": 0},
    "durability": "os",
    "topics": {"auto_create": True, "default_partitions": 4},
    "groups": {"min_session_timeout_ms": 100, "initial_rebalance_delay_ms": 0},
}
_PROPERTIES = {
    "node.id": "0",
    "auto.create.topics.enable": "true",
    "num.partitions": "4",
    "group.min.session.timeout.ms": "100",
}


def _megabroker(suite: Suite, directory: pathlib.Path) -> BrokerProcess:
    return BrokerProcess(_merged(_SETTINGS, suite.settings), directory)


def _apache_kafka(suite: Suite, directory: pathlib.Path) -> ApacheKafka:
    return ApacheKafka({**_PROPERTIES, **suite.properties}, directory)


BROKERS: dict[str, Callable[[Suite, pathlib.Path], AbstractContextManager[Any]]] = {
    "megabroker": _megabroker,
    "kafka": _apache_kafka,
}
"""Makers by the name on the command line; what they make has its bootstrap address as ``kafka``."""


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        merged[key] = {**known, **value} if isinstance(known, Mapping) else value
    return merged
