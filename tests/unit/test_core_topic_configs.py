"""The table of topic configurations, and the policy it comes to."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from megabroker.core.topic_configs import TOPIC_CONFIGS, ConfigType, TopicConfigs, TopicPolicy
from megabroker.errors import ErrorCode, RequestError
from megabroker.model import LogSettings, TimestampType

GOOD = {
    "cleanup.policy": ("compact", "delete", "compact,delete", "delete, compact", ""),
    "compression.gzip.level": ("-1", "1", "9"),
    "compression.zstd.level": ("-131072", "22"),
    "compression.type": ("producer", "zstd"),
    "leader.replication.throttled.replicas": ("*", "", "0:1,2:3"),
    "min.cleanable.dirty.ratio": ("0", "0.25", "1", ".5", "5e-1", "+1."),
    "preallocate": ("false", "FALSE"),
    "retention.ms": ("-1", "0", " 5 ", str(2**63 - 1)),
    "segment.bytes": ("1048576", "2147483647"),
}
BAD = {
    "cleanup.policy": ("keep", "delete,delete", "delete,", ","),
    "compression.gzip.level": ("0", "10", "-2"),
    "compression.lz4.level": ("0", "18"),
    "compression.type": ("lzma", "", "GZIP"),
    "leader.replication.throttled.replicas": ("0", "a:b", "0:1,"),
    "min.cleanable.dirty.ratio": (
        "nan",
        "-0.1",
        "1.1",
        "half",
        "0_1",
        "٠",
        "\x1c1\x1c0",
        "0." + "0" * 5000,
        "",
    ),
    "preallocate": ("true", "yes", "1", ""),
    "remote.storage.enable": ("true",),
    "remote.copy.lag.ms": ("0",),
    "message.format.version": ("2.0",),
    "retention.ms": ("-2", "1.5", "", "1_000", "٥", "9" * 5000, str(2**63)),
    "segment.bytes": ("1048575", "2147483648"),
    "max.compaction.lag.ms": ("0",),
    "no.such": ("1",),
    "x" * 10_000: ("1",),
}


class TopicConfigsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.configs = TopicConfigs({"retention.ms": "60000", "segment.bytes": "1024"})

    def test_good_values(self) -> None:
        for name, values in GOOD.items():
            for value in values:
                self.configs.validate({name: value})
                self.configs.policy({name: value})

    def test_bad_values_are_refused_by_name(self) -> None:
        for name, values in BAD.items():
            for value in values:
                with self.assertRaises(RequestError) as caught:
                    self.configs.validate({"flush.ms": "5", name: value})
                self.assertEqual(caught.exception.code, ErrorCode.INVALID_CONFIG)
                self.assertIn(name[:100], caught.exception.message)
                self.assertLess(len(caught.exception.message), 400)

    def test_values_that_do_not_go_together(self) -> None:
        with self.assertRaises(RequestError):
            self.configs.validate({"min.compaction.lag.ms": "6", "max.compaction.lag.ms": "5"})

    def test_every_default_is_valid(self) -> None:
        TopicConfigs().validate({name: row.default for name, row in TOPIC_CONFIGS.items()})

    def test_precedence(self) -> None:
        self.assertEqual(self.configs.effective({"retention.ms": "5"}, "retention.ms"), "5")
        self.assertEqual(self.configs.effective({}, "retention.ms"), "60000")
        self.assertEqual(self.configs.default("retention.ms"), "60000")
        self.assertEqual(self.configs.effective({}, "retention.bytes"), "-1")
        for ask in (lambda: self.configs.effective({}, "nope"), lambda: TopicConfigs({"nope": "1"})):
            with self.assertRaises(RequestError):
                ask()

    def test_policy(self) -> None:
        configs = {
            "max.message.bytes": "77",
            "message.timestamp.type": "LogAppendTime",
            "retention.bytes": "-5",
            "index.interval.bytes": "9",
        }
        self.assertEqual(
            self.configs.policy(configs),
            TopicPolicy(
                max_message_bytes=77,
                timestamp_type=TimestampType.LOG_APPEND_TIME,
                log=LogSettings(
                    segment_bytes=1024,
                    index_interval_bytes=9,
                    retention_ms=60_000,
                    retention_bytes=-1,
                    file_delete_delay_ms=60_000,
                    max_batch_bytes=77,
                ),
            ),
        )
        log = LogSettings(file_delete_delay_ms=60_000, max_batch_bytes=1_048_588)
        self.assertEqual(TopicConfigs().policy({}), TopicPolicy(log=log))

    def test_compaction(self) -> None:
        log = self.configs.policy(
            {
                "cleanup.policy": "delete,compact",
                "delete.retention.ms": "1",
                "min.compaction.lag.ms": "2",
                "max.compaction.lag.ms": "3000",
                "min.cleanable.dirty.ratio": "0.25",
                "segment.ms": "4000",
            }
        ).log
        self.assertEqual(
            (log.compact, log.delete_retention_ms, log.min_compaction_lag_ms, log.max_compaction_lag_ms),
            (True, 1, 2, 3000),
        )
        self.assertEqual((log.min_cleanable_dirty_ratio, log.segment_ms), (0.25, 3000))
        self.assertEqual(log.retention_ms, 60_000)

    def test_compression(self) -> None:
        for configs, expected in (
            ({}, (None, None)),
            ({"compression.type": "uncompressed"}, (0, None)),
            ({"compression.type": "gzip", "compression.gzip.level": "7"}, (1, 7)),
            ({"compression.type": "snappy", "compression.gzip.level": "7"}, (2, None)),
            ({"compression.type": "lz4"}, (3, None)),
            ({"compression.type": "lz4", "compression.lz4.level": "12"}, (3, 12)),
            ({"compression.type": "zstd", "compression.zstd.level": "-5"}, (4, -5)),
        ):
            log = self.configs.policy(configs).log
            self.assertEqual((log.codec, log.codec_level), expected)

    def test_without_deletion_nothing_expires(self) -> None:
        log = self.configs.policy({"cleanup.policy": "compact", "retention.bytes": "5"}).log
        self.assertEqual((log.retention_ms, log.retention_bytes), (-1, -1))

    def test_small_segments_for_tests(self) -> None:
        self.assertEqual(self.configs.policy({"internal.segment.bytes": "500"}).log.segment_bytes, 500)
        self.assertNotIn("internal.segment.bytes", [row.name for row in self.configs.rows()])

    def test_rows_are_fit_to_be_described(self) -> None:
        rows = self.configs.rows()
        self.assertEqual([row.name for row in rows], sorted(row.name for row in rows))
        self.assertEqual(TOPIC_CONFIGS["retention.ms"].type, ConfigType.LONG)
        for row in rows:
            self.assertTrue(row.doc.endswith("."), row.name)
            self.assertFalse(row.sensitive)
