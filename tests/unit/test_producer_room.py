"""Who is forgotten when partitions together remember too many idempotent producers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from megabroker.core.producer_room import IN_ALL, PER_PARTITION, ProducerRoom
from megabroker.core.producers import ProducerTable
from megabroker.model import BatchHeader, TransactionMarker

_TRANSACTIONAL = 16


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What is logged of producers that were forgotten."""
    found: list[str] = []

    def note(event: LogEvent) -> None:
        if event.get("log_format", "").startswith("producers-forgotten"):
            found.append(formatEvent(event))

    globalLogPublisher.addObserver(note)
    yield found
    globalLogPublisher.removeObserver(note)


class Tables:
    """Some tables with room together; every batch comes a second after the one before."""

    def __init__(self, limit: int, count: int = 3, here: int = 100_000) -> None:
        self.room = ProducerRoom(limit)
        self.each = [ProducerTable(here, self.room) for _ in range(count)]
        self.now_ms = 1_000_000
        self._offsets = [0] * count

    def send(self, at: int, producer_id: int, sequence: int = 0, attributes: int = 0) -> int:
        self.now_ms += 1000
        header = BatchHeader(0, 88, -1, 2, 0, attributes, 0, 5, 9, producer_id, 0, sequence, 1)
        offset = self._offsets[at]
        self._offsets[at] += 1
        self.each[at].accepted(header, offset, self.now_ms)
        return offset

    def known(self) -> list[list[int]]:
        return [sorted(one.producer_id for one in table.describe()) for table in self.each]


def test_the_longest_silent_of_all_go_first(told: list[str]) -> None:
    tables = Tables(6)
    for number in range(6):
        tables.send(number % 3, number)
    tables.send(0, 0, 1)  # heard of again
    assert (tables.room.count, told) == (6, [])
    tables.send(2, 99)
    assert tables.known() == [[0, 3], [4], [2, 5, 99]]
    tables.send(2, 100)
    assert tables.known() == [[0, 3], [4], [5, 99, 100]]
    assert (tables.room.count, tables.room.forgotten) == (6, {IN_ALL: 2, PER_PARTITION: 0})
    assert told[0].startswith(
        "producers-forgotten: producers.max_producers has cost 1 so far; the last was silent for 6.0 s, "
    )
    assert len(told) == 2  # at 1 and at 2; the next is at 4


def test_it_is_told_ever_more_rarely(told: list[str]) -> None:
    tables = Tables(3)
    for number in range(1003):
        tables.send(number % 3, number)
    assert (tables.room.forgotten[IN_ALL], len(told)) == (1000, 10)


def test_a_hundredth_goes_at_a_time() -> None:
    tables = Tables(500)
    for number in range(501):
        tables.send(number % 3, number)
    assert tables.room.count == 495
    assert sorted(one for known in tables.known() for one in known) == list(range(6, 501))


def test_open_transactions_stay(told: list[str]) -> None:
    tables = Tables(3)
    for number in range(3):
        tables.send(number, number, attributes=_TRANSACTIONAL)
    tables.send(0, 7)
    assert tables.known() == [[0], [1], [2]]  # the only one that may go
    tables.each[1].ended(TransactionMarker(1, 0, True, 0), 1, tables.now_ms)
    tables.send(0, 8)
    assert tables.known() == [[0, 8], [], [2]]
    assert [one.producer_id for one in tables.each[0].open_transactions()] == [0]


def test_looking_in_vain_is_rare() -> None:
    tables = Tables(1000)
    looks: list[int] = []
    forget = tables.room._forget

    def look(now_ms: int) -> None:
        looks.append(tables.room.count)
        forget(now_ms)

    tables.room._forget = look  # type: ignore[method-assign]
    for number in range(1100):
        tables.send(number % 3, number, attributes=_TRANSACTIONAL)
    assert tables.room.count == 1100  # all are open
    assert 5 <= len(looks) <= 11
    for table in tables.each:
        for one in table.describe():
            table.ended(TransactionMarker(one.producer_id, 0, True, 0), 10_000, tables.now_ms)
    for number in range(20):
        tables.send(0, 2000 + number)
    assert tables.room.count <= 1000


def test_what_goes_otherwise_gives_room() -> None:
    tables = Tables(4)
    for number in range(4):
        tables.send(number % 2, number)
    tables.each[1].rollback(1)
    tables.send(2, 4)
    assert tables.known() == [[0, 2], [1], [4]]
    tables.each[0].leave()
    assert tables.room.count == 2
    tables.send(1, 5)
    tables.send(1, 6)
    assert tables.each[1].expire(tables.now_ms, 500) == 2
    assert (tables.room.count, tables.room.forgotten[IN_ALL]) == (2, 0)


def test_who_was_not_heard_of_since_the_start_goes_first(told: list[str]) -> None:
    tables = Tables(4)
    tables.send(0, 1)
    former = tables.each[0].snapshot()
    for number in (2, 3):
        tables.send(1, number)
    tables.each[2].restore(former)
    tables.send(2, 4)
    assert tables.known() == [[1], [2, 3], [4]]
    assert "silent since the start" in told[0]


def test_the_bound_of_a_partition_is_told_too(told: list[str]) -> None:
    tables = Tables(100, here=2)
    for number in range(3):
        tables.send(1, number)
    assert tables.known() == [[], [1, 2], []]
    assert (tables.room.count, tables.room.forgotten) == (2, {IN_ALL: 0, PER_PARTITION: 1})
    assert "producers.max_per_partition has cost 1 so far; the last was silent for 2.0 s" in told[0]
