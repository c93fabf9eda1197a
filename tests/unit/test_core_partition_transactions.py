"""PartitionService and ProducerTable in transactions, on a log whose disk is the test."""

from __future__ import annotations

from megabroker.core.producers import ALL_STABLE, ProducerTable
from megabroker.errors import BrokerError, ErrorCode, StateError
from megabroker.model import Acks, ProducerDescription, ProducerIdentity, TransactionMarker
from tests.unit.core_fakes import disk_full, header
from tests.unit.test_core_partitions import NOW_MS, PartitionTestCase, gone


class TransactionCase(PartitionTestCase):
    def write(self, producer: int, sequence: int, epoch: int = 0, count: int = 1, plain: bool = False) -> int:
        attributes = 0 if plain else 16
        batch = header(count, producer=producer, epoch=epoch, sequence=sequence, attributes=attributes)
        return self.append(batch, name=f"data {producer}")

    def mark(self, producer: int, *, commit: bool = True, epoch: int = 0, coordinator: int = 0) -> int:
        marker = TransactionMarker(producer, epoch, commit, coordinator)
        return self.partition.append_marker(marker, self.done(f"marker {producer}"))

    def code(self, producer: int, sequence: int, epoch: int = 0, plain: bool = False) -> ErrorCode:
        with self.assertRaises(BrokerError) as caught:
            self.write(producer, sequence, epoch, plain=plain)
        return caught.exception.code

    def stable(self) -> int:
        return self.partition.last_stable_offset


class LastStableOffsetTests(TransactionCase):
    def test_waits_for_the_marker_to_be_visible(self) -> None:
        self.write(1, 0)
        self.write(2, 0)
        self.log.sync()
        self.assertEqual((self.partition.high_watermark, self.stable()), (2, 0))
        self.mark(1)
        self.assertEqual(self.stable(), 0)
        self.log.write()
        self.assertEqual(self.stable(), 0)
        self.assertNotIn("marker 1", self.events)
        self.log.sync()
        self.assertIn("marker 1", self.events)
        self.assertEqual((self.partition.high_watermark, self.stable()), (3, 1))
        self.mark(2, commit=False)
        self.log.sync()
        self.assertEqual(self.stable(), 4)
        self.assertEqual([tuple(one) for one in self.partition.aborted_transactions(0, 4)], [(2, 1, 3, 4)])

    def test_watchers_hear_of_it(self) -> None:
        self.partition.watch(lambda: self.events.append(self.stable()))
        self.write(1, 0)
        self.log.sync()
        self.mark(1)
        self.log.sync()
        self.assertEqual(self.events, ["data 1", 0, "marker 1", 2])

    def test_a_marker_taken_back_leaves_the_transaction_open(self) -> None:
        self.write(1, 0)
        self.log.sync()
        self.mark(1)
        self.write(1, 1)
        self.log.fail(1)
        self.assertEqual(
            self.events[1:], [("marker 1", ErrorCode.DISK_FULL), ("data 1", ErrorCode.DISK_FULL)]
        )
        self.assertEqual(self.stable(), 0)
        self.assertEqual(self.partition.open_transactions(), [ProducerIdentity(1, 0)])
        self.assertEqual(self.write(1, 1), 1)
        self.mark(1)
        self.log.sync()
        self.assertEqual(self.stable(), 3)

    def test_a_beginning_taken_back_was_none(self) -> None:
        self.write(1, 0)
        self.log.fail(0)
        self.assertEqual(self.partition.open_transactions(), [])
        self.append(header())
        self.log.sync()
        self.assertEqual(self.stable(), 1)

    def test_never_below_the_start(self) -> None:
        self.write(1, 0, count=5)
        self.log.sync()
        self.log.advance_start(3)
        self.assertEqual(self.stable(), 3)
        self.assertEqual(self.partition.read(3, 10, committed=True).length, 0)

    def test_found_again_after_a_restart(self) -> None:
        self.write(1, 0)
        self.write(2, 0)
        self.mark(1, commit=False, coordinator=4)
        self.log.sync()
        self.partition, self.log = self.open()
        self.assertEqual((self.partition.high_watermark, self.stable()), (3, 1))
        self.assertEqual(self.partition.open_transactions(), [ProducerIdentity(2, 0)])
        self.assertEqual(
            [one for one in self.partition.describe_producers() if one.producer_id == 1],
            [ProducerDescription(1, 0, 0, 1_000, 4, -1)],
        )

    def test_read_committed_ends_there(self) -> None:
        self.append(header())
        self.write(1, 0)
        self.append(header())
        self.log.sync()
        self.assertEqual(self.partition.read(0, 10).data, b"[0, 1, 2]")
        self.assertEqual(self.partition.read(0, 10, committed=True).data, b"[0]")


class MarkerTests(TransactionCase):
    def test_fencing(self) -> None:
        self.write(1, 0, epoch=5)
        for epoch, coordinator, code in ((4, 9, ErrorCode.INVALID_PRODUCER_EPOCH),):
            with self.assertRaises(StateError) as caught:
                self.mark(1, epoch=epoch, coordinator=coordinator)
            self.assertEqual(caught.exception.code, code)
        self.mark(1, epoch=5, coordinator=3)
        with self.assertRaises(StateError) as caught:
            self.mark(1, epoch=5, coordinator=2)
        self.assertEqual(caught.exception.code, ErrorCode.NOT_COORDINATOR)
        self.assertEqual(self.log.next_offset, 2)

    def test_same_epoch_goes_on_with_its_sequences(self) -> None:
        self.write(1, 0)
        self.mark(1)
        self.assertEqual(self.code(1, 0 + 5), ErrorCode.OUT_OF_ORDER_SEQUENCE)
        self.assertEqual(self.code(1, 0), ErrorCode.OUT_OF_ORDER_SEQUENCE, "no repeat, for that one is over")
        self.assertEqual(self.write(1, 1), 2)
        self.assertEqual(self.write(1, 1), 2, "a repeat")

    def test_bumped_epoch_begins_anew(self) -> None:
        self.write(1, 0)
        self.mark(1, epoch=1)
        self.assertEqual(self.code(1, 1), ErrorCode.INVALID_PRODUCER_EPOCH)
        self.assertEqual(self.code(1, 1, epoch=1), ErrorCode.OUT_OF_ORDER_SEQUENCE)
        self.assertEqual(self.write(1, 0, epoch=1), 2)

    def test_of_a_producer_never_seen(self) -> None:
        self.mark(1, epoch=3, commit=False)
        self.log.sync()
        self.assertEqual((self.stable(), list(self.partition.aborted_transactions(0, 9))), (1, []))
        self.assertEqual(self.code(1, 0, epoch=2), ErrorCode.INVALID_PRODUCER_EPOCH)

    def test_nothing_outside_of_an_open_transaction(self) -> None:
        self.write(1, 0)
        self.assertEqual(self.code(1, 1, plain=True), ErrorCode.INVALID_TXN_STATE)
        self.assertEqual(self.code(1, 0, epoch=1, plain=True), ErrorCode.INVALID_TXN_STATE)
        self.write(1, 1)
        self.mark(1)
        self.write(1, 2, plain=True)
        self.log.sync()
        self.assertEqual(self.stable(), 4)

    def test_refused_when_closed_or_broken(self) -> None:
        self.log.append_error = disk_full()
        with self.assertRaises(BrokerError):
            self.mark(1)
        self.assertEqual(len(self.partition.producers), 0)
        self.log.append_error = None
        self.mark(1)
        self.partition.close(gone)
        self.assertEqual(self.events, [("marker 1", ErrorCode.UNKNOWN_TOPIC)])
        with self.assertRaises(BrokerError):
            self.mark(1)

    def test_a_full_queue_does_not_hold_it_up(self) -> None:
        self.append(header(10))
        self.assertFalse(self.partition.has_room(1, 1))
        self.assertEqual(self.mark(1), 10)


class KeepingTests(TransactionCase):
    def test_an_open_transaction_is_never_forgotten(self) -> None:
        self.write(1, 0)
        self.log.sync()
        late = NOW_MS + 10 * self.settings.producer_id_expiration_ms
        self.partition.sweep(late)
        self.assertEqual(len(self.partition.producers), 1)
        self.mark(1)
        self.partition.sweep(late)
        self.assertEqual(len(self.partition.producers), 0)

    def test_nor_when_there_are_too_many(self) -> None:
        table = ProducerTable(max_producers=2)
        for at, (producer, attributes) in enumerate([(1, 16), (2, 0), (3, 16), (4, 16)]):
            batch = header(producer=producer, sequence=0, attributes=attributes)
            self.assertIsNone(table.check(batch))
            table.accepted(batch, at, 0)
        self.assertEqual(sorted(one.producer_id for one in table.snapshot()), [1, 3, 4])
        self.assertEqual((table.evicted, table.first_unstable_offset()), (1, 0))
        for at, producer in enumerate((3, 1, 4), 4):
            table.ended(TransactionMarker(producer, 0, True, 0), at, 0)
        self.assertEqual(table.first_unstable_offset(), 0)
        table.settled(6)
        self.assertEqual(table.first_unstable_offset(), 3)
        table.settled(7)
        self.assertEqual(table.first_unstable_offset(), ALL_STABLE)

    def test_acks_of_transactional_batches(self) -> None:
        batch = header(producer=1, sequence=0, attributes=16)
        self.append(batch, Acks.DURABLE, "durable")
        self.log.write()
        self.assertEqual(self.events, [])
        self.log.sync()
        self.assertEqual(self.events, ["durable"])
