"""What readiness is told while many partitions are still being looked at."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from megabroker.ops import health
from megabroker.ops.health import Health, StorageHealth


class _Topics:
    """Topics without a single log that can be used."""

    all_names = ("a", "b", "c")

    def out_of_order(self, name: str) -> int:
        return 1

    def served(self, name: str) -> int:
        return 1


class _Broker:
    def __init__(self) -> None:
        self.reactor = Clock()
        self.topics = _Topics()


def test_who_asks_while_the_first_look_goes_on_is_not_told_that_all_is_well() -> None:
    broker = _Broker()
    looking, found = StorageHealth(broker, None, None), list[Any]()
    with patch.object(health, "_SLICE_SECONDS", -1):
        for _ in range(2):
            Deferred.fromCoroutine(looking.look()).addCallback(found.append)
        for _ in range(4):
            broker.reactor.advance(0.01)
    wrong = Health(("3 of 3 partitions cannot be used: the log says why",), serves=False)
    assert found == [wrong, wrong]
