"""ProducerTable against a model that keeps every batch, under any mix of appends, repeats and rollbacks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megabroker.core.producers import MAX_SEQUENCE, ProducerTable
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import BatchHeader, TransactionMarker


def header(producer: int, epoch: int, sequence: int, count: int = 1, attributes: int = 0) -> BatchHeader:
    return BatchHeader(0, 88, -1, 2, 0, attributes, count - 1, 5, 9, producer, epoch, sequence, count)


def code_of(table: ProducerTable, batch: BatchHeader) -> ErrorCode:
    with pytest.raises(BrokerError) as caught:
        table.check(batch)
    return caught.value.code


actions = st.one_of(
    st.tuples(st.just("next"), st.integers(0, 2), st.integers(1, 4)),
    st.tuples(st.just("bump"), st.integers(0, 2), st.integers(1, 4)),
    st.tuples(st.just("repeat"), st.integers(0, 2), st.integers(0, 7)),
    st.tuples(st.just("gap"), st.integers(0, 2), st.integers(1, 9)),
    st.tuples(st.just("stale"), st.integers(0, 2), st.integers(1, 4)),
    st.tuples(st.just("settle"), st.integers(0, 100), st.just(0)),
    st.tuples(st.just("rollback"), st.integers(0, 100), st.just(0)),
)


class Model:
    """Every batch still in the log, in order, and the sequence each producer goes on with."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.log: list[BatchHeader] = []
        self.settled = 0

    @property
    def next_offset(self) -> int:
        return self.log[-1].next_offset if self.log else 0

    def epoch(self, producer: int) -> int:
        return max((one.producer_epoch for one in self.log if one.producer_id == producer), default=0)

    def batches(self, producer: int) -> list[BatchHeader]:
        epoch = self.epoch(producer)
        return [one for one in self.log if (one.producer_id, one.producer_epoch) == (producer, epoch)]

    def expected(self, producer: int) -> int:
        batches = self.batches(producer)
        if not batches:
            return self.start
        return (batches[-1].base_sequence + batches[-1].record_count) % (MAX_SEQUENCE + 1)

    def table(self) -> ProducerTable:
        fresh = ProducerTable()
        for one in self.log:
            fresh.replay(one)
        return fresh


@settings(max_examples=150, deadline=None)
@given(st.lists(actions, max_size=60), st.sampled_from([0, 3, MAX_SEQUENCE - 3]))
def test_table_follows_the_log(steps: list[tuple[str, int, int]], start: int) -> None:
    table, model = ProducerTable(), Model(start)

    def accept(batch: BatchHeader) -> None:
        assert table.check(batch) is None
        offset = model.next_offset
        table.accepted(batch, offset, 1000)
        model.log.append(batch._replace(base_offset=offset))

    for kind, number, size in steps:
        if kind == "next":
            accept(header(number, model.epoch(number), model.expected(number), size))
        elif kind == "bump":
            accept(header(number, model.epoch(number) + 1, 0, size))
        elif kind == "repeat" and model.batches(number):
            sent = model.batches(number)
            batch = sent[-1 - size % len(sent)]
            if batch in sent[-5:]:
                stored = table.check(batch._replace(base_offset=0))
                assert stored is not None
                assert stored[2:4] == (batch.base_offset, batch.last_offset)
            else:
                assert code_of(table, batch) is ErrorCode.OUT_OF_ORDER_SEQUENCE
        elif kind == "gap" and model.batches(number):
            wrong = (model.expected(number) + size) % (MAX_SEQUENCE + 1)
            batch = header(number, model.epoch(number), wrong, 1000)
            assert code_of(table, batch) is ErrorCode.OUT_OF_ORDER_SEQUENCE
        elif kind == "stale" and model.epoch(number):
            batch = header(number, model.epoch(number) - 1, model.expected(number), size)
            assert code_of(table, batch) is ErrorCode.INVALID_PRODUCER_EPOCH
        elif kind == "settle":
            model.settled = max(model.settled, min(number, model.next_offset))
            table.settled(model.settled)
        elif kind == "rollback":
            boundaries = [one.base_offset for one in model.log if one.base_offset >= model.settled]
            if boundaries:
                offset = boundaries[number % len(boundaries)]
                table.rollback(offset)
                model.log = [one for one in model.log if one.base_offset < offset]

    assert sorted(table.snapshot()) == sorted(model.table().snapshot())
    restored = ProducerTable()
    restored.restore(table.snapshot())
    assert list(restored.snapshot()) == list(table.snapshot())


@given(st.integers(-5, MAX_SEQUENCE), st.integers(-5, 32767), st.integers(1, 5000))
@settings(max_examples=100, deadline=None)
def test_any_header_is_judged(sequence: int, epoch: int, count: int) -> None:
    table = ProducerTable()
    table.accepted(header(1, 3, MAX_SEQUENCE, 2), 0, 0)
    batch = header(1, epoch, sequence, count)
    if sequence < 0 or epoch < 0:
        assert code_of(table, batch) is ErrorCode.INVALID_RECORD
    elif epoch < 3:
        assert code_of(table, batch) is ErrorCode.INVALID_PRODUCER_EPOCH
    elif sequence == (1 if epoch == 3 else 0):
        assert table.check(batch) is None
    elif (epoch, sequence, count) != (3, MAX_SEQUENCE, 2):
        assert code_of(table, batch) is ErrorCode.OUT_OF_ORDER_SEQUENCE


def test_unknown_producer_may_start_anywhere() -> None:
    assert ProducerTable().check(header(9, 4, 17)) is None


def test_wrap() -> None:
    table = ProducerTable()
    table.accepted(header(1, 0, MAX_SEQUENCE - 1, 2), 0, 0)
    assert table.check(header(1, 0, 0)) is None
    table.accepted(header(1, 0, 0, 3), 2, 0)
    assert table.check(header(1, 0, MAX_SEQUENCE - 1, 2)) == (MAX_SEQUENCE - 1, MAX_SEQUENCE, 0, 1, 9)
    assert code_of(table, header(1, 0, 4)) is ErrorCode.OUT_OF_ORDER_SEQUENCE


def test_expiry() -> None:
    table = ProducerTable()
    table.accepted(header(1, 0, 0), 0, 1000)
    table.accepted(header(2, 0, 0), 1, 1500)
    table.accepted(header(3, 0, 0, attributes=16), 2, 1000)
    table.replay(header(4, 0, 0)._replace(base_offset=3))
    assert table.expire(2000, 1000) == 1
    assert sorted(one.producer_id for one in table.snapshot()) == [2, 3, 4]
    assert table.expire(2999, 1000) == 1
    assert table.expire(3000, 1000) == 1
    assert [one.producer_id for one in table.snapshot()] == [3]


def test_longest_silent_goes_first_when_there_are_too_many() -> None:
    table = ProducerTable(max_producers=2)
    table.accepted(header(1, 0, 0), 0, 0)
    table.accepted(header(2, 0, 0), 1, 0)
    table.accepted(header(1, 0, 1), 2, 0)
    table.accepted(header(3, 0, 0), 3, 0)
    assert [one.producer_id for one in table.snapshot()] == [1, 3]
    assert table.evicted == 1


def test_transaction_is_followed_from_begin_to_marker() -> None:
    table = ProducerTable()
    table.replay(header(1, 0, 0, 2, attributes=16)._replace(base_offset=10))
    table.replay(header(1, 0, 2, 2, attributes=16)._replace(base_offset=12))
    assert table.snapshot()[0].transaction_first_offset == 10
    table.replay(header(1, 0, -1, 1, attributes=48)._replace(base_offset=14))
    assert table.snapshot()[0].transaction_first_offset == 10
    table.replay(
        header(1, 0, -1, 1, attributes=48)._replace(base_offset=15), TransactionMarker(1, 0, True, 0)
    )
    (after,) = table.snapshot()
    assert after.transaction_first_offset == -1
    assert len(after.batches) == 2
    table.replay(header(-1, -1, -1)._replace(base_offset=15))
    assert len(table) == 1
