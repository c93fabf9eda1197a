"""Produce within transactions against the real coordinator, while its store or the logs fail."""

from __future__ import annotations

from typing import Any

from megabroker.codec.batch import build
from megabroker.errors import ErrorCode, StorageError
from megabroker.model import ProducerIdentity
from megabroker.protocols.kafka.schema import produce
from tests.unit.test_kafka_produce import ProduceCase, Request, frame

_VERSION = 12
STORAGE, TIMED_OUT, OUT_OF_ORDER, NONE = 56, 7, 45, 0


class CoordinatedCase(ProduceCase):
    def setUp(self) -> None:
        super().setUp()
        self.transactions = self.service.core.transactions
        self.me = self.begin()

    def begin(self) -> ProducerIdentity:
        return self.done(self.transactions.init_producer("id", 60_000, None))

    def send(self, sequence: int, *indexes: int) -> bytes:
        """Send one batch for each of the partitions; return what comes back."""
        rows = [
            Request.Topic.Partition(index=index, records=self.batch(sequence)) for index in indexes or (0,)
        ]
        message = Request(
            transactional_id="id", acks=-1, topic_data=[Request.Topic(name="t", partition_data=rows)]
        )
        return self.exchange(frame(message.encode(_VERSION), _VERSION, sequence))

    def batch(self, sequence: int) -> bytes:
        return bytes(
            build(
                [(None, b"v", (), 5)],
                producer_id=self.me.producer_id,
                producer_epoch=self.me.producer_epoch,
                base_sequence=sequence,
                attributes=16,
            )
        )

    def rows(self, data: bytes) -> list[produce.Response.Topic.Partition]:
        [(_, message)] = self.answers(data, _VERSION)
        return message.responses[0].partition_responses

    def codes(self, data: bytes) -> list[int]:
        return [row.error_code for row in self.rows(data)]

    def wait(self) -> bytes:
        """Let time pass until nothing more is answered."""
        for _ in range(100):
            self.clock.advance(0.01)
        return self.exchange()

    def ends(self) -> list[int]:
        return [self.service.core.topics.partition("t", index).log.next_offset for index in (0, 1)]


class PartitionsThatCannotBeAddedTests(CoordinatedCase):
    def test_every_partition_of_the_request_is_answered_and_a_retry_is_stored(self) -> None:
        store = self.service._metadata
        write = store.write

        def failing(changes: Any) -> Any:
            raise StorageError(ErrorCode.STORAGE, "the disk is gone")

        store.write = failing
        self.assertEqual(self.codes(self.send(0, 0, 1) + self.wait()), [STORAGE, STORAGE])
        self.assertEqual(self.ends(), [0, 0])
        store.write = write
        self.assertEqual(self.codes(self.send(0, 0, 1) + self.wait()), [NONE, NONE])
        self.assertEqual(self.ends(), [1, 1])

    def test_the_short_way_tells_it_too(self) -> None:
        self.assertEqual(self.codes(self.send(0) + self.wait()), [NONE])
        self.assertEqual(self.codes(self.send(1) + self.wait()), [NONE])
        self.assertIsNotNone(self.connection.template)
        self.me = self.done(self.transactions.end("id", self.me, True, bump_epoch=True))
        self.wait()
        store = self.service._metadata
        write = store.write

        def failing(changes: Any) -> Any:
            raise StorageError(ErrorCode.STORAGE, "the disk is gone")

        store.write = failing
        self.assertEqual(self.codes(self.send(0) + self.wait()), [STORAGE])
        store.write = write
        self.assertEqual(self.codes(self.send(0) + self.wait()), [NONE])


class FirstBatchTests(CoordinatedCase):
    def test_a_producer_nobody_knows_begins_at_0(self) -> None:
        self.assertEqual(self.codes(self.send(1) + self.wait()), [OUT_OF_ORDER])
        self.assertEqual(self.codes(self.send(0) + self.wait()), [NONE])
        self.assertEqual(self.codes(self.send(1) + self.wait()), [NONE])
        self.assertIsNotNone(self.connection.template)
        self.assertEqual(self.ends(), [2, 0])


class RepeatsTests(CoordinatedCase):
    def end(self) -> None:
        self.done(self.transactions.end("id", self.me, False, bump_epoch=False))
        self.wait()

    def test_what_was_stored_of_another_transaction_is_not_taken_for_this_one(self) -> None:
        """So librdkafka numbers its batches that has aborted without having heard of the first one."""
        first = self.rows(self.send(0) + self.wait())
        [again] = self.rows(self.send(0) + self.wait())
        self.assertEqual((again.error_code, again.base_offset), (NONE, first[0].base_offset))
        self.end()
        self.assertEqual(self.codes(self.send(0) + self.wait()), [OUT_OF_ORDER])
        self.assertEqual(self.codes(self.send(1) + self.wait()), [NONE])
        self.assertEqual(self.codes(self.send(0) + self.wait()), [OUT_OF_ORDER])
        [again] = self.rows(self.send(1) + self.wait())
        self.assertEqual((again.error_code, again.base_offset), (NONE, 2))
        self.end()
        self.assertEqual(self.ends(), [4, 0])


class FailingMarkersTests(CoordinatedCase):
    def test_a_request_parked_behind_markers_is_answered_when_they_begin_to_fail(self) -> None:
        self.assertEqual(self.codes(self.send(0, 1) + self.wait()), [NONE])
        partition = self.service.core.topics.partition("t", 1)
        append_marker, told = partition.append_marker, []
        partition.append_marker = lambda marker, done: told.append(done) or 0
        self.me = self.done(self.transactions.end("id", self.me, True, bump_epoch=True))
        self.assertEqual(self.send(0), b"", "it waits for the markers")
        self.assertEqual(self.wait(), b"")
        told.pop()(StorageError(ErrorCode.STORAGE, "the disk is gone"))
        self.assertEqual(self.codes(self.wait()), [TIMED_OUT])
        # While they fail, the next one is not parked at all; once they are written it is stored.
        self.assertEqual(self.codes(self.send(0) + self.wait()), [TIMED_OUT])
        partition.append_marker = append_marker
        for done in told:
            done(StorageError(ErrorCode.STORAGE, "the disk is gone"))
        for _ in range(40):
            self.clock.advance(1)
        self.assertEqual(self.transactions.describe("id").state, "CompleteCommit")
        self.assertEqual(self.codes(self.send(0) + self.wait()), [NONE])
        self.assertEqual(self.ends(), [1, 2])

    def test_what_the_transaction_has_is_answered_although_it_cannot_be_asked_for(self) -> None:
        """A producer that hears of no batch before it aborts may use its sequence for another one."""
        for sequence in (0, 1):  # the second by the short way
            self.assertEqual(self.codes(self.send(sequence, 1) + self.wait()), [NONE])
        self.assertIsNotNone(self.connection.template)
        partition = self.service.core.topics.partition("t", 1)
        append_marker, told = partition.append_marker, []
        partition.append_marker = lambda marker, done: told.append(done) or 0
        self.transactions.end("id", self.me, True, bump_epoch=False)
        self.wait()
        told.pop()(StorageError(ErrorCode.STORAGE, "the disk is gone"))
        for connection in (self.connection, self.connect()):
            self.connection = connection
            for sequence in (1, 0):
                [row] = self.rows(self.send(sequence, 1) + self.wait())
                self.assertEqual((row.error_code, row.base_offset), (NONE, sequence))
            self.assertEqual(self.codes(self.send(2, 1) + self.wait()), [TIMED_OUT])
        self.assertEqual(self.ends(), [0, 2])
        partition.append_marker = append_marker
        for done in told:
            done(StorageError(ErrorCode.STORAGE, "the disk is gone"))
        for _ in range(40):
            self.clock.advance(1)
        self.assertEqual(self.transactions.describe("id").state, "CompleteCommit")
        self.assertEqual(self.codes(self.send(2, 1) + self.wait()), [NONE])
