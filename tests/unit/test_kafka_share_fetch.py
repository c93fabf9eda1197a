"""ShareFetch and ShareAcknowledge over connections: sessions, waiting, records, acknowledgements."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred

from megabroker.codec.batch import read_records
from megabroker.model import Change, TransactionMarker
from tests.unit.share_fetch_harness import (
    ACCEPT,
    GAP,
    REJECT,
    RELEASE,
    RENEW,
    ShareCase,
    ShareMember,
    acquired,
)


class FetchTests(ShareCase):
    def setUp(self) -> None:
        super().setUp()
        self.configure(share_auto_offset_reset="earliest")
        self.member = ShareMember(self, "a")

    def partition(self, answer: Any) -> Any:
        [topic] = answer.responses
        [partition] = topic.partitions
        return partition

    def test_records_and_what_is_acquired_of_them(self) -> None:
        self.produce(b"0", b"1")
        self.produce(b"2")
        answer = self.member.fetch()
        self.assertEqual(answer.acquisition_lock_timeout_ms, 30_000)
        self.assertEqual(answer.responses[0].topic_id, self.topic.id.bytes)
        row = self.partition(answer)
        self.assertEqual([one.value for one in read_records(row.records)], [b"0", b"1", b"2"])
        self.assertEqual(acquired(answer), [(0, 2, 1)])
        self.assertEqual(self.member.acquire(), [])

    def test_only_the_batches_of_what_is_acquired(self) -> None:
        for number in range(4):
            self.produce(b"%d" % number)
        answer = self.member.fetch(max_records=2)
        row = self.partition(answer)
        self.assertEqual([one.value for one in read_records(row.records)], [b"0", b"1"])
        self.assertEqual(acquired(answer), [(0, 1, 1)])
        row = self.partition(self.member.fetch((0, 0, RELEASE), (1, 1, ACCEPT), max_records=1))
        self.assertEqual([one.value for one in read_records(row.records)], [b"0"])
        row = self.partition(self.member.fetch(version=1))
        self.assertEqual([one.value for one in read_records(row.records)], [b"2", b"3"])

    def test_acquire_modes(self) -> None:
        self.produce(b"0", b"1", b"2")
        self.assertEqual(self.member.acquire(max_records=2, share_acquire_mode=1), [(0, 1, 1)])
        self.assertEqual(self.member.acquire((0, 1, RELEASE), max_records=2), [(0, 1, 2), (2, 2, 1)])

    def test_two_members_never_have_the_same(self) -> None:
        other = ShareMember(self, "b")
        for number in range(4):
            self.produce(b"%d" % number)
        self.assertEqual(self.member.acquire(max_records=2), [(0, 1, 1)])
        self.assertEqual(other.acquire(), [(2, 3, 1)])
        self.assertEqual(other.acknowledge((0, 1, ACCEPT)), 121)
        self.assertEqual(self.member.acknowledge((0, 1, ACCEPT)), 0)
        self.assertEqual(other.acquire((2, 3, RELEASE)), [(2, 3, 2)])

    def test_several_partitions(self) -> None:
        self.assertEqual(self.member.acquire(indexes=(0, 1)), [])
        self.produce(b"0")
        self.produce(b"1", index=1)
        answer = self.member.fetch(indexes=(0, 1))
        self.assertEqual(sorted(one.partition_index for one in answer.responses[0].partitions), [0, 1])
        self.assertEqual(len(acquired(answer)), 2)

    def test_a_partition_beyond_the_byte_limit_waits_its_turn(self) -> None:
        self.produce(b"0" * 1000)
        self.produce(b"1" * 1000, index=1)
        self.assertEqual(len(self.member.acquire(indexes=(0, 1), max_bytes=1100)), 1)
        self.assertEqual(len(self.member.acquire(indexes=(0, 1), max_bytes=1100)), 1)

    def test_where_a_group_begins(self) -> None:
        self.produce(b"0")
        for reset, expected in (
            ("latest", []),
            ("earliest", [(0, 0, 1)]),
            ("by_duration:PT1H", [(0, 0, 1)]),
        ):
            with self.subTest(reset=reset):
                self.configure(reset, share_auto_offset_reset=reset)
                member = ShareMember(self, "a", reset)
                self.assertEqual(member.acquire(), expected)

    def test_a_log_that_has_been_cut(self) -> None:
        for number in range(4):
            self.produce(b"%d" % number)
        self.assertEqual(self.member.acquire(max_records=1), [(0, 0, 1)])
        self.service.core.topics.partition("t", 0).delete_records(2)
        self.assertEqual(self.member.acquire(), [(2, 3, 1)])
        self.assertEqual(self.member.acknowledge((0, 1, ACCEPT)), 0)

    def test_records_of_transactions(self) -> None:
        partition = self.service.core.topics.partition("t", 0)

        def end(producer: int, commit: bool) -> None:
            partition.append_marker(TransactionMarker(producer, 0, commit, 0), lambda error: None)
            self.turns()

        def begin(producer: int, value: bytes) -> None:
            self.produce(value, producer_id=producer, producer_epoch=0, base_sequence=0, attributes=16)

        begin(1, b"aborted")
        begin(2, b"committed")
        end(1, False)
        end(2, True)
        begin(3, b"open")
        self.configure("c", share_auto_offset_reset="earliest", share_isolation_level="read_committed")
        committed = ShareMember(self, "a", "c")
        self.assertEqual(committed.acquire(), [(1, 1, 1)])
        self.assertEqual(committed.acquire((1, 1, ACCEPT)), [])
        self.assertEqual(
            self.service.core.shares.partitions.get("c", (self.topic.id, 0)).automaton.start_offset, 4
        )
        end(3, True)
        self.assertEqual(committed.acquire(), [(4, 4, 1)])
        self.assertEqual(self.member.acquire(), [(0, 1, 1), (4, 4, 1)])

    def test_nothing_but_aborted_records_before_those_that_count(self) -> None:
        self.configure(share_auto_offset_reset="earliest", share_isolation_level="read_committed")
        partition = self.service.core.topics.partition("t", 0)
        for sequence in range(3):
            self.produce(b"x" * 500, producer_id=1, producer_epoch=0, base_sequence=sequence, attributes=16)
        partition.append_marker(TransactionMarker(1, 0, False, 0), lambda error: None)
        self.turns()
        self.produce(b"counts")
        self.member.send(max_bytes=600, max_wait_ms=1000)
        self.assertEqual(acquired(self.member.received()), [(4, 4, 1)])


class WaitingTests(ShareCase):
    def setUp(self) -> None:
        super().setUp()
        self.configure(share_auto_offset_reset="earliest")
        self.member = ShareMember(self, "a")

    def test_for_a_producer(self) -> None:
        self.member.send(max_wait_ms=1000)
        self.assertIsNone(self.member.received())
        self.produce(b"0")
        self.assertEqual(acquired(self.member.received()), [(0, 0, 1)])

    def test_until_there_is_enough(self) -> None:
        self.member.send(max_wait_ms=1000, min_bytes=200)
        self.produce(b"0" * 100)
        self.assertIsNone(self.member.received())
        self.produce(b"0" * 100)
        self.assertEqual(acquired(self.member.received()), [(0, 1, 1)])

    def test_no_longer_than_asked_for(self) -> None:
        self.member.send(max_wait_ms=1000, min_bytes=200)
        self.produce(b"0" * 100)
        self.turns(0.9)
        self.assertIsNone(self.member.received())
        self.turns(0.2)
        self.assertEqual(acquired(self.member.received()), [(0, 0, 1)])
        self.member.send(max_wait_ms=1000)
        self.turns(1.1)
        self.assertEqual(self.member.received().responses, [])

    def test_for_another_member_to_let_go(self) -> None:
        other = ShareMember(self, "b")
        self.produce(b"0", b"1")
        self.member.acquire()
        other.send(max_wait_ms=60_000)
        self.assertIsNone(other.received())
        self.assertEqual(self.member.acknowledge((0, 1, ACCEPT, RELEASE)), 0)
        self.assertEqual(acquired(other.received()), [(1, 1, 2)])

    def test_for_a_lock_to_time_out(self) -> None:
        self.configure(share_auto_offset_reset="earliest", share_record_lock_duration_ms="1000")
        other = ShareMember(self, "b")
        self.produce(b"0")
        self.assertEqual(self.member.fetch().acquisition_lock_timeout_ms, 1000)
        other.send(max_wait_ms=60_000)
        self.turns(0.9)
        self.assertIsNone(other.received())
        self.turns(0.2)
        self.assertEqual(acquired(other.received()), [(0, 0, 2)])
        self.assertEqual(self.member.acknowledge((0, 0, ACCEPT)), 121)

    def test_a_renewed_lock_holds_for_longer(self) -> None:
        self.configure(share_auto_offset_reset="earliest", share_record_lock_duration_ms="1000")
        other = ShareMember(self, "b")
        self.produce(b"0", b"1")
        self.member.acquire()
        other.send(max_wait_ms=60_000)
        self.turns(0.8)
        self.assertEqual(self.member.acknowledge((0, 0, RENEW), renews=True), 0)
        self.turns(0.5)
        self.assertEqual(acquired(other.received()), [(1, 1, 2)])
        self.assertEqual(self.member.acknowledge((0, 0, ACCEPT)), 0)

    def test_for_a_connection_to_go(self) -> None:
        other = ShareMember(self, "b")
        self.produce(b"0")
        self.member.acquire()
        other.send(max_wait_ms=60_000)
        self.assertIsNone(other.received())
        self.member.connection.connectionLost(None)
        self.assertEqual(acquired(other.received()), [(0, 0, 2)])

    def test_for_a_session_to_end(self) -> None:
        other = ShareMember(self, "b")
        self.produce(b"0", b"1")
        self.member.acquire()
        other.send(max_wait_ms=60_000)
        answer = self.member.fetch((0, 0, ACCEPT), epoch=-1)
        self.assertEqual([one.acknowledge_error_code for one in answer.responses[0].partitions], [0])
        self.assertEqual(acquired(other.received()), [(1, 1, 2)])
        self.assertEqual(self.member.acknowledge((1, 1, ACCEPT)), 122)

    def test_the_topic_goes(self) -> None:
        self.member.send(max_wait_ms=60_000)
        self.assertIsNone(self.member.received())
        self.done(self.service.core.topics.delete("t"))
        answer = self.member.received()
        self.assertEqual(answer.responses[0].partitions[0].error_code, 100)
        self.assertNotIn((self.topic.id, 0), self.service.core.shares.partitions.places("g"))

    def test_a_waiting_fetch_holds_nobody_up(self) -> None:
        self.produce(b"0", b"1")
        self.member.acquire()
        self.member.send(max_wait_ms=60_000)
        self.assertIsNone(self.member.received())
        other = ShareMember(self, "b")
        other.send(max_wait_ms=60_000)
        self.member.connection.connectionLost(None)
        self.assertEqual(acquired(other.received()), [(0, 1, 2)])

    def test_the_broker_stops(self) -> None:
        self.member.send(max_wait_ms=60_000)
        self.member.connection.finish()
        self.assertEqual(self.member.received().responses, [])


class AcknowledgementTests(ShareCase):
    def setUp(self) -> None:
        super().setUp()
        self.configure(share_auto_offset_reset="earliest")
        self.member = ShareMember(self, "a")
        self.produce(*[b"v"] * 10)
        self.assertEqual(self.member.acquire(), [(0, 9, 1)])

    def start(self) -> int:
        return int(self.service.core.shares.partitions.get("g", (self.topic.id, 0)).automaton.start_offset)

    def test_of_every_type(self) -> None:
        for version in (1, 2):
            with self.subTest(version=version):
                first = 5 * (version - 1)
                types = (ACCEPT, RELEASE, REJECT, GAP, ACCEPT)
                self.assertEqual(self.member.acknowledge((first, first + 4, *types), version=version), 0)
        self.assertEqual(self.start(), 1)
        self.assertEqual(self.member.acquire(), [(1, 1, 2), (6, 6, 2)])

    def test_with_a_fetch(self) -> None:
        answer = self.member.fetch((0, 4, ACCEPT), (5, 5, RELEASE))
        [partition] = answer.responses[0].partitions
        self.assertEqual((partition.error_code, partition.acknowledge_error_code), (0, 0))
        self.assertEqual(acquired(answer), [(5, 5, 2)])
        answer = self.member.fetch((0, 9, ACCEPT), (20, 20, ACCEPT))
        [partition] = answer.responses[0].partitions
        self.assertEqual((partition.error_code, partition.acknowledge_error_code), (0, 42))
        self.assertEqual(self.start(), 5)

    def test_malformed_ones(self) -> None:
        for version, renews, wrong in (
            (2, False, (1, 0, ACCEPT)),
            (2, False, (0, 1)),
            (2, False, (0, 1, ACCEPT, ACCEPT, ACCEPT)),
            (2, False, (0, 0, 5)),
            (2, False, (0, 0, -1)),
            (2, False, (0, 0, RENEW)),
            (1, True, (0, 0, RENEW)),
            (2, False, (0, 1 << 62, ACCEPT)),
            (2, False, (10, 10, ACCEPT)),
        ):
            with self.subTest(wrong=wrong, version=version):
                self.assertEqual(self.member.acknowledge(wrong, version=version, renews=renews), 42)
        self.assertEqual(self.member.acknowledge((4, 5, ACCEPT), (3, 3, ACCEPT)), 42)
        self.assertEqual(self.start(), 0)
        self.assertEqual(self.member.acknowledge((-5, 9, ACCEPT)), 42)

    def test_renewed_by_a_fetch_that_fetches_nothing(self) -> None:
        settings = {"max_bytes": 0, "min_bytes": 0, "max_records": 0, "max_wait_ms": 0}
        answer = self.member.fetch((0, 9, RENEW), is_renew_ack=True, **settings)
        self.assertEqual(answer.responses[0].partitions[0].acknowledge_error_code, 0)
        answer = self.member.fetch((0, 9, RENEW), is_renew_ack=True, epoch=2)
        self.assertEqual(answer.error_code, 42)

    def test_nothing_is_told_before_it_is_stored(self) -> None:
        store: Any = self.service._metadata
        rows: list[list[Change]] = []
        held: list[Any] = []
        write = store.write

        def hold(changes: Any) -> Any:
            rows.append(list(changes))
            waiting: Any = Deferred()
            held.append((changes, waiting))
            return waiting

        store.write = hold
        self.member.send((0, 4, ACCEPT), max_wait_ms=0)
        self.assertIsNone(self.member.received())
        [[change]] = rows
        self.assertEqual((change.value["start_offset"], change.value["batches"]), (5, []))
        store.write = write
        for changes, waiting in held:
            write(changes).chainDeferred(waiting)
        answer = self.member.received()
        self.assertEqual(answer.responses[0].partitions[0].acknowledge_error_code, 0)

    def test_delivered_until_the_limit_and_no_more(self) -> None:
        self.configure(share_auto_offset_reset="earliest", share_delivery_count_limit="2")
        self.assertEqual(self.member.acquire((0, 9, RELEASE)), [(0, 9, 2)])
        self.assertEqual(self.member.acquire((0, 9, RELEASE)), [])
        self.assertEqual(self.start(), 10)


class SessionTests(ShareCase):
    def setUp(self) -> None:
        super().setUp()
        self.configure(share_auto_offset_reset="earliest")
        self.member = ShareMember(self, "a")

    def error(self, **fields: Any) -> int:
        return int(self.member.fetch(**fields).error_code)

    def test_epochs(self) -> None:
        self.assertEqual(self.error(epoch=1), 122)
        self.assertEqual(self.error(epoch=-1), 122)
        self.assertEqual(self.error(epoch=0), 0)
        self.assertEqual(self.error(epoch=2), 123)
        self.assertEqual(self.error(epoch=1), 0)
        self.assertEqual(self.error(epoch=1), 123)
        self.assertEqual(self.error(epoch=0), 0)
        self.assertEqual(self.error(epoch=1), 0)
        self.assertEqual(self.member.acknowledge(epoch=0), 123)
        self.assertEqual(self.member.acknowledge(epoch=5), 123)

    def test_no_acknowledgements_at_the_beginning(self) -> None:
        answer = self.member.fetch((0, 0, ACCEPT), epoch=0)
        self.assertEqual(answer.error_code, 42)

    def test_partitions_are_remembered_and_forgotten(self) -> None:
        self.member.acquire()
        self.produce(b"0")
        self.assertEqual(self.member.acquire(indexes=()), [(0, 0, 1)])
        forgotten = type(self.member.request(epoch=0)).ForgottenTopic(
            topic_id=self.topic.id.bytes, partitions=[0]
        )
        self.produce(b"1")
        self.assertEqual(self.member.acquire(indexes=(), forgotten_topics_data=[forgotten]), [])
        self.assertEqual(self.member.acquire(), [(1, 1, 1)])
        # Acknowledged and given up by one request.
        self.produce(b"2")
        self.assertEqual(self.member.acquire((1, 1, ACCEPT), forgotten_topics_data=[forgotten]), [])
        self.assertEqual(self.member.acquire(indexes=()), [])

    def test_names(self) -> None:
        for name, group, code in (("", "g", 42), ("x" * 37, "g", 42), ("a", "", 42), ("a", "none", 69)):
            with self.subTest(name=name, group=group):
                self.member.name, self.member.group = name, group
                self.assertEqual(self.error(epoch=0), code)

    def test_unknown_topics_and_partitions(self) -> None:
        answer = self.member.fetch(topic=UUID(int=9), max_wait_ms=60_000)
        self.assertEqual(answer.responses[0].partitions[0].error_code, 100)
        answer = self.member.fetch(indexes=(7,), epoch=0)
        self.assertEqual(answer.responses[0].partitions[0].error_code, 3)

    def test_who_begins_anew_elsewhere_gets_nothing_here(self) -> None:
        self.member.send(max_wait_ms=60_000)
        self.assertIsNone(self.member.received())
        former, self.member.connection = self.member.connection, self.connect()
        self.assertEqual(self.error(epoch=0), 0)
        self.produce(b"0")
        self.assertEqual(self.received(78, 2, former).responses, [])
        self.assertEqual(self.member.acquire(epoch=1), [(0, 0, 1)])
        former.connectionLost(None)
        self.assertEqual(self.member.acknowledge((0, 0, ACCEPT), epoch=2), 0)

    def test_no_more_sessions_than_may_be(self) -> None:
        self.service.core.shares.sessions.limit = 1
        self.assertEqual(self.error(epoch=0), 0)
        other = ShareMember(self, "b")
        other.send(max_wait_ms=1000)
        self.assertIsNone(other.received())
        self.turns(1.1)
        self.assertEqual(other.received().error_code, 133)
        self.member.connection.connectionLost(None)
        self.assertEqual(other.fetch(epoch=0).error_code, 0)
