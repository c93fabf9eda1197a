"""The rules of the simulation on histories made by hand: what each finds, and what it excuses."""

from __future__ import annotations

from typing import Any

import pytest

from megabroker.simulation import keeping_rules, rules, share_rules
from megabroker.simulation.history import (
    FINAL,
    Accepted,
    Acked,
    Acquired,
    Assigned,
    Batch,
    CommitAcked,
    CommitSent,
    Configured,
    Damaged,
    DeletionAsked,
    Died,
    Fetched,
    History,
    LetGo,
    OffsetRead,
    PowerLost,
    Released,
    Repeated,
    Sent,
    StartSeen,
    SyncFailed,
    TopicKnown,
    TransactionEnded,
    TransactionEnding,
    TransactionOffset,
    Troubled,
)

P = ("t", 0)


def batch(base: int, *names: str, control: bool = False) -> Batch:
    last = base + max(1, len(names)) - 1
    return Batch(base, last, tuple(enumerate(names, base)), control, 100)


def read(time: float, *batches: Batch, **fields: Any) -> Fetched:
    end = batches[-1].last_offset + 1 if batches else 0
    known = {
        "sent": time - 0.1,
        "reader": FINAL,
        "committed": False,
        "partition": P,
        "offset": 0,
        "high_watermark": end,
        "stable_offset": end,
        **fields,
    }
    return Fetched(time=time, batches=batches, **known)


def sent(time: float, *names: str, acks: int = -1, once: bool = False, transaction: int = 0) -> Sent:
    return Sent(time, "p", P, names, acks, once, transaction)


def acked(time: float, base: int, *names: str) -> Acked:
    return Acked(time, "p", P, names, base)


def found(rule: Any, *events: Any, synced: bool = True) -> list[str]:
    return [one.rule for one in rule(History(synced=synced, events=events))]


STORED = (sent(1, "a", "b"), acked(2, 5, "a", "b"))


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ([batch(5, "a", "b")], []),
        ([], ["lost-write"]),
        ([batch(5, "a")], ["lost-write"]),
        ([batch(6, "a", "b")], ["lost-write"]),
        ([batch(5, "b", "a")], ["lost-write"]),
    ],
)
def test_lost_write(batches: list[Batch], expected: list[str]) -> None:
    assert found(rules.lost_write, *STORED, read(9, *batches)) == expected


def test_lost_write_without_a_known_offset() -> None:
    events = (sent(1, "a"), acked(2, -1, "a"))
    assert found(rules.lost_write, *events, read(9, batch(7, "a"))) == []
    assert found(rules.lost_write, *events, read(9)) == ["lost-write"]


@pytest.mark.parametrize(
    ("acks", "synced", "excuse", "expected"),
    [
        (-1, True, PowerLost(3), ["lost-write"]),
        (-1, True, SyncFailed(3), ["lost-write"]),
        (1, True, PowerLost(3), []),
        (1, True, SyncFailed(1.5), []),
        (1, True, PowerLost(0.5), ["lost-write"]),
        (1, True, None, ["lost-write"]),
        (0, True, None, []),
        (-1, False, PowerLost(3), []),
        (-1, False, SyncFailed(3), ["lost-write"]),
        (-1, False, None, ["lost-write"]),
        (-1, True, Damaged(3, P, 5, 5), []),
        (-1, True, Damaged(3, P, 6, 6), ["lost-write"]),
        (-1, True, Damaged(3, ("t", 1), 5, 5), ["lost-write"]),
    ],
)
def test_what_excuses_a_lost_write(acks: int, synced: bool, excuse: Any, expected: list[str]) -> None:
    events = [sent(1, "a", acks=acks), acked(2, 5, "a"), *([] if excuse is None else [excuse]), read(9)]
    assert found(rules.lost_write, *events, synced=synced) == expected


def test_lost_write_above_the_start_only() -> None:
    later = read(9, batch(7, "c"), offset=7)
    assert found(rules.lost_write, *STORED, later) == []
    assert found(rules.lost_write, *STORED, later._replace(offset=6)) == ["lost-write"]


def test_duplicate() -> None:
    twice = read(9, batch(0, "a"), batch(1, "a"))
    assert found(rules.duplicate, sent(1, "a", once=True), twice) == ["duplicate"]
    assert found(rules.duplicate, sent(1, "a"), twice) == []
    assert found(rules.duplicate, sent(1, "a", once=True), read(9, batch(0, "a"))) == []
    weak = [sent(1, "a", once=True), acked(3, 0, "a"), twice]
    assert found(rules.duplicate, PowerLost(2), *weak, synced=False) == []
    assert found(rules.duplicate, PowerLost(4), *weak, synced=False) == ["duplicate"]
    assert found(rules.duplicate, PowerLost(0), *weak, synced=False) == ["duplicate"]


def test_inconsistent_offset() -> None:
    first, second = read(1, batch(3, "a"), reader="r"), read(2, batch(3, "b"), reader="s")
    assert found(rules.inconsistent_offset, first, second) == ["inconsistent-offset"]
    assert found(rules.inconsistent_offset, first, first) == []
    assert found(rules.inconsistent_offset, first, Damaged(1.5, P, 3, 3), second) == []
    assert found(rules.inconsistent_offset, first, PowerLost(1.5), second) == ["inconsistent-offset"]
    assert found(rules.inconsistent_offset, first, PowerLost(1.5), second, synced=False) == []


def test_phantom() -> None:
    assert found(rules.phantom, sent(1, "a"), read(2, batch(0, "a"))) == []
    assert found(rules.phantom, read(2, batch(0, "a"))) == ["phantom"]
    assert found(rules.phantom, sent(3, "a"), read(2, batch(0, "a"))) == ["phantom"]
    other = sent(1, "a")._replace(partition=("t", 1))
    assert found(rules.phantom, other, read(2, batch(0, "a"))) == ["phantom"]
    former, later = sent(1, "a")._replace(partition=("t#1", 0)), read(3, batch(0, "a"), partition=("t#2", 0))
    assert found(rules.phantom, former, later) == ["phantom"]
    assert found(rules.phantom, former, PowerLost(2), later, synced=False) == []
    assert found(rules.phantom, former, PowerLost(2), later) == ["phantom"]
    assert found(rules.phantom, former, later, PowerLost(4), synced=False) == ["phantom"]


@pytest.mark.parametrize(
    ("ending", "outcome", "committed", "expected"),
    [
        (TransactionEnding(2, 7, False), "aborted", True, ["aborted-read"]),
        (TransactionEnding(2, 7, False), "aborted", False, []),
        (TransactionEnding(2, 7, True), "committed", True, []),
        (TransactionEnding(2, 7, True), "unknown", True, []),
        (TransactionEnding(5, 7, True), "committed", True, ["aborted-read"]),
        (None, "aborted", True, ["aborted-read"]),
    ],
)
def test_aborted_read(ending: Any, outcome: str, committed: bool, expected: list[str]) -> None:
    events = [sent(1, "a", transaction=7), *([] if ending is None else [ending])]
    reading = read(4, batch(0, "a"), committed=committed)
    assert found(rules.aborted_read, *events, reading, TransactionEnded(6, 7, outcome)) == expected


def test_aborted_read_after_a_cut_without_syncs() -> None:
    ended = TransactionEnding(2, 7, False), TransactionEnded(3, 7, "aborted")
    events = [sent(1, "a", transaction=7), *ended, read(5, batch(0, "a"), committed=True)]
    assert found(rules.aborted_read, *events, PowerLost(4), synced=False) == []
    assert found(rules.aborted_read, *events, PowerLost(4)) == ["aborted-read"]
    for time in (0.5, 6):
        assert found(rules.aborted_read, *events, PowerLost(time), synced=False) == ["aborted-read"]


def test_torn_transaction_after_a_cut_without_syncs() -> None:
    events = [sent(2, "a", transaction=7), acked(3, 0, "a"), TransactionEnded(5, 7, "committed")]
    last = read(9, committed=True)
    assert found(rules.torn_transaction, *events, PowerLost(1), last, synced=False) == ["torn-transaction"]
    assert found(rules.torn_transaction, *events, PowerLost(6), last, synced=False) == []
    offset = TransactionOffset(2, 7, "g", P, 3), OffsetRead(9, 8, FINAL, "g", P, -1)
    ended = TransactionEnded(5, 7, "committed")
    assert found(rules.torn_transaction, *offset, ended, PowerLost(1), synced=False) == ["torn-transaction"]
    assert found(rules.torn_transaction, *offset, ended, PowerLost(6), synced=False) == []


@pytest.mark.parametrize(
    ("there", "outcome", "expected"),
    [
        (["a", "b"], "committed", []),
        (["a"], "committed", ["torn-transaction"]),
        ([], "committed", ["torn-transaction"]),
        ([], "aborted", []),
        ([], "unknown", []),
        (["a", "b"], "unknown", []),
        (["b"], "unknown", ["torn-transaction"]),
        (["b"], "aborted", ["torn-transaction"]),
    ],
)
def test_torn_transaction(there: list[str], outcome: str, expected: list[str]) -> None:
    events = [sent(1, "a", transaction=7), acked(2, 0, "a"), sent(3, "b", transaction=7), acked(4, 1, "b")]
    batches = [batch("ab".index(name), name) for name in there]
    last = read(9, *batches, committed=True)
    assert found(rules.torn_transaction, *events, TransactionEnded(5, 7, outcome), last) == expected


@pytest.mark.parametrize(
    ("outcomes", "offset", "expected"),
    [
        (["committed", "aborted"], 10, []),
        (["committed", "aborted"], 20, ["torn-transaction"]),
        (["committed", "committed"], 10, ["torn-transaction"]),
        (["committed", "unknown"], 10, []),
        (["committed", "unknown"], 20, []),
        (["aborted", "aborted"], -1, []),
        (["committed", "aborted"], -1, ["torn-transaction"]),
    ],
)
def test_torn_offsets(outcomes: list[str], offset: int, expected: list[str]) -> None:
    events: list[Any] = []
    for number, outcome in enumerate(outcomes, 1):
        events.append(TransactionOffset(number, number, "g", P, number * 10))
        events.append(TransactionEnded(number + 0.5, number, outcome))
    last = OffsetRead(9, 8, FINAL, "g", P, offset)
    assert found(rules.torn_transaction, *events, last) == expected


def test_offset_gap() -> None:
    assert found(rules.offset_gap, read(1, batch(0, "a", "b"), batch(2, "c"))) == []
    assert found(rules.offset_gap, read(1, batch(0, "a", "b"), offset=1)) == []
    hole = read(1, batch(0, "a"), batch(2, "c"))
    assert found(rules.offset_gap, hole) == ["offset-gap"]
    assert found(rules.offset_gap, Damaged(0, P, 1, 1), hole) == []
    assert found(rules.offset_gap, read(1, batch(3, "a"))) == ["offset-gap"]
    assert found(rules.offset_gap, read(1, batch(0, "a"), batch(0, "b"))) == ["offset-gap"]
    assert found(rules.offset_gap, Configured(0, "t", True, -1), hole) == []
    assert found(rules.offset_gap, sent(0, "a"), PowerLost(0.5), hole) == []
    assert found(rules.offset_gap, PowerLost(0), sent(0.5, "a"), hole) == ["offset-gap"]
    again = read(1, batch(0, "a"), batch(0, "b"))
    assert found(rules.offset_gap, sent(0, "b"), PowerLost(0.5), again) == ["offset-gap"]


@pytest.mark.parametrize("name", ["high_watermark", "stable_offset"])
def test_watermark_regress(name: str) -> None:
    high, low = read(1, **{name: 5}), read(2, **{name: 4})
    assert found(rules.watermark_regress, high, low) == ["watermark-regress"]
    assert found(rules.watermark_regress, low, high._replace(time=3, sent=2.5)) == []
    overlapping = low._replace(sent=0.5)
    assert found(rules.watermark_regress, high, overlapping) == []
    assert found(rules.watermark_regress, high, Damaged(1.5, P, 4, 4), low) == []
    assert found(rules.watermark_regress, high, PowerLost(1.5), low) == ["watermark-regress"]
    assert found(rules.watermark_regress, high, PowerLost(1.5), low, synced=False) == []


def test_watermark_regress_where_the_beginning_of_a_transaction_was_deleted() -> None:
    """The last stable offset is where the log begins then, which may be forgotten; nothing else may be."""
    rule, asked, full = rules.watermark_regress, DeletionAsked(1, P, 4), Troubled(0)
    high, low = read(2, high_watermark=5, stable_offset=4), read(9, high_watermark=5, stable_offset=3)
    assert found(rule, full, asked, high, Died(5), low) == []
    assert found(rule, asked, high, Died(2.5), low) == []
    assert found(rule, asked, high, Died(5), low) == ["watermark-regress"]
    assert found(rule, full, asked, high, low) == ["watermark-regress"]
    assert found(rule, full, high, Died(5), low) == ["watermark-regress"]
    assert found(rule, full, DeletionAsked(3, P, 4), high, Died(5), low) == ["watermark-regress"]
    assert found(rule, full, DeletionAsked(1, P, 3), high, Died(5), low) == ["watermark-regress"]
    assert found(rule, full, DeletionAsked(1, ("t", 1), 4), high, Died(5), low) == ["watermark-regress"]
    lower = low._replace(stable_offset=2)
    before = high._replace(time=0.5, sent=0.4, stable_offset=3)
    assert found(rule, full, before, asked, high, Died(5), low) == []
    assert found(rule, full, before, asked, high, Died(5), lower) == ["watermark-regress"]
    fewer = low._replace(high_watermark=4)
    assert found(rule, full, DeletionAsked(1, P, 5), high, Died(5), fewer) == ["watermark-regress"] * 2


def test_committed_offset_regress() -> None:
    def told(offset: int) -> OffsetRead:
        return OffsetRead(5, 4, "r", "g", P, offset)

    commits = [CommitSent(1, "g", P, 3), CommitSent(2, "g", P, 7), CommitAcked(3, "g", P, 7)]
    regress = ["committed-offset-regress"]
    assert found(rules.committed_offset_regress, *commits, told(7)) == []
    assert found(rules.committed_offset_regress, *commits, told(3)) == regress
    assert found(rules.committed_offset_regress, *commits, told(-1)) == regress
    assert found(rules.committed_offset_regress, *commits, told(8)) == regress
    late = [*commits, CommitSent(3.5, "g", P, 9)]
    assert found(rules.committed_offset_regress, *late, told(7)) == []
    assert found(rules.committed_offset_regress, *late, told(9)) == []
    again = [*commits, CommitSent(3.5, "g", P, 3)]
    assert found(rules.committed_offset_regress, *again, told(3)) == []
    assert found(rules.committed_offset_regress, *commits, PowerLost(3.2), told(3), synced=False) == []


def test_two_owners_in_a_generation() -> None:
    first = Assigned(1, "g", 4, "m", (P,))
    assert found(rules.two_owners, first, Assigned(2, "g", 4, "n", (P,))) == ["two-owners"]
    assert found(rules.two_owners, first, Assigned(2, "g", 5, "n", (P,))) == []
    assert found(rules.two_owners, first, Assigned(2, "h", 4, "n", (P,))) == []
    assert found(rules.two_owners, first, Assigned(2, "g", 4, "n", (("t", 1),))) == []
    other = PowerLost(1.5), Assigned(2, "g", 4, "n", (P,))
    assert found(rules.two_owners, first, *other, synced=False) == []


def test_two_owners_at_a_time() -> None:
    first, second = Assigned(1, "g", -1, "m", (P,)), Assigned(3, "g", -1, "n", (P,))
    assert found(rules.two_owners, first, second) == ["two-owners"]
    assert found(rules.two_owners, first, Released(2, "g", "m", ()), second) == []
    assert found(rules.two_owners, first, Released(2, "g", "m", (P,)), second) == ["two-owners"]


def test_two_owners_at_a_time_after_a_cut_without_syncs() -> None:
    first, second = Assigned(1, "g", -1, "m", (P,)), Assigned(3, "g", -1, "n", (P,))
    assert found(rules.two_owners, first, PowerLost(2), second, synced=False) == []
    assert found(rules.two_owners, PowerLost(0), first, second, synced=False) == ["two-owners"]


def test_acked_order() -> None:
    events = [sent(1, "a", "b"), acked(2, 5, "a", "b"), sent(3, "c")]
    assert found(rules.acked_order, *events, acked(4, 7, "c")) == []
    assert found(rules.acked_order, *events, acked(4, 6, "c")) == ["acked-order"]
    assert found(rules.acked_order, *events, acked(4, 1, "c")) == ["acked-order"]
    assert found(rules.acked_order, *events, acked(4, -1, "c")) == []
    weak = [sent(1, "a", acks=1), acked(2, 5, "a"), sent(3, "c", acks=1)]
    assert found(rules.acked_order, *weak, acked(4, 5, "c")) == ["acked-order"]
    assert found(rules.acked_order, *weak, PowerLost(3.5), acked(4, 5, "c")) == []
    for synced in (False, True):  # what came back was another's, of after the last cut
        others = [one._replace(producer="other") for one in (sent(2.5, "x"), acked(3, 1, "x"))]
        history = [PowerLost(0.5), *events, *others, acked(4, 1, "c")]
        assert found(rules.acked_order, *history, synced=synced) == ["acked-order"]


def test_lost_topic() -> None:
    def known(time: float, reader: str, exists: bool) -> TopicKnown:
        return TopicKnown(time, reader, "t", exists)

    made, deleted = known(1, "a", True), known(2, "a", False)
    assert found(rules.lost_topic, made, known(9, FINAL, True)) == []
    assert found(rules.lost_topic, made, known(9, FINAL, False)) == ["lost-topic"]
    assert found(rules.lost_topic, made, deleted, known(9, FINAL, True)) == ["lost-topic"]
    assert found(rules.lost_topic, made, PowerLost(3), known(9, FINAL, False), synced=False) == []
    assert found(rules.lost_topic, PowerLost(0), made, known(9, FINAL, False), synced=False) == ["lost-topic"]


def test_stored_repeat() -> None:
    def repeated(time: float) -> Repeated:
        return Repeated(time, "p", P, ("a",))

    rule, twice = keeping_rules.stored_repeat, read(99, batch(0, "a"), batch(1, "a"))
    first = sent(30, "a")
    answered = [first, acked(31, -1, "a"), repeated(40)]
    assert found(rule, *answered, read(99, batch(0, "a"))) == []
    assert found(rule, *answered, twice) == ["stored-repeat"]
    assert found(rule, *answered, Died(35), twice) == ["stored-repeat"]
    assert found(rule, *answered, PowerLost(35), twice) == []
    assert found(rule, *answered, Troubled(35), twice) == []
    unanswered = [first, repeated(40), acked(41, -1, "a")]
    assert found(rule, *unanswered, twice) == ["stored-repeat"]
    assert found(rule, *unanswered, Died(35), twice) == []
    assert found(rule, *unanswered, Died(35), read(99, *(batch(at, "a") for at in range(3)))) == [
        "stored-repeat"
    ]


def test_newest_kept() -> None:
    rule, compact = keeping_rules.newest_kept, Configured(0, "t", True, -1)
    events = [sent(1, "a@1", "b@2"), acked(2, 0, "a@1", "b@2"), sent(3, "c@1"), acked(4, 2, "c@1")]

    def last(*batches: Batch) -> Fetched:
        return read(9, *batches, committed=True)

    assert found(rule, compact, *events, last(batch(1, "b@2"), batch(2, "c@1"))) == []
    assert found(rule, compact, *events, last(batch(0, "a@1"), batch(1, "b@2"))) == ["newest-kept"]
    assert found(rule, compact, *events, last(batch(2, "c@1"))) == ["newest-kept"]
    assert found(rule, compact, *events, last(batch(1, "b@2"), batch(2, "x@1"))) == ["newest-kept"]
    assert found(rule, *events, last(batch(2, "c@1"))) == []
    assert found(rule, compact, *events, Damaged(5, P, 1, 1), last(batch(2, "c@1"))) == []
    aborted = [sent(5, "d@2", transaction=7), acked(6, 3, "d@2"), TransactionEnded(7, 7, "aborted")]
    assert found(rule, compact, *events, *aborted, last(batch(1, "b@2"), batch(2, "c@1"))) == []
    assert found(rule, compact, *events, *aborted, last(batch(2, "c@1"))) == ["newest-kept"]


def test_vanished() -> None:
    rule = keeping_rules.vanished
    last = read(9, batch(5, "a"), offset=5)
    assert found(rule, read(9, batch(0, "a"))) == []
    assert found(rule, last) == ["vanished"]
    assert found(rule, DeletionAsked(1, P, 5), last) == []
    assert found(rule, DeletionAsked(1, P, 4), last) == ["vanished"]
    assert found(rule, DeletionAsked(1, ("t", 1), 5), last) == ["vanished"]
    assert found(rule, Configured(1, "t", False, 4196), last) == []
    assert found(rule, Configured(1, "t", False, 4197), last) == ["vanished"]
    assert found(rule, Configured(1, "t", False, 4197), PowerLost(2), last) == []
    assert found(rule, PowerLost(2), last) == ["vanished"]
    assert found(rule, PowerLost(2), last, synced=False) == []


def test_start_regress() -> None:
    def told(time: float, offset: int) -> StartSeen:
        return StartSeen(time, time - 0.1, "r", P, offset)

    rule, high, low = keeping_rules.start_regress, told(20, 5), told(25, 4)
    assert found(rule, high, told(25, 5)) == []
    assert found(rule, high, low) == ["start-regress"]
    assert found(rule, high, low._replace(sent=19.5)) == []
    assert found(rule, high, Died(20.5), low) == []
    assert found(rule, high, Died(22), low) == ["start-regress"]
    assert found(rule, Troubled(15), high, Died(22), low) == []
    assert found(rule, Troubled(15), high, low) == ["start-regress"]


def test_accepted_again() -> None:
    rule, done = share_rules.accepted_again, Accepted(2, "g", P, 3, 5)
    given = Acquired(4, 3, 6, "g", "m", P, 5, 9)
    assert found(rule, done, given) == ["accepted-again"]
    assert found(rule, done, given._replace(first_offset=6)) == []
    assert found(rule, done, given._replace(group="h")) == []
    assert found(rule, done, given._replace(sent=1.5)) == []
    assert found(rule, done, PowerLost(2.5), given, synced=False) == []
    assert found(rule, done, PowerLost(2.5), given) == ["accepted-again"]


def test_two_hands() -> None:
    rule = share_rules.two_hands
    first, then = Acquired(2, 1, 6, "g", "m", P, 3, 5), Acquired(4, 3, 8, "g", "n", P, 5, 9)
    assert found(rule, first, then) == ["two-hands"]
    assert found(rule, first, then._replace(member="m")) == ["two-hands"]
    assert found(rule, first, then._replace(first_offset=6)) == []
    assert found(rule, first, then._replace(sent=1.5)) == []
    assert found(rule, first, then._replace(time=6.5)) == []
    assert found(rule, first, LetGo(3.5, "g", "m", P, 3, 5), then) == []
    assert found(rule, first, LetGo(4.5, "g", "m", P, 3, 5), then) == ["two-hands"]
    assert found(rule, first, LetGo(3.5, "g", "n", P, 3, 5), then) == ["two-hands"]


def test_check_applies_every_rule() -> None:
    assert rules.check(History(synced=True, events=STORED)) == []
    history = History(synced=True, events=[*STORED, read(9, batch(0, "x"))])
    assert {one.rule for one in rules.check(history)} == {"lost-write", "phantom"}
    assert len(rules.RULES) == len(set(rules.RULES))
