"""Verdicts on batches of idempotent producers, case by case as Apache Kafka gives them.

But for one: Kafka takes a batch for a repeat of one whose transaction is over, and does not store it.
"""

from __future__ import annotations

import pytest

from megabroker.core.producers import MAX_SEQUENCE, ProducerTable
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import BatchHeader, TransactionMarker

TRANSACTIONAL = 16
STORED = None
OUT_OF_ORDER = ErrorCode.OUT_OF_ORDER_SEQUENCE
OLD_EPOCH = ErrorCode.INVALID_PRODUCER_EPOCH
INVALID = ErrorCode.INVALID_RECORD
OUTSIDE = ErrorCode.INVALID_TXN_STATE

Sent = tuple[int, int, int]
"""(epoch, first sequence, number of records)"""


def header(epoch: int, sequence: int, count: int, attributes: int = 0) -> BatchHeader:
    return BatchHeader(0, 88, -1, 2, 0, attributes, count - 1, 5, 9, 1, epoch, sequence, count)


def table(*sent: Sent, attributes: int = 0) -> ProducerTable:
    """Return what is known after these batches; their offsets count from 0."""
    found, offset = ProducerTable(), 0
    for epoch, sequence, count in sent:
        found.accepted(header(epoch, sequence, count, attributes), offset, 1000)
        offset += count
    return found


def verdict(known: ProducerTable, batch: BatchHeader) -> ErrorCode | int | None:
    """Return an error, the base offset of what is repeated, or None for a batch to be stored."""
    try:
        repeat = known.check(batch)
    except BrokerError as error:
        return error.code
    return None if repeat is None else repeat[2]


SIX: tuple[Sent, ...] = tuple((0, 2 * number, 2) for number in range(6))

CASES: dict[str, tuple[tuple[Sent, ...], Sent, ErrorCode | int | None]] = {
    "a new producer at 0": ((), (0, 0, 1), STORED),
    "a producer whose state has expired": ((), (3, 17, 2), STORED),
    "the next one": (((0, 0, 3),), (0, 3, 1), STORED),
    "a gap": (((0, 0, 3),), (0, 4, 1), OUT_OF_ORDER),
    "back, and not what was sent": (((0, 0, 3),), (0, 1, 1), OUT_OF_ORDER),
    "the same again": (((0, 0, 3),), (0, 0, 3), 0),
    "the same beginning, shorter": (((0, 0, 3),), (0, 0, 2), OUT_OF_ORDER),
    "the same beginning, longer": (((0, 0, 3),), (0, 0, 4), OUT_OF_ORDER),
    "two of before as one": (((0, 0, 2), (0, 2, 2)), (0, 0, 4), OUT_OF_ORDER),
    "the fifth last": (SIX, (0, 2, 2), 2),
    "the last": (SIX, (0, 10, 2), 10),
    "the sixth last is not remembered": (SIX, (0, 0, 2), OUT_OF_ORDER),
    "a new epoch at 0": (((0, 0, 3),), (1, 0, 1), STORED),
    "a new epoch going on": (((0, 0, 3),), (1, 3, 1), OUT_OF_ORDER),
    "a new epoch forgets what the old one sent": (((0, 0, 3), (1, 0, 1)), (1, 0, 3), OUT_OF_ORDER),
    "many epochs later": (((0, 0, 3),), (9, 0, 1), STORED),
    "an old epoch at 0": (((1, 0, 3),), (0, 0, 1), OLD_EPOCH),
    "an old epoch going on": (((1, 0, 3),), (0, 3, 1), OLD_EPOCH),
    "an old epoch repeating itself": (((0, 0, 3), (1, 0, 1)), (0, 0, 3), OLD_EPOCH),
    "0 after the last number": (((0, MAX_SEQUENCE - 1, 2),), (0, 0, 1), STORED),
    "1 after the last number": (((0, MAX_SEQUENCE - 1, 2),), (0, 1, 1), OUT_OF_ORDER),
    "the last number again": (((0, MAX_SEQUENCE, 1),), (0, MAX_SEQUENCE, 1), 0),
    "after a batch over the last number": (((0, MAX_SEQUENCE - 1, 5),), (0, 3, 1), STORED),
    "a batch over the last number again": (((0, MAX_SEQUENCE - 1, 5),), (0, MAX_SEQUENCE - 1, 5), 0),
    "no sequence": (((0, 0, 1),), (0, -1, 1), INVALID),
    "no epoch": (((0, 0, 1),), (-1, 0, 1), INVALID),
}


@pytest.mark.parametrize("case", CASES)
def test_case(case: str) -> None:
    sent, batch, expected = CASES[case]
    assert verdict(table(*sent), header(*batch)) == expected


@pytest.mark.parametrize("case", [case for case, (sent, _, _) in CASES.items() if sent])
def test_case_after_a_snapshot(case: str) -> None:
    sent, batch, expected = CASES[case]
    restored = ProducerTable()
    restored.restore(table(*sent).snapshot())
    assert verdict(restored, header(*batch)) == expected


AFTER_MARKER: dict[str, tuple[int, Sent, ErrorCode | int | None]] = {
    "the first kind goes on in its epoch": (0, (0, 3, 1), STORED),
    "and sends nothing again that is over": (0, (0, 0, 3), OUT_OF_ORDER),
    "and not begin anew": (0, (0, 0, 1), OUT_OF_ORDER),
    "the second kind begins anew": (1, (1, 0, 1), STORED),
    "and must do so": (1, (1, 3, 1), OUT_OF_ORDER),
    "the epoch before is fenced": (1, (0, 3, 1), OLD_EPOCH),
    "a later epoch too begins at 0": (1, (2, 0, 1), STORED),
    "and nowhere else": (1, (2, 1, 1), OUT_OF_ORDER),
}


@pytest.mark.parametrize("case", AFTER_MARKER)
@pytest.mark.parametrize("restored", [False, True], ids=["", "restored"])
def test_after_a_marker(case: str, restored: bool) -> None:
    marker_epoch, batch, expected = AFTER_MARKER[case]
    known = table((0, 0, 3), attributes=TRANSACTIONAL)
    known.ended(TransactionMarker(1, marker_epoch, True, 0), 3, 1000)
    if restored:
        snapshot = known.snapshot()
        known = ProducerTable()
        known.restore(snapshot)
    assert verdict(known, header(*batch, attributes=TRANSACTIONAL)) == expected


def test_what_an_open_transaction_has() -> None:
    known = table((0, 0, 3), (0, 3, 2), attributes=TRANSACTIONAL)
    assert all(known.is_repeat(header(*one, attributes=TRANSACTIONAL)) for one in ((0, 0, 3), (0, 3, 2)))
    for other in ((0, 5, 1), (0, 3, 1), (0, 3, 3), (0, 7, 1), (1, 0, 3), (0, -1, 1)):
        assert not known.is_repeat(header(*other, attributes=TRANSACTIONAL))
    known.ended(TransactionMarker(1, 0, True, 0), 5, 1000)
    assert not known.is_repeat(header(0, 3, 2, TRANSACTIONAL))
    known.accepted(header(0, 5, 1, TRANSACTIONAL), 6, 1000)
    assert known.is_repeat(header(0, 5, 1, TRANSACTIONAL))
    assert not known.is_repeat(header(0, 3, 2, TRANSACTIONAL))  # the one before it had that
    assert not ProducerTable().is_repeat(header(0, 0, 1, TRANSACTIONAL))


@pytest.mark.parametrize("batch", [(0, 3, 1), (1, 0, 1)], ids=["same epoch", "next epoch"])
def test_nothing_outside_of_an_open_transaction(batch: Sent) -> None:
    known = table((0, 0, 3), attributes=TRANSACTIONAL)
    assert verdict(known, header(*batch)) is OUTSIDE
    assert verdict(known, header(*batch, attributes=TRANSACTIONAL)) is STORED


MARKERS: dict[str, tuple[int, int, ErrorCode | None]] = {
    "of the present epoch": (1, 5, None),
    "of a later epoch": (2, 5, None),
    "of an old epoch": (0, 5, OLD_EPOCH),
    "of a later coordinator": (1, 6, None),
    "of a former coordinator": (1, 4, ErrorCode.NOT_COORDINATOR),
}


@pytest.mark.parametrize("case", MARKERS)
def test_markers(case: str) -> None:
    epoch, coordinator_epoch, expected = MARKERS[case]
    known = table((1, 0, 1), attributes=TRANSACTIONAL)
    known.ended(TransactionMarker(1, 1, True, 5), 1, 1000)
    found = None
    try:
        known.check_marker(TransactionMarker(1, epoch, True, coordinator_epoch))
    except BrokerError as error:
        found = error.code
    assert found == expected
