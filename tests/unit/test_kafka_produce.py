"""Produce: the general way, and the template that must never differ from it."""

from __future__ import annotations

import struct
from typing import Any

from twisted.internet import task
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import build, build_single, read_records
from megabroker.config.load import parse
from megabroker.model import HostPort, Listener
from megabroker.plugin import discover
from megabroker.protocols.kafka import protocol
from megabroker.protocols.kafka.protocol import KafkaFactory
from megabroker.protocols.kafka.schema import produce
from megabroker.protocols.kafka.schema.registry import response_header_version
from megabroker.protocols.kafka.settings import KafkaSettings
from megabroker.service import BrokerService

Request = produce.Request


class Turns(task.Clock):
    """A clock that is reactor enough for a broker in memory."""

    def callFromThread(self, function: Any, *args: Any) -> None:
        self.callLater(0, function, *args)

    callWhenRunning = callFromThread


def request(
    batch: bytes | None,
    version: int,
    *,
    topic: str = "t",
    topic_id: bytes = bytes(16),
    acks: int = 1,
    index: int = 0,
    transactional_id: str | None = None,
) -> bytes:
    data = Request.Topic.Partition(index=index, records=batch)
    message = Request(
        transactional_id=transactional_id,
        acks=acks,
        timeout_ms=1000,
        topic_data=[Request.Topic(name=topic, topic_id=topic_id, partition_data=[data])],
    )
    return message.encode(version)


def frame(body: bytes, version: int, correlation_id: int, client: bytes = b"me") -> bytes:
    head = struct.pack(">hhih", 0, version, correlation_id, len(client)) + client
    head += b"\0" if version >= 9 else b""
    return struct.pack(">i", len(head) + len(body)) + head + body


class ProduceCase(SynchronousTestCase):
    """A broker in memory, and a connection to it that needs no socket."""

    def setUp(self) -> None:
        self.clock = Turns()
        plugins = discover()
        config = parse("storage: memory\nhttp: {enabled: false}", "test", plugins)
        self.service = BrokerService(config, plugins, self.clock)
        self.service.startService()
        self.topic = self.done(self.service.core.topics.create("t", 2))
        listener = Listener("kafka", "default", HostPort("localhost", 1))
        self.factory = KafkaFactory(self.service.broker, KafkaSettings(), listener)
        self.connection = self.connect()

    def tearDown(self) -> None:
        self.done(self.service.stopService())

    def done(self, deferred: Any) -> Any:
        for _ in range(50):
            self.clock.advance(0)
        return self.successResultOf(deferred)

    def connect(self) -> Any:
        connection: Any = self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 9))
        connection.makeConnection(StringTransport())
        return connection

    def exchange(self, *frames: bytes, connection: Any = None) -> bytes:
        connection = connection or self.connection
        connection.dataReceived(b"".join(frames))
        for _ in range(20):
            self.clock.advance(0)
        value: bytes = connection.transport.value()
        connection.transport.clear()
        return value

    def answers(self, data: bytes, version: int) -> list[tuple[int, produce.Response]]:
        found = []
        while data:
            (size,) = struct.unpack_from(">i", data)
            body = data[4 : 4 + size]
            data = data[4 + size :]
            pos = 4 + response_header_version(0, version)
            message, end = produce.Response.decoder(version)(body, pos, len(body))
            self.assertEqual(end, len(body))
            found.append((struct.unpack_from(">i", body)[0], message))
        return found

    def stored(self, index: int = 0) -> list[bytes | None]:
        partition = self.service.core.topics.partition("t", index)
        result = partition.read(0, 1 << 20)
        return [record.value for record in read_records(result.data)]


class ProduceTests(ProduceCase):
    def test_the_template_answers_as_the_general_way_does_at_every_version(self) -> None:
        expected_offset = 0
        for version in range(3, 14):
            with self.subTest(version=version):
                connection = self.connect()
                one = request(build_single(None, b"x" * 300, 5), version, topic_id=self.topic.id.bytes)
                two = request(build_single(None, b"y", 5), version, topic_id=self.topic.id.bytes)
                general = self.exchange(frame(one, version, 1), connection=connection)
                self.assertIsNotNone(connection.template)
                quick = self.exchange(frame(two, version, 2), frame(one, version, 3), connection=connection)
                rows = self.answers(general + quick, version)
                self.assertEqual([correlation for correlation, _ in rows], [1, 2, 3])
                for n, (_, message) in enumerate(rows):
                    row = message.responses[0].partition_responses[0]
                    self.assertEqual(row.base_offset, expected_offset + n)
                    row.base_offset = 0
                self.assertEqual(rows[0][1], rows[1][1])
                self.assertEqual(rows[0][1], rows[2][1])
                expected_offset += 3
        self.assertEqual(self.stored(), [b"x" * 300, b"y", b"x" * 300] * 11)

    def test_partitions_in_turn_are_all_taken_by_one_template(self) -> None:
        for version in range(3, 14):
            with self.subTest(version=version):
                connection = self.connect()
                frames = [
                    frame(
                        request(
                            build_single(None, b"%d" % n, 5),
                            version,
                            topic_id=self.topic.id.bytes,
                            index=n % 2,
                        ),
                        version,
                        n,
                    )
                    for n in range(8)
                ]
                before = len(self.stored(0))
                data = self.exchange(frames[0], connection=connection)
                made = connection.template
                assert made is not None
                data += self.exchange(*frames[1:], connection=connection)
                rows = self.answers(data, version)
                self.assertEqual([correlation for correlation, _ in rows], list(range(8)))
                found = [message.responses[0].partition_responses[0] for _, message in rows]
                self.assertEqual(
                    [(row.index, row.base_offset) for row in found],
                    [(n % 2, before + n // 2) for n in range(8)],
                )
                self.assertEqual(self.stored(0)[before:], [b"0", b"2", b"4", b"6"])
                self.assertEqual(self.stored(1)[before:], [b"1", b"3", b"5", b"7"])
                # None was made anew: the first request's served them all.
                self.assertIs(connection.template, made)
                self.assertEqual(connection.factory.template_count, 1)
                connection.connection_closed()

    def test_topics_in_turn_are_taken_by_a_template_each(self) -> None:
        self.done(self.service.core.topics.create("u", 1))
        batch = build_single(None, b"x", 5)
        frames = [frame(request(batch, 9, topic="tu"[n % 2]), 9, n) for n in range(8)]
        data = self.exchange(*frames[:2])
        made = self.connection.template
        data += self.exchange(*frames[2:])
        rows = [message.responses[0].partition_responses[0] for _, message in self.answers(data, 9)]
        self.assertEqual([row.base_offset for row in rows], [n // 2 for n in range(8)])
        self.assertIs(self.connection.template, made)

    def test_partitions_that_there_are_not_go_the_general_way(self) -> None:
        batch = build_single(None, b"x", 5)
        for index in (0, 1, 2, -1, 2**31 - 1, -(2**31), 1):
            [(_, message)] = self.answers(self.exchange(frame(request(batch, 9, index=index), 9, 1)), 9)
            [row] = message.responses[0].partition_responses
            self.assertEqual((row.index, row.error_code), (index, 0 if index in (0, 1) else 3))
        self.done(self.service.core.topics.create_partitions("t", 3))
        for index in (2, 2, 0):
            [(_, message)] = self.answers(self.exchange(frame(request(batch, 9, index=index), 9, 1)), 9)
            [row] = message.responses[0].partition_responses
            self.assertEqual((row.index, row.error_code), (index, 0))
        self.assertEqual([len(self.stored(index)) for index in range(3)], [2, 2, 2])

    def test_templates_of_a_connection_are_bounded(self) -> None:
        self.patch(protocol, "_MAX_TEMPLATES", 2)
        version = 9
        for n in range(6):
            one = request(build_single(None, b"x", 5), version)
            (row,) = self.answers(self.exchange(frame(one, version, n, client=b"c%d" % n)), version)
            self.assertEqual(row[1].responses[0].partition_responses[0].error_code, 0)
        self.assertEqual(sum(map(len, self.connection._templates.values())), 2)
        self.assertEqual(self.connection.factory.template_count, 2)
        # The same request after a change of quotas replaces its template.
        self.service.broker.quotas.generation += 1
        self.exchange(frame(one, version, 7, client=b"c5"))
        self.assertEqual(self.connection.factory.template_count, 2)

    def test_templates_are_bounded_in_size_and_for_all_connections_together(self) -> None:
        version = 9
        one = request(build_single(None, b"x", 5), version)
        self.exchange(frame(one, version, 1, client=b"c" * 600))
        self.assertIsNotNone(self.connection.template)
        self.assertEqual(self.connection.factory.template_count, 0)
        self.patch(protocol, "_MAX_ALL_TEMPLATES", 1)
        for client in (b"a", b"b"):
            self.exchange(frame(one, version, 2, client=client))
        self.assertEqual(self.connection.factory.template_count, 1)
        self.connection.connection_closed()
        self.assertEqual(self.connection.factory.template_count, 0)

    def test_what_differs_goes_the_general_way(self) -> None:
        version = 9
        batch = build_single(None, b"x", 5)
        self.exchange(frame(request(batch, version), version, 1))
        template = self.connection.template
        bad = bytearray(batch)
        bad[-1] ^= 1
        answers = self.answers(
            self.exchange(
                frame(request(batch, version, index=1), version, 2),
                frame(request(batch, version), version, 3, client=b"you"),
                frame(request(bytes(bad), version), version, 4),
                frame(request(b"", version), version, 5),
                frame(request(None, version), version, 6),
                frame(request(batch, version, topic="nope"), version, 7),
                frame(request(batch, version, acks=2), version, 8),
                frame(request(batch, version), version, 9),
            ),
            version,
        )
        self.assertIsNotNone(template)
        codes = [message.responses[0].partition_responses[0].error_code for _, message in answers]
        self.assertEqual(codes, [0, 0, 2, 87, 87, 3, 21, 0])
        self.assertEqual(self.stored(), [b"x"] * 3)
        self.assertEqual(self.stored(1), [b"x"])

    def test_a_deleted_topic_is_not_written_through_a_template(self) -> None:
        batch = build_single(None, b"x", 5)
        self.exchange(frame(request(batch, 9), 9, 1))
        self.done(self.service.core.topics.delete("t"))
        [(_, message)] = self.answers(self.exchange(frame(request(batch, 9), 9, 2)), 9)
        self.assertEqual(message.responses[0].partition_responses[0].error_code, 3)
        self.done(self.service.core.topics.create("t", 1))
        [(_, message)] = self.answers(self.exchange(frame(request(batch, 9), 9, 3)), 9)
        self.assertEqual(message.responses[0].partition_responses[0].base_offset, 0)
        self.assertEqual(self.stored(), [b"x"])

    def test_an_idempotent_repeat_gets_its_first_offset_both_ways(self) -> None:
        batches = [
            bytes(build([(None, b"%d" % n, [], 5)], producer_id=7, producer_epoch=0, base_sequence=n))
            for n in range(3)
        ]
        bodies = [frame(request(batch, 9), 9, n) for n, batch in enumerate(batches)]
        answers = self.answers(self.exchange(*bodies, bodies[1], bodies[0]), 9)
        offsets = [message.responses[0].partition_responses[0].base_offset for _, message in answers]
        self.assertEqual(offsets, [0, 1, 2, 1, 0])
        self.assertEqual(self.stored(), [b"0", b"1", b"2"])

    def test_without_acks_nothing_is_answered_and_an_error_closes(self) -> None:
        batch = build_single(None, b"x", 5)
        self.assertEqual(self.exchange(frame(request(batch, 9, acks=0), 9, 1)), b"")
        self.assertEqual(self.stored(), [b"x"])
        self.assertFalse(self.connection.transport.disconnecting)
        self.assertEqual(self.exchange(frame(request(batch, 9, acks=0, topic="nope"), 9, 1)), b"")
        self.assertTrue(self.connection.transport.disconnecting)

    def test_a_full_queue_parks_the_request_until_it_has_drained(self) -> None:
        many = bytes(build([(None, b"x", [], 5)] * 9_000))
        frames = [frame(request(many, 9), 9, n) for n in range(3)]
        self.connection.dataReceived(b"".join(frames))
        self.assertEqual(self.connection.transport.producerState, "paused")
        log = self.service.core.topics.partition("t", 0).log
        self.assertLessEqual(log.next_offset - log.written_offset, 10_000)
        answers = self.answers(self.exchange(), 9)
        offsets = [message.responses[0].partition_responses[0].base_offset for _, message in answers]
        self.assertEqual(offsets, [0, 9_000, 18_000])
        self.assertEqual(self.connection.transport.producerState, "producing")

    def test_versions_0_to_2_are_answered_with_unsupported_version(self) -> None:
        for version, tail in ((0, b""), (1, b"\0\0\0\0"), (2, b"\xff" * 8 + b"\0\0\0\0")):
            body = struct.pack(">hii", 1, 1000, 1) + b"\0\1t" + struct.pack(">iii", 1, 0, 3) + b"abc"
            answer = self.exchange(frame(body, version, 77))
            expected = (
                struct.pack(">i", 77) + struct.pack(">i", 1) + b"\0\1t" + struct.pack(">iihq", 1, 0, 35, -1)
            )
            self.assertEqual(answer[4:], expected + tail)
        self.exchange(frame(struct.pack(">hii", 1, 1000, 99), 0, 78))
        self.assertTrue(self.connection.transport.disconnecting)

    def test_several_partitions_each_get_their_own_outcome(self) -> None:
        batch = build_single(None, b"x", 5)
        rows = [Request.Topic.Partition(index=n, records=batch) for n in (1, 9, 0)]
        message = Request(acks=-1, topic_data=[Request.Topic(name="t", partition_data=rows)])
        [(_, answer)] = self.answers(self.exchange(frame(message.encode(9), 9, 1)), 9)
        found = [
            (row.index, row.error_code, row.base_offset) for row in answer.responses[0].partition_responses
        ]
        self.assertEqual(found, [(1, 0, 0), (9, 3, -1), (0, 0, 0)])
        self.assertIsNone(self.connection.template)
