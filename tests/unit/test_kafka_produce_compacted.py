"""Produce to compacted topics: every record must have a key."""

from __future__ import annotations

from typing import Any

from crc32c import crc32c

from megabroker.codec.batch import build, build_single
from megabroker.protocols.kafka.schema import produce
from tests.unit.test_kafka_produce import ProduceCase, Request, frame, request

INVALID_RECORD = 87
_GZIP = 1


class CompactedTests(ProduceCase):
    def setUp(self) -> None:
        super().setUp()
        self.configure("compact")

    def configure(self, policy: str) -> None:
        self.done(self.service.topics.set_configs("t", {"cleanup.policy": policy}))

    def row(self, batch: Any, version: int = 9) -> produce.Response.Topic.Partition:
        body = request(bytes(batch), version, topic_id=self.topic.id.bytes)
        [(_, message)] = self.answers(self.exchange(frame(body, version, 1)), version)
        found: produce.Response.Topic.Partition = message.responses[0].partition_responses[0]
        return found

    def test_keyless_records_are_told_one_by_one(self) -> None:
        keys = [b"a", None, b"", None]
        mixed = [(key, b"x", [], 5) for key in keys]
        for version in range(3, 14):
            for compression in (0, _GZIP):
                with self.subTest(version=version, compression=compression):
                    row = self.row(build(mixed, compression=compression), version)
                    self.assertEqual((row.error_code, row.base_offset), (INVALID_RECORD, -1))
                    if version >= 8:
                        self.assertEqual([one.batch_index for one in row.record_errors], [1, 3])
                        self.assertIn("t-0", row.record_errors[0].batch_index_error_message or "")
                        self.assertTrue(row.error_message)
        self.assertEqual(self.stored(), [])

    def test_records_with_keys_are_stored_and_no_template_is_made(self) -> None:
        for offset in range(3):
            row = self.row(build_single(b"k", b"x", 5))
            self.assertEqual((row.error_code, row.base_offset, row.record_errors), (0, offset, []))
            self.assertIsNone(self.connection.template)

    def test_a_template_does_not_outlive_the_policy(self) -> None:
        self.configure("delete")
        batch = build_single(None, b"x", 5)
        self.assertEqual(self.row(batch).error_code, 0)
        self.assertIsNotNone(self.connection.template)
        for policy in ("compact", "compact,delete"):
            self.configure(policy)
            self.assertEqual(self.row(batch).error_code, INVALID_RECORD)
        self.assertEqual(self.row(build_single(b"k", b"y", 5)).error_code, 0)
        self.assertEqual(self.row(batch).error_code, INVALID_RECORD)
        self.configure("delete")
        self.assertEqual(self.row(batch).error_code, 0)
        self.assertEqual(self.stored(), [b"x", b"y", b"x"])

    def test_the_other_partition_of_the_request_is_not_touched(self) -> None:
        self.done(self.service.topics.create("plain", 1))
        batch = build_single(None, b"x", 5)
        rows = [Request.Topic.Partition(index=0, records=batch)]
        message = Request(
            acks=1, topic_data=[Request.Topic(name=name, partition_data=rows) for name in ("t", "plain")]
        )
        [(_, answer)] = self.answers(self.exchange(frame(message.encode(9), 9, 1)), 9)
        codes = [topic.partition_responses[0].error_code for topic in answer.responses]
        self.assertEqual(codes, [INVALID_RECORD, 0])

    def test_records_that_cannot_be_read_are_refused(self) -> None:
        batch = build([(b"k", b"x" * 50, [], 5)])
        batch[61] = 0x7E
        batch[17:21] = crc32c(memoryview(batch)[21:]).to_bytes(4, "big")
        row = self.row(batch)
        self.assertEqual((row.error_code, row.record_errors), (INVALID_RECORD, []))

    def test_no_more_than_a_thousand_are_told(self) -> None:
        row = self.row(build([(None, b"", [], 5)] * 1500))
        self.assertEqual((row.error_code, len(row.record_errors)), (INVALID_RECORD, 1000))

    def test_without_acks_the_connection_is_closed(self) -> None:
        body = request(bytes(build_single(None, b"x", 5)), 9, acks=0)
        self.assertEqual(self.exchange(frame(body, 9, 1)), b"")
        self.assertTrue(self.connection.transport.disconnecting)
