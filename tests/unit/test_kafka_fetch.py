"""Fetch: what is told of partitions with nothing new, and what a fetch does while it waits."""

from __future__ import annotations

import struct
from typing import Any
from unittest import mock

from megabroker.codec.batch import build_single, read_records
from megabroker.core.partitions import PartitionService
from megabroker.protocols.kafka.metering import records_bytes
from megabroker.protocols.kafka.schema import fetch
from megabroker.protocols.kafka.schema.registry import response_header_version
from tests.unit.test_kafka_produce import ProduceCase, frame, request

Topic = fetch.Request.Topic
Row = fetch.Response.Topic.Partition

_BATCH = build_single(None, b"x" * 100, 5)


class FetchCase(ProduceCase):
    version = 12

    def setUp(self) -> None:
        super().setUp()
        self.consumer = self.connect()

    def fetch(self, *wanted: tuple[int, int], **fields: Any) -> None:
        """Send a request for (partition, offset)s."""
        version = self.version
        fields = {"max_wait_ms": 500, "min_bytes": 1, "max_bytes": 1 << 20, "session_epoch": -1, **fields}
        partitions = [
            Topic.Partition(partition=index, fetch_offset=offset, partition_max_bytes=1 << 20)
            for index, offset in wanted
        ]
        topic = Topic(topic="t", topic_id=self.topic.id.bytes, partitions=partitions)
        message = fetch.Request(topics=[topic] if wanted else [], **fields)
        head = struct.pack(">hhih", 1, version, 7, 2) + b"me" + (b"\0" if version >= 12 else b"")
        body = head + message.encode(version)
        self.consumer.dataReceived(struct.pack(">i", len(body)) + body)
        self.turn()

    def turn(self, seconds: float = 0) -> None:
        self.clock.advance(seconds)
        for _ in range(20):
            self.clock.advance(0)

    def told(self) -> fetch.Response | None:
        """Take the answer, if it is there."""
        data = self.consumer.transport.value()
        self.consumer.transport.clear()
        if not data:
            return None
        body = data[4:]
        self.assertEqual(struct.unpack_from(">i", data)[0], len(body))
        pos = 4 + response_header_version(1, self.version)
        message, end = fetch.Response.decoder(self.version)(body, pos, len(body))
        self.assertEqual(end, len(body))
        return message

    def rows(self) -> dict[int, Row]:
        """Take the answer; return what it says of each partition."""
        message = self.told()
        assert message is not None
        return {row.partition_index: row for topic in message.responses for row in topic.partitions}

    def produce(self, index: int = 0) -> None:
        self.exchange(frame(request(_BATCH, 9, index=index), 9, 1))

    def values(self, row: Row) -> int:
        return len(list(read_records(bytes(row.records or b""))))


class WaitingTests(FetchCase):
    def test_all_partitions_are_told_of_and_those_that_grew_anew(self) -> None:
        self.produce(1)
        self.fetch((0, 0), (1, 1))
        self.assertIsNone(self.told())
        self.produce(0)
        rows = self.rows()
        self.assertEqual([self.values(rows[index]) for index in (0, 1)], [1, 0])
        self.assertEqual([rows[index].high_watermark for index in (0, 1)], [1, 1])

    def test_only_what_grew_is_read_again(self) -> None:
        self.fetch((0, 0), (1, 0))
        with mock.patch.object(
            PartitionService, "read", autospec=True, side_effect=PartitionService.read
        ) as read:
            self.produce(1)
        self.assertEqual([call.args[0].index for call in read.call_args_list], [1])
        self.assertEqual(self.values(self.rows()[1]), 1)

    def test_what_several_partitions_have_adds_up(self) -> None:
        self.fetch((0, 0), (1, 0), min_bytes=3 * len(_BATCH))
        for index in (0, 1, 0):
            self.assertIsNone(self.told())
            self.produce(index)
        rows = self.rows()
        self.assertEqual([self.values(rows[index]) for index in (0, 1)], [2, 1])

    def test_who_waits_holds_no_records(self) -> None:
        """Else a client that asks for more than there is could fill the memory with fetches."""
        self.produce(0)
        for _ in range(3):
            self.fetch((0, 0), (1, 0), min_bytes=1 << 30)
        self.produce(1)
        held = [records_bytes(filter(None, one._rows)) for one in self.consumer.fetches]
        self.assertEqual(held, [0, 0, 0])
        self.turn(0.5)
        self.assertEqual(self.consumer.transport.value().count(_BATCH[20:]), 6)

    def test_the_limit_of_the_answer_holds_for_what_is_read_later(self) -> None:
        size = len(_BATCH)
        self.fetch((0, 0), (1, 0), min_bytes=2 * size, max_bytes=2 * size)
        for index in (0, 1):
            self.assertIsNone(self.told())
            self.produce(index)
        rows = self.rows()
        self.assertEqual([len(bytes(rows[index].records or b"")) for index in (0, 1)], [size, size])
        self.fetch((0, 0), (1, 0), max_bytes=1)
        rows = self.rows()
        self.assertEqual([self.values(rows[index]) for index in (0, 1)], [1, 0])

    def test_when_the_wait_is_over_what_there_is_is_told(self) -> None:
        self.fetch((0, 0), (1, 0), min_bytes=1000)
        self.produce(1)
        self.assertIsNone(self.told())
        self.turn(0.6)
        rows = self.rows()
        self.assertEqual([self.values(rows[index]) for index in (0, 1)], [0, 1])
        self.assertEqual(self.watchers(), 0)

    def test_who_is_answered_or_gone_watches_nothing(self) -> None:
        self.fetch((0, 0), (1, 0))
        self.assertEqual(self.watchers(), 2)
        self.produce(0)
        self.assertEqual(self.watchers(), 0)
        self.told()
        self.fetch((0, 1), (1, 0))
        self.consumer.connection_closed()
        self.assertEqual(self.watchers(), 0)

    def watchers(self) -> int:
        partitions = [self.service.core.topics.partition("t", index) for index in (0, 1)]
        return sum(len(partition._watchers) for partition in partitions)

    def test_a_topic_that_goes_is_told_at_once(self) -> None:
        self.fetch((0, 0), (1, 0))
        self.done(self.service.core.topics.delete("t"))
        self.assertEqual(self.rows()[0].error_code, 3)

    def test_a_partition_twice_in_a_request(self) -> None:
        self.fetch((0, 0), (0, 0))
        self.produce(0)
        message = self.told()
        assert message is not None
        [topic] = message.responses
        self.assertEqual(sorted(self.values(row) for row in topic.partitions), [0, 1])


class PositionTests(FetchCase):
    def test_faults_are_told_beside_what_there_is(self) -> None:
        self.produce(0)
        self.fetch((0, 0), (1, 7), (2, 0), (-1, 0))
        rows = self.rows()
        self.assertEqual([rows[index].error_code for index in (0, 1, 2, -1)], [0, 1, 3, 3])
        self.assertEqual(self.values(rows[0]), 1)

    def test_the_leader_epoch_is_compared_though_there_is_nothing_to_read(self) -> None:
        ours = self.service.core.topics.partition("t", 0).leader_epoch
        for epoch, code in ((ours, 0), (-1, 0), (ours + 1, 75)):
            wanted = Topic.Partition(partition=0, current_leader_epoch=epoch, partition_max_bytes=9)
            topic = Topic(topic="t", partitions=[wanted])
            message = fetch.Request(session_epoch=-1, max_wait_ms=0, min_bytes=1, topics=[topic])
            body = struct.pack(">hhih", 1, 12, 7, -1) + b"\0" + message.encode(12)
            self.consumer.dataReceived(struct.pack(">i", len(body)) + body)
            self.turn()
            self.assertEqual(self.rows()[0].error_code, code)

    def test_a_session_hears_of_news_only(self) -> None:
        self.produce(0)
        self.fetch((0, 0), (1, 0), session_epoch=0)
        message = self.told()
        assert message is not None
        session = message.session_id
        self.assertEqual(len(message.responses[0].partitions), 2)
        self.fetch((0, 1), session_id=session, session_epoch=1, max_wait_ms=0)
        self.assertEqual(self.rows(), {})
        self.produce(1)
        self.fetch(session_id=session, session_epoch=2)
        self.assertEqual(list(self.rows()), [1])
        # What was had is gone through again on demand, and told anew.
        self.fetch((0, 0), session_id=session, session_epoch=3)
        self.assertEqual({index: self.values(row) for index, row in self.rows().items()}, {0: 1, 1: 1})


class ByIdTests(WaitingTests):
    version = 13

    def test_a_topic_that_goes_is_told_at_once(self) -> None:
        self.fetch((0, 0), (1, 0))
        self.done(self.service.core.topics.delete("t"))
        self.assertEqual(self.rows()[0].error_code, 100)
