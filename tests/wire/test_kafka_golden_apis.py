"""Answers byte for byte: DescribeTopicPartitions of an unknown topic, as the staged plan shows it."""

from __future__ import annotations

from megabroker.net.output import part_length
from megabroker.protocols.kafka.answers import encode_answer
from megabroker.protocols.kafka.dispatch import SERVED, Context
from megabroker.protocols.kafka.schema.headers import read_request_header
from megabroker.protocols.kafka.settings import KafkaSettings
from tests.unit.kafka_apis_harness import ApiCase

_REQUEST = bytes.fromhex(
    "004b 0000 abcdef12"  # API 75, version 0, correlation id
    "0009 6b61666b612d636c69 00"  # client id "kafka-cli", no tagged fields
    "02 04 666f6f 00"  # one topic, "foo"
    "00000001"  # response_partition_limit
    "ff"  # no cursor
    "00"
)

_ANSWER = bytes.fromhex(
    "00000029 abcdef12 00"  # size, correlation id, no tagged fields
    "00000000"  # throttle_time_ms
    "02"  # one topic
    "0003"  # UNKNOWN_TOPIC_OR_PARTITION
    "04 666f6f"  # "foo"
    "00000000000000000000000000000000"  # no id
    "00"  # not internal
    "01"  # no partitions
    "00000000"  # topic_authorized_operations
    "00"
    "ff"  # no next cursor
    "00"
)


class GoldenTests(ApiCase):
    def answer(self, frame: bytes) -> bytes:
        key = int.from_bytes(frame[:2], "big")
        version = int.from_bytes(frame[2:4], "big")
        correlation_id = int.from_bytes(frame[4:8], "big", signed=True)
        header, pos = read_request_header(frame, 0, len(frame))
        request, end = SERVED[key].api.request.decode(frame, version, pos)
        self.assertEqual(end, len(frame))
        context = Context(
            self.broker, KafkaSettings(), key, version, header.client_id or "", "127.0.0.1", "PLAIN"
        )
        parts = encode_answer(SERVED[key].handler(context, request), key, version, correlation_id)
        self.assertEqual(sum(map(part_length, parts)), len(b"".join(parts)))
        return b"".join(parts)

    def test_unknown_topic(self) -> None:
        self.assertEqual(self.answer(_REQUEST), _ANSWER)

    def test_known_topic(self) -> None:
        topic = self.create("foo")
        self.assertEqual(
            self.answer(_REQUEST).hex(" ", 1),
            bytes.fromhex(
                "00000045 abcdef12 00 00000000 02 0000 04 666f6f" + topic.id.hex + "00 02"  # one partition
                "0000 00000000 00000001 00000000"  # no error, partition 0, leader 1, epoch 0
                "02 00000001  02 00000001  01  01  01  00"  # replicas, isr, eligible, last known, offline
                "00000df8 00 ff 00"  # every operation on a topic
            ).hex(" ", 1),
        )
