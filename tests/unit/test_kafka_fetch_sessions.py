"""Fetch sessions: what is remembered, what is left out of answers, and what bounds them."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.protocols.kafka import fetch_sessions
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.fetch_sessions import FetchSession, FetchSessions, SessionRefused, Wanted
from megabroker.protocols.kafka.schema import fetch

_Topic = fetch.Request.Topic
_Partition = fetch.Request.Topic.Partition
_Forgotten = fetch.Request.ForgottenTopic
_Row = fetch.Response.Topic.Partition


def request(
    session_id: int,
    epoch: int,
    *indexes: int,
    offset: int = 0,
    forget: tuple[int, ...] = (),
    topic: str = "t",
) -> fetch.Request:
    partitions = [_Partition(partition=index, fetch_offset=offset) for index in indexes]
    return fetch.Request(
        session_id=session_id,
        session_epoch=epoch,
        topics=[_Topic(topic=topic, partitions=partitions)] if indexes else [],
        forgotten_topics_data=[_Forgotten(topic=topic, partitions=list(forget))] if forget else [],
    )


class FetchSessionsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.limit = 3
        self.sessions = FetchSessions(lambda: self.limit, self.clock.seconds)

    def begin(self, *indexes: int) -> FetchSession:
        session = self.sessions.take(request(0, 0, *indexes), 11)[1]
        assert session is not None
        return session

    def indexes(self, wanted: object) -> list[int]:
        assert isinstance(wanted, list)
        return [one.partition.partition for one in wanted]

    def refused(self, request: fetch.Request, version: int = 11) -> KafkaError:
        return self.assertRaises(SessionRefused, self.sessions.take, request, version).error

    def test_without_a_session(self) -> None:
        wanted, session = self.sessions.take(request(0, -1, 3, 1), 11)
        self.assertEqual((self.indexes(wanted), session, len(self.sessions)), ([3, 1], None, 0))

    def test_partitions_are_added_changed_and_forgotten(self) -> None:
        session = self.begin(0, 1, 2)
        wanted, same = self.sessions.take(request(session.id, 1, 3, 1, offset=7, forget=(0,)), 11)
        self.assertIs(same, session)
        self.assertEqual(self.indexes(wanted), [1, 2, 3])
        self.assertEqual([one.partition.fetch_offset for one in wanted], [7, 0, 7])
        self.assertEqual(self.indexes(self.sessions.take(request(session.id, 2), 11)[0]), [1, 2, 3])

    def test_topics_by_id(self) -> None:
        ask = fetch.Request(session_epoch=0, topics=[_Topic(topic_id=bytes(16), partitions=[_Partition()])])
        session = self.sessions.take(ask, 13)[1]
        assert session is not None
        self.assertEqual(self.refused(request(session.id, 1), 12), KafkaError.FETCH_SESSION_TOPIC_ID_ERROR)
        self.assertEqual(self.indexes(self.sessions.take(request(session.id, 1), 13)[0]), [0])

    def test_epochs_count_and_wrap(self) -> None:
        session = self.begin(0)
        self.assertEqual(self.refused(request(session.id, 2)), KafkaError.INVALID_FETCH_SESSION_EPOCH)
        self.assertEqual(self.refused(request(session.id + 1, 1)), KafkaError.FETCH_SESSION_ID_NOT_FOUND)
        session.epoch = 2**31 - 1
        self.sessions.take(request(session.id, 2**31 - 1), 11)
        self.assertEqual(session.epoch, 1)

    def test_a_new_beginning_and_an_end_drop_the_session(self) -> None:
        session = self.begin(0)
        fresh = self.sessions.take(request(session.id, 0, 1), 11)[1]
        assert fresh is not None
        self.assertEqual([one.id for one in self.sessions], [fresh.id])
        self.assertIsNone(self.sessions.take(request(fresh.id, -1, 1), 11)[1])
        self.assertEqual(len(self.sessions), 0)

    def test_only_news_are_told(self) -> None:
        session = self.begin(0)
        (one,) = session.wanted.values()
        quiet = _Row(high_watermark=5, last_stable_offset=5, log_start_offset=0, records=b"")
        self.assertTrue(session.tell(one, quiet))
        self.assertFalse(session.tell(one, quiet))
        for changed in (
            _Row(high_watermark=6, last_stable_offset=5, log_start_offset=0, records=b""),
            _Row(high_watermark=6, last_stable_offset=6, log_start_offset=0, records=b""),
            _Row(high_watermark=6, last_stable_offset=6, log_start_offset=2, records=b""),
        ):
            self.assertTrue(session.tell(one, changed))
            self.assertFalse(session.tell(one, changed))
        failed = _Row(error_code=3, high_watermark=-1)
        self.assertTrue(session.tell(one, failed))
        self.assertTrue(session.tell(one, failed))
        self.assertTrue(session.tell(one, quiet))
        self.assertTrue(session.tell(one, _Row(high_watermark=5, log_start_offset=0, records=b"x")))

    def test_who_got_records_goes_to_the_end_of_the_line(self) -> None:
        session = self.begin(0, 1, 2)
        first = next(iter(session.wanted.values()))
        session.tell(first, _Row(high_watermark=5, records=b"x"))
        self.assertEqual(self.indexes(self.sessions.take(request(session.id, 1), 11)[0]), [1, 2, 0])
        forgotten = Wanted("t", bytes(16), _Partition(partition=9))
        session.tell(forgotten, _Row(high_watermark=5, records=b"x"))
        self.assertNotIn(("t", 9), session.wanted)

    def test_sessions_are_bounded_and_stale_ones_make_room(self) -> None:
        first, second, third = (self.begin(0) for _ in range(3))
        self.assertIsNone(self.sessions.take(request(0, 0, 0), 11)[1])
        self.clock.advance(119)
        self.sessions.take(request(first.id, 1), 11)
        self.clock.advance(2)
        fourth = self.begin(0)
        self.assertEqual({one.id for one in self.sessions}, {first.id, third.id, fourth.id})
        self.assertEqual(self.refused(request(second.id, 1)), KafkaError.FETCH_SESSION_ID_NOT_FOUND)
        self.limit = 0
        self.clock.advance(121)
        self.assertIsNone(self.sessions.take(request(0, 0, 0), 11)[1])

    def test_partitions_are_bounded(self) -> None:
        self.patch(fetch_sessions, "_MAX_PARTITIONS", 4)
        self.assertIsNone(self.sessions.take(request(0, 0, *range(5)), 11)[1])
        session = self.begin(0, 1, 2)
        self.assertIsNone(self.sessions.take(request(0, 0, 0, 1), 11)[1])
        self.sessions.take(request(session.id, 1, 3), 11)
        self.assertEqual(self.refused(request(session.id, 2, 4)), KafkaError.FETCH_SESSION_ID_NOT_FOUND)
        self.assertEqual(len(self.sessions), 0)
        self.begin(0, 1, 2, 3)
