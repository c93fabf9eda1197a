"""What the tests of consumer groups share: a store that fires when told, and a service over a Clock."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from megabroker.core.groups import GroupService, GroupSettings
from megabroker.errors import BrokerError
from megabroker.interfaces import IMetadataStore
from megabroker.model import Change, JoinRequest, SyncRequest, TopicPartition

START_S = 1_790_000_000.0


@implementer(IMetadataStore)
class HeldStore:
    """Rows in memory; with ``hold`` set, writes wait for ``release``. Values go through JSON."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, str]] = {}
        self.hold = False
        self.held: list[tuple[list[Change], Deferred[None]]] = []

    def open(self) -> None:
        pass

    def rows(self, table: str, keys: Collection[str] | None = None) -> dict[str, Any]:
        rows = self.tables.get(table, {})
        return {key: json.loads(value) for key, value in rows.items() if keys is None or key in keys}

    def advance(self, table: str, key: str, count: int) -> Deferred[int]:
        former = self.rows(table).get(key, 0)
        return self.write([Change(table, key, former + count)]).addCallback(lambda _: former)

    def write(self, changes) -> Deferred[None]:
        if self.hold:
            deferred: Deferred[None] = Deferred()
            self.held.append((list(changes), deferred))
            return deferred
        self._apply(changes)
        return succeed(None)

    def release(self, index: int = 0, error: Exception | None = None) -> None:
        changes, deferred = self.held.pop(index)
        if error is not None:
            deferred.errback(error)
        else:
            self._apply(changes)
            deferred.callback(None)

    def _apply(self, changes) -> None:
        for table, key, value in changes:
            if value is None:
                self.tables.setdefault(table, {}).pop(key, None)
            else:
                self.tables.setdefault(table, {})[key] = json.dumps(value)

    def close(self) -> Deferred[None]:
        return succeed(None)


class Harness:
    """A service over a Clock, with member ids that count up."""

    def __init__(self, store: HeldStore | None = None, clock: Clock | None = None, **settings: Any) -> None:
        self.clock = clock or Clock()
        if clock is None:
            self.clock.advance(START_S)
        self.store = store or HeldStore()
        self.topics = {"t", "u"}
        numbers = itertools.count(1)
        self.service = GroupService(
            self.clock,
            self.store,
            GroupSettings(**settings),
            lambda partition: partition.topic in self.topics and partition.partition < 4,
            new_member_id=lambda prefix: f"{prefix}-{next(numbers)}",
        )
        self.service.load()

    def now_ms(self) -> int:
        return int(self.clock.seconds() * 1000)

    def advance(self, seconds: float, step: float = 0.5) -> None:
        """Let time pass in steps, so that timers set by timers run too."""
        while seconds > 0:
            self.clock.advance(min(step, seconds))
            seconds -= step

    def join(self, member_id: str = "", group_id: str = "g", **fields: Any) -> Outcome:
        request = {
            "instance_id": None,
            "client_id": "c",
            "client_host": "/127.0.0.1",
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 60_000,
            "protocol_type": "consumer",
            "protocols": (("range", b"meta"),),
            **fields,
        }
        return Outcome(self.service.join(JoinRequest(group_id=group_id, member_id=member_id, **request)))

    def sync(self, joined: Any, assignments: dict[str, bytes] | None = None, **fields: Any) -> Outcome:
        request = {
            "group_id": "g",
            "generation": joined.generation,
            "member_id": joined.member_id,
            "instance_id": None,
            "protocol_type": joined.protocol_type,
            "protocol_name": joined.protocol_name,
            "assignments": assignments or {},
            **fields,
        }
        return Outcome(self.service.sync(SyncRequest(**request)))

    def stable(self, count: int, group_id: str = "g", **fields: Any) -> list[Any]:
        """Join ``count`` members and bring the group to Stable; return their joins, the leader's first."""
        waiting = []
        for _ in range(count):
            waiting.append(self.join(group_id=group_id, **fields))
        self.clock.advance(0.011)
        joined = sorted((outcome.value for outcome in waiting), key=lambda j: j.member_id != j.leader)
        assignments = {j.member_id: f"for {j.member_id}".encode() for j in joined}
        for j in joined:
            self.sync(j, assignments, group_id=group_id)
        return joined


class Outcome:
    """What a Deferred came to, and how often."""

    def __init__(self, deferred: Deferred[Any]) -> None:
        self.results: list[Any] = []
        deferred.addCallback(self.results.append)
        deferred.addErrback(lambda failure: self.results.append(failure.value))

    @property
    def waits(self) -> bool:
        return not self.results

    @property
    def value(self) -> Any:
        [result] = self.results
        assert not isinstance(result, Exception), result
        return result

    @property
    def error(self) -> BrokerError:
        [result] = self.results
        assert isinstance(result, BrokerError), result
        return result


def tp(topic: str = "t", partition: int = 0) -> TopicPartition:
    return TopicPartition(topic, partition)
