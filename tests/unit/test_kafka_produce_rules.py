"""Produce where every record has to follow a rule: a key in compacted topics, a time within bounds."""

from __future__ import annotations

import struct
from functools import partial
from typing import Any

from crc32c import crc32c
from twisted.python.failure import Failure

from megabroker.codec.batch import build, build_single, scan
from megabroker.protocols.kafka.schema import produce
from tests.unit.test_kafka_produce import ProduceCase, Request, frame, request

NOT_ENOUGH_REPLICAS = 19
INVALID_TIMESTAMP = 32
INVALID_RECORD = 87
MESSAGE_TOO_LARGE = 10
_GZIP, _ZSTD = 1, 4


class Pool:
    """Threads that run when they are told to."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Any, Any]] = []

    def callInThreadWithCallback(self, done: Any, call: Any, *args: Any, **kwargs: Any) -> None:
        self._waiting.append((done, partial(call, *args, **kwargs)))

    def run(self) -> int:
        waiting, self._waiting = self._waiting, []
        for done, call in waiting:
            try:
                result = call()
            except Exception:
                done(False, Failure())
            else:
                done(True, result)
        return len(waiting)


class RuleCase(ProduceCase):
    """What a batch is answered with."""

    def row(self, batch: Any, version: int = 9) -> produce.Response.Topic.Partition:
        body = request(bytes(batch), version, topic_id=self.topic.id.bytes)
        [(_, message)] = self.answers(self.exchange(frame(body, version, 1)), version)
        found: produce.Response.Topic.Partition = message.responses[0].partition_responses[0]
        return found


class CompactedTests(RuleCase):
    def setUp(self) -> None:
        super().setUp()
        self.configure("compact")

    def configure(self, policy: str) -> None:
        self.done(self.service.core.topics.set_configs("t", {"cleanup.policy": policy}))

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

    def test_a_batch_of_many_records_is_looked_into_by_another_thread(self) -> None:
        pool = Pool()
        self.clock.getThreadPool = lambda: pool
        many = [(b"k", b"", [], 5)] * 20_001
        good = build(many, compression=_GZIP)
        bad = build([*many, (None, b"", [], 5)], compression=_GZIP)
        damaged = bytearray(build(many))
        struct.pack_into(">i", damaged, 57, 20_002)
        struct.pack_into(">I", damaged, 17, crc32c(memoryview(damaged)[21:]))
        others = self.connect()
        for batch, code in ((good, 0), (bad, INVALID_RECORD), (damaged, INVALID_RECORD)):
            for version in (9, 13):
                body = request(bytes(batch), version, topic_id=self.topic.id.bytes)
                self.assertEqual(self.exchange(frame(body, version, 1)), b"")
                body = request(bytes(build_single(b"k", b"x", 5)), 9)
                [(_, message)] = self.answers(self.exchange(frame(body, 9, 1), connection=others), 9)
                self.assertEqual(message.responses[0].partition_responses[0].error_code, 0)
                self.assertEqual(pool.run(), 1)
                [(_, message)] = self.answers(self.exchange(), version)
                row = message.responses[0].partition_responses[0]
                self.assertEqual(row.error_code, code)
                if batch is bad:
                    self.assertEqual([one.batch_index for one in row.record_errors], [20_001])
        self.assertEqual(len(self.stored()), 2 * 20_001 + 6)
        self.assertEqual(self.connection.looks, {})

    def test_large_batches_are_brought_into_another_codec_by_another_thread(self) -> None:
        pool = Pool()
        self.clock.getThreadPool = lambda: pool
        values = [b"%d" % number * 20 for number in range(2000)]
        large = [(b"k", value, [], 5) for value in values]
        for policy in ("delete", "compact"):
            configs = {"cleanup.policy": policy, "compression.type": "zstd", "compression.zstd.level": "19"}
            self.done(self.service.core.topics.set_configs("t", configs))
            before = len(self.stored())
            batches = (build(large), build(large, compression=_GZIP))
            for batch in batches:
                self.assertEqual(self.exchange(frame(request(bytes(batch), 9), 9, 1)), b"")
                self.assertEqual(pool.run(), 1)
                [(_, message)] = self.answers(self.exchange(), 9)
                self.assertEqual(message.responses[0].partition_responses[0].error_code, 0)
                self.assertIsNone(self.connection.template)
            # What is small or in that codec already takes no time.
            for batch in (build_single(b"k", b"x", 5), build(large, compression=_ZSTD)):
                self.assertEqual(self.row(batch).error_code, 0)
            stored = self.stored()[before:]
            self.assertEqual(stored, [*values, *values, b"x", *values])
        partition = self.service.core.topics.partition("t", 0)
        data = partition.read(partition.start_offset, 1 << 30).data
        self.assertEqual({header.compression for _, header in scan(data, 0, len(data))}, {_ZSTD})
        self.done(
            self.service.core.topics.set_configs(
                "t", {"compression.type": "zstd", "max.message.bytes": "1000"}
            )
        )
        self.assertEqual(self.exchange(frame(request(bytes(build(large)), 9), 9, 1)), b"")
        self.assertEqual(pool.run(), 1)
        [(_, message)] = self.answers(self.exchange(), 9)
        self.assertEqual(message.responses[0].partition_responses[0].error_code, MESSAGE_TOO_LARGE)

    def test_parts_of_one_request_are_looked_into_one_after_the_other(self) -> None:
        pool = Pool()
        self.clock.getThreadPool = lambda: pool
        many = bytes(build([(b"k", b"", [], 5)] * 20_001, compression=_GZIP))
        bad = bytes(build([(None, b"", [], 5)] * 20_001, compression=_GZIP))
        parts = [
            Request.Topic.Partition(index=index, records=batch) for index, batch in ((0, many), (1, bad))
        ]
        body = Request(acks=1, timeout_ms=1000, topic_data=[Request.Topic(name="t", partition_data=parts)])
        self.assertEqual(self.exchange(frame(body.encode(9), 9, 1)), b"")
        self.assertEqual(pool.run(), 1)
        self.assertEqual(self.exchange(), b"")
        self.assertEqual(pool.run(), 1)
        [(_, message)] = self.answers(self.exchange(), 9)
        codes = [row.error_code for row in message.responses[0].partition_responses]
        self.assertEqual(codes, [0, INVALID_RECORD])

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
        self.done(self.service.core.topics.create("plain", 1))
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


class TimeTests(RuleCase):
    """``message.timestamp.before.max.ms`` and ``message.timestamp.after.max.ms``."""

    def configure(self, **configs: str) -> None:
        names = {name.replace("_", "."): value for name, value in configs.items()}
        self.done(self.service.core.topics.set_configs("t", names))

    def batch(self, *ages_ms: int) -> bytearray:
        now_ms = self.service.broker.now_ms()
        return build([(b"k", b"x", [], now_ms - age) for age in ages_ms])

    def refused(self, batch: bytearray, version: int = 9) -> list[int]:
        row = self.row(batch, version)
        self.assertEqual((row.error_code, row.base_offset), (INVALID_TIMESTAMP, -1))
        return [one.batch_index for one in row.record_errors]

    def test_the_future(self) -> None:
        self.assertEqual(self.refused(self.batch(0, -3_700_000, 0)), [1])
        self.assertEqual(self.row(self.batch(0, -3_500_000)).error_code, 0)
        self.configure(message_timestamp_after_max_ms="1000")
        self.assertEqual(self.refused(self.batch(-2000, 0, -5000)), [0, 2])

    def test_the_past_of_any_record(self) -> None:
        self.assertEqual(self.row(self.batch(10**12)).error_code, 0)
        self.configure(message_timestamp_before_max_ms="60000")
        for version in (3, 9, 13):
            told = [0, 2] if version >= 8 else []
            self.assertEqual(self.refused(self.batch(70_000, 0, 61_000), version), told)
        self.assertEqual(self.refused(self.batch(0, 61_000)), [1])
        self.assertEqual(self.row(self.batch(0, 50_000)).error_code, 0)

    def test_records_without_a_time(self) -> None:
        self.configure(message_timestamp_before_max_ms="60000")
        self.assertEqual(self.row(build([(b"k", b"x", [], -1)])).error_code, 0)

    def test_the_brokers_clock_is_never_wrong(self) -> None:
        self.configure(message_timestamp_before_max_ms="60000", message_timestamp_type="LogAppendTime")
        self.assertEqual(self.row(self.batch(10**9, -(10**9))).error_code, 0)

    def test_keys_and_times(self) -> None:
        self.configure(cleanup_policy="compact", message_timestamp_before_max_ms="60000")
        now_ms = self.service.broker.now_ms()
        rows = [(None, b"x", [], now_ms), (b"k", b"x", [], now_ms - 70_000)]
        self.assertEqual(self.refused(build(rows)), [0, 1])

    def test_a_producer_does_not_stamp_for_the_broker(self) -> None:
        row = self.row(build([(b"k", b"x", [], 5)], attributes=8))
        self.assertEqual((row.error_code, row.base_offset), (INVALID_TIMESTAMP, -1))


class SettingTests(RuleCase):
    """Further topic configurations that a batch meets."""

    def test_the_codec_of_the_topic(self) -> None:
        self.done(self.service.core.topics.set_configs("t", {"compression.type": "zstd"}))
        for offset in range(3):
            self.assertEqual(self.row(build_single(b"k", b"x" * 100, 5)).base_offset, offset)
        log = self.service.core.topics.partition("t", 0).log
        data = log.read(0, 1 << 20, 1 << 60).data
        self.assertEqual([header.compression for _, header in scan(data, 0, len(data))], [4, 4, 4])
        self.assertEqual(self.stored(), [b"x" * 100] * 3)

    def test_replicas_that_are_not_there(self) -> None:
        self.done(self.service.core.topics.set_configs("t", {"min.insync.replicas": "2"}))
        batch = bytes(build_single(b"k", b"x", 5))
        codes = []
        for acks in (-1, 1):
            [(_, message)] = self.answers(self.exchange(frame(request(batch, 9, acks=acks), 9, 1)), 9)
            codes.append(message.responses[0].partition_responses[0].error_code)
        self.assertEqual(codes, [NOT_ENOUGH_REPLICAS, 0])
