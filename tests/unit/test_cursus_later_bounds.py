"""What one client of the later dialect can have the broker keep, and do in one turn."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from megabroker.protocols.cursus.later import event_streams, transactions
from megabroker.protocols.cursus.later.calling import turn
from megabroker.protocols.cursus.later.parsing import parse
from megabroker.protocols.cursus.later.publishing import EVENT_SOURCING
from megabroker.protocols.cursus.later.refusals import Refusal
from megabroker.protocols.cursus.later.words import WORDS
from tests.unit.call_counting import Calls, CountingCase

_LONG = "x" * 30_000


class BoundsCase(CountingCase):
    def run_errand(self, errands: Any, name: str, blob: bytes = b"", **fields: Any) -> Any:
        return self.done(Deferred.fromCoroutine(errands[name](fields, blob)))

    def test_ids_of_transactions_are_kept_within_a_bound(self) -> None:
        errands = transactions.errands(self.service.broker)
        kept = errands["begin"].__self__  # type: ignore[attr-defined]
        for number in range(600):
            name = f"{number}{_LONG}"
            fields, _ = self.run_errand(errands, "init_producer", transactional_id=name)
            who = {"transactional_id": name, "producerId": str(fields["id"]), "epoch": fields["epoch"]}
            self.run_errand(errands, "begin", **who)
        self.assertLessEqual(sum(map(len, kept._begun)), transactions._MOST_BYTES)
        self.assertGreater(len(kept._begun), 400)
        self.assertLessEqual(kept._size_bytes, transactions._MOST_BYTES)
        for name in list(kept._begun):
            self.run_errand(errands, "init_producer", transactional_id=name)
        self.assertEqual(kept._size_bytes, 0)

    def test_reading_many_events_has_turns_for_others_in_between(self) -> None:
        broker = self.service.broker
        self.done(broker.topics.create("events", 1, {EVENT_SOURCING: "true"}))
        errands = event_streams.errands(broker)
        place = {"topic": "events", "partition": 0, "key": "k"}
        event = {"producerId": None, "event_type": "", "schema_version": 1, "metadata": ""}
        for version in range(1, 4001):
            self.run_errand(errands, "append_event", b"x", **place, **event, version=version)
        asked = {**place, "begin": 1, "limit": None, "max_bytes": 16 << 20}
        calls = self.reactor.counting = Calls()
        spent = []

        def noted(of: Any) -> Deferred[None]:
            spent.append(sum(calls.totals) - sum(spent))
            return turn(of)

        self.patch(event_streams, "turn", noted)
        found = []
        self.reactor.callLater(
            0, lambda: Deferred.fromCoroutine(errands["read_events"](asked, b"")).addCallback(found.append)
        )
        self.reactor.until(lambda: found)
        self.reactor.counting = None
        self.assertEqual(found[0][0]["count"], 4000)
        self.assertLess(max(*spent, sum(calls.totals) - sum(spent)), 30_000)


def test_a_long_frame_is_not_searched_for_its_message() -> None:
    text = b" topic=t " + b"x" * (16 << 20)
    spent = []
    for _ in range(3):
        began = perf_counter()
        with pytest.raises(Refusal):
            parse(WORDS["PUBLISH"], text)
        spent.append(perf_counter() - began)
    assert min(spent) < 0.08  # it takes 1 ms, a search of all of it 250
