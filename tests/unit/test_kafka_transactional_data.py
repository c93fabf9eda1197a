"""Produce and Fetch of transactional records: what the coordinator is asked, and what consumers are told."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from megabroker.codec.batch import build
from megabroker.errors import BrokerError, ErrorCode, StateError
from megabroker.model import ProducerIdentity, TopicPartition, TransactionMarker
from megabroker.protocols.kafka.schema import fetch, produce
from megabroker.protocols.kafka.schema.registry import response_header_version
from tests.unit.test_kafka_produce import ProduceCase, Request, frame, request

FETCH_VERSION = 12


class Coordinator:
    """Says what the test wants it to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ProducerIdentity, TopicPartition, bool]] = []
        self.error: BrokerError | None = None
        self.full = False
        self.waiting: list[Callable[[], None]] = []

    def admit(
        self, transactional_id: str, identity: ProducerIdentity, partition: TopicPartition, *, implicit: bool
    ) -> Any:
        self.asked.append((transactional_id, identity, partition, implicit))
        if self.error is not None:
            raise self.error
        return self if self.full else None

    def when_room(self, callback: Callable[[], None]) -> None:
        self.waiting.append(callback)


def batch(sequence: int, value: bytes = b"v", producer: int = 7, *, transactional: bool = True) -> bytes:
    return bytes(
        build(
            [(None, value, (), 5)],
            producer_id=producer,
            producer_epoch=0,
            base_sequence=sequence,
            attributes=16 * transactional,
        )
    )


class TransactionalProduceTests(ProduceCase):
    def setUp(self) -> None:
        super().setUp()
        self.coordinator = Coordinator()
        self.service.broker.transactions = self.coordinator

    def send(self, sequence: int, version: int, connection: Any = None, txn: str | None = "id") -> bytes:
        body = request(batch(sequence), version, topic_id=self.topic.id.bytes, acks=-1, transactional_id=txn)
        return self.exchange(frame(body, version, sequence), connection=connection)

    def row(self, data: bytes, version: int) -> produce.Response.Topic.Partition:
        [(_, message)] = self.answers(data, version)
        return message.responses[0].partition_responses[0]

    def test_admitted_both_ways_at_every_version(self) -> None:
        sequence = 0
        for version in range(3, 14):
            with self.subTest(version=version):
                connection = self.connect()
                for quick in (False, True):
                    self.assertEqual(connection.template is not None, quick)
                    row = self.row(self.send(sequence, version, connection), version)
                    self.assertEqual((row.error_code, row.base_offset), (0, sequence))
                    sequence += 1
                    asked = ("id", ProducerIdentity(7, 0), TopicPartition("t", 0), version >= 12)
                    self.assertEqual(self.coordinator.asked.pop(), asked)
        self.assertEqual(self.coordinator.asked, [])
        self.assertEqual(self.service.core.topics.partition("t", 0).last_stable_offset, 0)

    def test_refusals_are_those_that_producers_know(self) -> None:
        cases = (
            (ErrorCode.INVALID_TXN_STATE, 10, 48),
            (ErrorCode.INVALID_TXN_STATE, 11, 120),
            (ErrorCode.TRANSACTION_ABORTABLE, 9, 48),
            (ErrorCode.TRANSACTION_ABORTABLE, 12, 120),
            (ErrorCode.PRODUCER_FENCED, 12, 47),
            (ErrorCode.INVALID_PRODUCER_EPOCH, 12, 47),
            (ErrorCode.INVALID_PRODUCER_ID, 12, 49),
            (ErrorCode.CONCURRENT_TRANSACTIONS, 12, 7),
            (ErrorCode.NOT_COORDINATOR, 9, 7),
        )
        for code, version, wire in cases:
            with self.subTest(code=code, version=version):
                connection = self.connect()
                self.coordinator.error = StateError(code, "no")
                end = self.end()
                general = self.send(end, version, connection)
                self.assertEqual(self.row(general, version).error_code, wire)
                self.coordinator.error = None
                self.send(end, version, connection)
                self.assertIsNotNone(connection.template)
                self.coordinator.error = StateError(code, "no")
                self.coordinator.asked.clear()
                quick = self.send(end + 1, version, connection)
                self.assertEqual(quick[8:], general[8:])
                self.assertEqual((self.end(), len(self.coordinator.asked)), (end + 1, 1))

    def end(self) -> int:
        return self.service.core.topics.partition("t", 0).log.next_offset

    def test_without_a_transactional_id(self) -> None:
        for _ in range(2):
            self.assertEqual(self.row(self.send(0, 9, txn=None), 9).error_code, 48)
        plain = batch(0, producer=8, transactional=False)
        self.exchange(frame(request(plain, 9), 9, 1))
        self.assertIsNotNone(self.connection.template)
        self.assertEqual(self.row(self.send(0, 9, txn=None), 9).error_code, 48)
        self.assertEqual((self.coordinator.asked, self.end()), ([], 1))

    def test_parked_until_the_coordinator_is_ready(self) -> None:
        for first in (0, 1):
            self.coordinator.full = True
            self.assertEqual(self.send(first, 12), b"")
            self.assertEqual(self.end(), first)
            self.coordinator.full = False
            self.coordinator.waiting.pop()()
            self.assertEqual(self.row(self.exchange(), 12).base_offset, first)

    def test_only_the_refused_partition_is_refused(self) -> None:
        plain = batch(0, producer=8, transactional=False)
        rows = [
            Request.Topic.Partition(index=0, records=batch(0)),
            Request.Topic.Partition(index=1, records=plain),
        ]
        message = Request(
            transactional_id="id", acks=-1, topic_data=[Request.Topic(name="t", partition_data=rows)]
        )
        self.coordinator.error = StateError(ErrorCode.PRODUCER_FENCED, "no")
        [(_, answer)] = self.answers(self.exchange(frame(message.encode(9), 9, 1)), 9)
        self.assertEqual([row.error_code for row in answer.responses[0].partition_responses], [47, 0])

    def test_without_acks_a_refusal_closes(self) -> None:
        body = request(batch(0), 9, acks=0, transactional_id="id")
        self.assertEqual(self.exchange(frame(body, 9, 1)), b"")
        self.assertEqual(self.end(), 1)
        self.coordinator.error = StateError(ErrorCode.PRODUCER_FENCED, "no")
        self.exchange(frame(body, 9, 1))
        self.assertTrue(self.connection.transport.disconnecting)


class CommittedFetchTests(ProduceCase):
    def write(self, *batches: bytes) -> None:
        self.service.broker.transactions = Coordinator()
        for one in batches:
            self.exchange(frame(request(one, 9, transactional_id="id"), 9, 1))

    def mark(self, producer: int, *, commit: bool) -> None:
        partition = self.service.core.topics.partition("t", 0)
        partition.append_marker(TransactionMarker(producer, 0, commit, 0), lambda error: None)

    def fetch(self, offset: int, *, committed: bool = True, wait_ms: int = 0, size: int = 1 << 20) -> bytes:
        wanted = fetch.Request.Topic.Partition(partition=0, fetch_offset=offset, partition_max_bytes=size)
        message = fetch.Request(
            max_wait_ms=wait_ms,
            min_bytes=1,
            isolation_level=int(committed),
            topics=[fetch.Request.Topic(topic="t", partitions=[wanted])],
        )
        body = message.encode(FETCH_VERSION)
        head = struct.pack(">hhih", 1, FETCH_VERSION, 5, 2) + b"me\0"
        return struct.pack(">i", len(head) + len(body)) + head + body

    def row(self, data: bytes) -> fetch.Response.Topic.Partition:
        body = data[4:]
        pos = 4 + response_header_version(1, FETCH_VERSION)
        message, end = fetch.Response.decoder(FETCH_VERSION)(body, pos, len(body))
        self.assertEqual(end, len(body))
        return message.responses[0].partitions[0]

    def ask(self, offset: int, **options: Any) -> tuple[int, int, int, list[tuple[int, int]] | None]:
        row = self.row(self.exchange(self.fetch(offset, **options)))
        self.assertEqual(row.error_code, 0)
        aborted = row.aborted_transactions
        rows = None if aborted is None else [(one.producer_id, one.first_offset) for one in aborted]
        return row.high_watermark, row.last_stable_offset, len(row.records or b""), rows

    def test_what_was_aborted_is_listed_for_what_is_returned(self) -> None:
        self.write(batch(0), batch(0, producer=8), batch(0, producer=9))
        self.assertEqual(self.ask(0), (3, 0, 0, []))
        size = self.ask(0, committed=False)[2]
        self.assertEqual(self.ask(0, committed=False), (3, 0, size, None))
        self.mark(8, commit=False)
        self.mark(7, commit=False)
        self.exchange()
        self.assertEqual(self.ask(0), (5, 2, 2 * size // 3, [(7, 0), (8, 1)]))
        self.assertEqual(self.ask(0, size=1), (5, 2, size // 3, [(7, 0)]))
        self.assertEqual(self.ask(1), (5, 2, size // 3, [(7, 0), (8, 1)]))
        self.mark(9, commit=True)
        self.exchange()
        self.assertEqual(self.ask(2)[1:], (6, size // 3 + 3 * 78, [(7, 0), (8, 1)]))
        self.assertEqual(self.ask(5), (6, 6, 78, []))

    def test_a_waiting_fetch_is_answered_when_the_transaction_ends(self) -> None:
        self.write(batch(0))
        waiting = self.connect()
        self.assertEqual(self.exchange(self.fetch(0, wait_ms=1000), connection=waiting), b"")
        self.write(batch(1))
        self.assertEqual(self.exchange(connection=waiting), b"")
        self.mark(7, commit=True)
        row = self.row(self.exchange(connection=waiting))
        self.assertEqual((row.last_stable_offset, row.aborted_transactions), (3, []))
        self.assertGreater(len(row.records or b""), 78)
