"""Quotas as a connection keeps them: what is told, how long nothing is read, who is left alone."""

from __future__ import annotations

import struct
from typing import Any
from unittest import mock

from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport

from megabroker.codec.batch import build_single
from megabroker.model import Principal, QuotaChange
from megabroker.net.factory import BrokerFactory
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import (
    create_partitions,
    create_topics,
    delete_topics,
    fetch,
    metadata,
)
from megabroker.protocols.kafka.schema.headers import read_request_header
from megabroker.protocols.kafka.schema.registry import APIS, response_header_version
from tests.unit.share_fetch_harness import ShareCase, ShareMember, acquired
from tests.unit.test_kafka_produce import ProduceCase, frame, request

PRODUCE, FETCH, METADATA, CREATE, DELETE, GROW = 0, 1, 3, 19, 20, 37
EXCEEDED = int(KafkaError.THROTTLING_QUOTA_EXCEEDED)
MINUTE = 60


def framed(message: Any, key: int, version: int, client: bytes = b"me", correlation_id: int = 1) -> bytes:
    """Return a request of any API, ready to send."""
    flexible = version >= _first_flexible(key)
    head = struct.pack(">hhih", key, version, correlation_id, len(client)) + client
    body = head + (b"\0" if flexible else b"") + message.encode(version)
    read_request_header(memoryview(body), 0, len(body))
    return struct.pack(">i", len(body)) + body


def _first_flexible(key: int) -> int:
    return next((v for v in range(30) if response_header_version(key, v)), 99)


def produced(size: int, version: int = 9, client: bytes = b"me", acks: int = 1) -> bytes:
    """Return a produce request with so many bytes of value."""
    return frame(request(build_single(None, b"x" * size, 5), version, acks=acks), version, 1, client)


class QuotaCase(ProduceCase):
    def set(self, *entity: tuple[str, str | None], **values: float | None) -> None:
        self.done(self.service.broker.quotas.change([QuotaChange(tuple(sorted(entity)), values)]))

    def limit(self, **values: float | None) -> None:
        """Set quotas of the client id "me"."""
        self.set(("client-id", "me"), **values)

    def is_muted(self, connection: Any = None) -> bool:
        return bool((connection or self.connection).transport.producerState == "paused")

    def ask(self, message: Any, key: int, version: int, connection: Any = None) -> Any:
        """Send one request and return its only answer."""
        data = self.exchange(framed(message, key, version), connection=connection)
        return self.decoded(data, key, version)

    def decoded(self, data: bytes, key: int, version: int) -> Any:
        (size,) = struct.unpack_from(">i", data)
        self.assertEqual(len(data), 4 + size)
        pos = 8 + response_header_version(key, version)
        message, end = APIS[key].response.decoder(version)(data, pos, len(data))
        self.assertEqual(end, len(data))
        return message

    def told(self, data: bytes, version: int = 9) -> list[int]:
        """Return the throttle times of produce answers."""
        return [message.throttle_time_ms for _, message in self.answers(data, version)]


class ProduceQuotaTests(QuotaCase):
    def test_told_at_once_and_muted_for_as_long(self) -> None:
        self.limit(producer_byte_rate=1000.0)
        for version in range(3, 13):
            with self.subTest(version=version):
                connection = self.connect()
                self.assertEqual(
                    self.told(self.exchange(produced(100, version), connection=connection), version), [0]
                )
                self.assertFalse(self.is_muted(connection))
                big = produced(20_000, version)
                expected = round(((len(big) - 4 + len(produced(100, version)) - 4) / 10_000 - 1) * 10_000)
                self.assertEqual(self.told(self.exchange(big, connection=connection), version), [expected])
                self.assertTrue(self.is_muted(connection))
                self.clock.advance(expected / 1000 - 0.01)
                self.assertTrue(self.is_muted(connection))
                self.clock.advance(0.011)
                self.assertFalse(self.is_muted(connection))
                self.clock.advance(MINUTE)
        self.assertEqual(self.service.core.topics.partition("t", 0).high_watermark, 20)

    def test_requests_behind_it_wait(self) -> None:
        self.limit(producer_byte_rate=1000.0)
        self.assertEqual(self.told(self.exchange(produced(20_000), produced(1), produced(2))), [10_106])
        self.assertEqual(len(self.stored()), 1)
        self.clock.advance(10.1)
        self.assertEqual(len(self.stored()), 1)
        self.clock.advance(0.01)
        for _ in range(20):
            self.clock.advance(0)
        self.assertEqual(len(self.stored()), 2, "still too much in eleven seconds: the third waits again")
        self.clock.advance(MINUTE)
        self.assertEqual(len(self.stored()), 3)

    def test_acks_0_is_muted_without_an_answer(self) -> None:
        self.limit(producer_byte_rate=1000.0)
        self.assertEqual(self.exchange(produced(20_000, acks=0)), b"")
        self.assertTrue(self.is_muted())

    def test_other_clients_are_left_alone_and_keep_their_short_way(self) -> None:
        self.exchange(produced(10, client=b"other"))
        self.limit(producer_byte_rate=1000.0)
        other = self.connect()
        for _ in range(3):
            data = self.exchange(produced(50_000, client=b"other"), connection=other)
            self.assertEqual(self.told(data), [0])
        self.assertIsNotNone(other.template)
        self.assertFalse(self.is_muted(other))

    def test_a_client_is_limited_whatever_connection_it_comes_by(self) -> None:
        self.limit(producer_byte_rate=1000.0)
        self.exchange(produced(9_000), connection=self.connect())
        second = self.connect()
        self.assertGreater(self.told(self.exchange(produced(9_000), connection=second))[0], 0)
        self.assertTrue(self.is_muted(second))

    def test_a_quota_that_is_set_meanwhile_ends_the_short_way(self) -> None:
        self.exchange(produced(10))
        template = self.connection.template
        self.assertIsNotNone(template)
        self.assertEqual(self.told(self.exchange(produced(20_000))), [0])
        self.assertIs(self.connection.template, template)
        self.limit(producer_byte_rate=1000.0)
        self.assertGreater(self.told(self.exchange(produced(20_000)))[0], 0)
        self.limit(producer_byte_rate=None)
        self.clock.advance(MINUTE)
        self.assertEqual(self.told(self.exchange(produced(20_000), produced(20_000))), [0, 0])
        self.assertIsNot(self.connection.template, template)

    def test_a_request_that_waits_for_room_is_counted_once(self) -> None:
        self.limit(producer_byte_rate=1000.0)
        kind = type(self.service.core.topics.partition("t", 0))
        waiting: list[Any] = []
        with (
            mock.patch.object(kind, "has_room", return_value=False),
            mock.patch.object(kind, "when_room", lambda _, callback: waiting.append(callback)),
        ):
            self.assertEqual(self.exchange(produced(6_000)), b"")
            for _ in range(3):
                waiting.pop()()
        waiting.pop()()
        self.assertEqual(self.told(self.exchange()), [0])
        self.assertEqual(self.told(self.exchange(produced(3_500))), [0])

    def test_users_without_a_name(self) -> None:
        self.set(("user", "ANONYMOUS"), producer_byte_rate=1000.0)
        self.assertGreater(self.told(self.exchange(produced(20_000, client=b"")))[0], 0)
        other = self.connect()
        self.assertGreater(self.told(self.exchange(produced(9, client=b"any"), connection=other))[0], 0)

    def test_a_user_with_a_name(self) -> None:
        self.set(("user", "alice"), producer_byte_rate=1000.0)
        self.connection.principal = Principal("User", "alice")
        self.assertGreater(self.told(self.exchange(produced(20_000, client=b"")))[0], 0)
        self.assertEqual(self.told(self.exchange(produced(20_000), connection=self.connect())), [0])

    def test_a_peer_that_goes_while_it_is_muted(self) -> None:
        self.limit(producer_byte_rate=1000.0)
        self.exchange(produced(20_000))
        self.connection.connectionLost()
        self.assertNotIn(self.connection, self.factory.connections)
        self.clock.advance(MINUTE)


class FetchQuotaTests(QuotaCase):
    def fetch(self, version: int = 12, session: tuple[int, int] = (0, -1), max_wait_ms: int = 0) -> Any:
        wanted = fetch.Request.Topic.Partition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)
        topics = [] if session[1] > 0 else [fetch.Request.Topic(topic="t", partitions=[wanted])]
        return self.ask(
            fetch.Request(
                max_wait_ms=max_wait_ms,
                min_bytes=1,
                max_bytes=1 << 20,
                session_id=session[0],
                session_epoch=session[1],
                topics=topics,
            ),
            FETCH,
            version,
        )

    def setUp(self) -> None:
        super().setUp()
        for _ in range(4):
            self.exchange(produced(3000, client=b"other"))

    def records(self, answer: Any) -> int:
        return sum(len(row.records) for topic in answer.responses for row in topic.partitions)

    def test_no_more_at_once_than_ten_seconds_worth_then_nothing(self) -> None:
        self.limit(consumer_byte_rate=700.0)
        first = self.fetch()
        self.assertEqual(first.throttle_time_ms, 0)
        self.assertEqual(self.records(first), 2 * (3000 + 70))
        second = self.fetch()
        self.assertEqual((self.records(second), second.responses), (0, []))
        self.assertGreater(second.throttle_time_ms, 0)
        self.assertTrue(self.is_muted())
        self.clock.advance(second.throttle_time_ms / 1000)
        self.assertFalse(self.is_muted())
        self.clock.advance(11)
        self.assertEqual(self.records(self.fetch()), self.records(first))

    def test_a_session_goes_on_after_the_wait(self) -> None:
        self.limit(consumer_byte_rate=700.0)
        first = self.fetch(session=(0, 0))
        self.assertTrue(first.session_id)
        second = self.fetch(session=(first.session_id, 1))
        self.assertEqual((second.session_id, second.responses), (first.session_id, []))
        self.assertGreater(second.throttle_time_ms, 0)
        self.clock.advance(MINUTE)
        third = self.fetch(session=(first.session_id, 2))
        self.assertEqual((third.error_code, self.records(third)), (0, self.records(first)))

    def test_no_session_begins_with_an_empty_answer(self) -> None:
        self.limit(consumer_byte_rate=700.0)
        self.fetch()
        answer = self.fetch(session=(0, 0))
        self.assertGreater(answer.throttle_time_ms, 0)
        self.assertEqual((answer.session_id, len(self.factory.fetch_sessions)), (0, 0))

    def test_others_are_left_alone(self) -> None:
        self.set(("client-id", "other"), consumer_byte_rate=1.0)
        for _ in range(5):
            answer = self.fetch()
            self.assertEqual((answer.throttle_time_ms, self.records(answer)), (0, 4 * (3000 + 70)))


class ShareFetchQuotaTests(ShareCase):
    def test_records_are_sent_and_the_next_request_waits(self) -> None:
        change = QuotaChange((("client-id", "me"),), {"consumer_byte_rate": 100.0})
        self.configure(share_auto_offset_reset="earliest")
        member = ShareMember(self, "a")
        self.done(self.service.broker.quotas.change([change]))
        self.produce(b"x" * 2000)
        answer = member.fetch()
        self.assertEqual(acquired(answer), [(0, 0, 1)])
        size = len(answer.responses[0].partitions[0].records)
        self.assertEqual(answer.throttle_time_ms, (size - 1000) * 10)
        self.assertEqual(member.connection.transport.producerState, "paused")


class RequestTimeTests(QuotaCase):
    def test_every_answer_tells_it(self) -> None:
        self.limit(request_percentage=0.000001)
        for version in range(3, 13):
            with self.subTest(version=version):
                answer = self.ask(metadata.Request(topics=None), METADATA, version, connection=self.connect())
                self.assertEqual(answer.throttle_time_ms, 1000)
        self.ask(metadata.Request(topics=None), METADATA, 12)
        self.assertTrue(self.is_muted())
        self.clock.advance(1)
        self.assertFalse(self.is_muted())

    def test_producers_too(self) -> None:
        self.limit(request_percentage=0.000001)
        self.assertEqual(self.told(self.exchange(produced(10))), [1000])
        self.assertIsNone(self.connection.template)

    def test_enough_is_not_too_much(self) -> None:
        self.limit(request_percentage=1_000_000.0)
        answer = self.ask(metadata.Request(topics=None), METADATA, 12)
        self.assertEqual(answer.throttle_time_ms, 0)
        self.assertFalse(self.is_muted())


class MutationTests(QuotaCase):
    """One partition a second: eleven at once, and one more before the next is refused."""

    def setUp(self) -> None:
        super().setUp()
        self.limit(controller_mutation_rate=1.0)

    def create(self, version: int, **partitions: int) -> Any:
        Topic = create_topics.Request.Topic
        topics = [
            Topic(name=name, num_partitions=count, replication_factor=1) for name, count in partitions.items()
        ]
        return self.ask(create_topics.Request(topics=topics, timeout_ms=1), CREATE, version)

    def test_create_refused(self) -> None:
        answer = self.create(7, a=11, b=2, c=1)
        self.assertEqual([row.error_code for row in answer.topics], [0, 0, EXCEEDED])
        self.assertEqual(answer.throttle_time_ms, 2000)
        self.assertTrue(self.is_muted())
        self.assertIsNone(self.service.core.topics.get("c"))
        self.clock.advance(2)
        answer = self.create(6, c=1)
        self.assertEqual(([row.error_code for row in answer.topics], answer.throttle_time_ms), ([0], 0))

    def test_create_by_older_clients_waits(self) -> None:
        answer = self.create(5, a=11, b=2, c=1)
        self.assertEqual([row.error_code for row in answer.topics], [0, 0, 0])
        self.assertEqual(answer.throttle_time_ms, 3000)
        self.assertTrue(self.is_muted())

    def test_delete(self) -> None:
        for name in ("a", "b", "c"):
            self.done(self.service.core.topics.create(name, 12))
        Topic = delete_topics.Request.Topic
        asked = delete_topics.Request(topics=[Topic(name="a"), Topic(name="b")], timeout_ms=1)
        answer = self.ask(asked, DELETE, 6)
        self.assertEqual([row.error_code for row in answer.responses], [0, EXCEEDED])
        self.assertEqual(answer.throttle_time_ms, 1000)
        self.assertIsNotNone(self.service.core.topics.get("b"))
        self.clock.advance(1)
        answer = self.ask(delete_topics.Request(topic_names=["b", "c"], timeout_ms=1), DELETE, 4)
        self.assertEqual([row.error_code for row in answer.responses], [0, 0])
        self.assertEqual(answer.throttle_time_ms, 24_000)

    def test_grow(self) -> None:
        Topic = create_partitions.Request.Topic

        def grow(count: int, version: int) -> Any:
            topic = Topic(name="t", count=count, assignments=None)
            return self.ask(create_partitions.Request(topics=[topic], timeout_ms=1), GROW, version)

        self.assertEqual(grow(14, 3).results[0].error_code, 0)
        answer = grow(15, 3)
        self.assertEqual((answer.results[0].error_code, answer.throttle_time_ms), (EXCEEDED, 1000))
        self.clock.advance(1)
        answer = grow(16, 2)
        self.assertEqual((answer.results[0].error_code, answer.throttle_time_ms), (0, 2000))

    def test_what_is_wrong_costs_nothing(self) -> None:
        for _ in range(20):
            answer = self.create(7, **{"t": 1, "bad/name": 5})
            self.assertEqual(answer.throttle_time_ms, 0)
            self.assertNotIn(EXCEEDED, [row.error_code for row in answer.topics])


class ConnectionRateTests(QuotaCase):
    def come(self, factory: BrokerFactory, host: str = "10.0.0.9") -> Any:
        connection: Any = factory.buildProtocol(IPv4Address("TCP", host, 9))
        connection.makeConnection(StringTransport())
        return connection

    def test_one_too_many_is_closed_after_a_while(self) -> None:
        self.set(("ip", "10.0.0.9"), connection_creation_rate=1.0)
        for _ in range(10):
            self.assertFalse(self.is_muted(self.come(self.factory)))
        late = self.come(self.factory)
        self.assertTrue(self.is_muted(late))
        self.assertIn(late, self.factory.connections)
        self.clock.advance(0.99)
        self.assertFalse(late.transport.disconnecting)
        self.clock.advance(0.01)
        self.assertTrue(late.transport.disconnecting)
        self.assertFalse(self.is_muted(self.come(self.factory, "10.0.0.8")))
        self.clock.advance(11)
        self.assertFalse(self.is_muted(self.come(self.factory)))

    def test_it_may_go_before(self) -> None:
        self.set(("ip", None), connection_creation_rate=1.0)
        for _ in range(12):
            late = self.come(self.factory)
        late.connectionLost()
        self.assertNotIn(late, self.factory.connections)
        self.clock.advance(5)
