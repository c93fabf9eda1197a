"""The members of a share group, who consumes what, and their sessions."""

from __future__ import annotations

import itertools
import json
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.core.groups.configs import GroupConfigs
from megabroker.core.groups.offsets import OrderedWrites
from megabroker.core.shares.assignor import Consumer, assign
from megabroker.core.shares.members_service import SHARE_GROUPS_TABLE, ShareMembers
from megabroker.core.shares.sessions import ShareSessions
from megabroker.core.shares.settings import ShareSettings
from megabroker.core.timers import TimerWheel
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import ConsumerHeartbeatAnswer, ShareHeartbeat, Topic
from tests.unit.core_fakes import FakeMetadata, disk_full


def topic(name: str, partitions: int) -> Topic:
    return Topic(name, UUID(int=sum(name.encode())), partitions)


class AssignorTests(SynchronousTestCase):
    def given(self, members: int, sizes: dict[int, int], former: Any = None) -> dict[str, Any]:
        topics = {UUID(int=number): size for number, size in sizes.items()}
        consumers = [
            Consumer(f"m{number}", frozenset(topics), (former or {}).get(f"m{number}", {}))
            for number in range(members)
        ]
        assigned = assign(consumers, topics)
        self.assertEqual(list(assigned), [one.member_id for one in consumers])
        return assigned

    def test_everything_is_had_and_shared_evenly(self) -> None:
        for members, partitions in itertools.product(range(1, 9), range(1, 9)):
            with self.subTest(members=members, partitions=partitions):
                assigned = self.given(members, {1: partitions})
                had = [len(one.get(UUID(int=1), ())) for one in assigned.values()]
                self.assertGreater(min(had), 0)
                self.assertLessEqual(max(had) - min(had), 1)
                counts = [
                    sum(index in one[UUID(int=1)] for one in assigned.values()) for index in range(partitions)
                ]
                self.assertGreater(min(counts), 0)
                self.assertLessEqual(max(counts), -(-members // partitions))

    def test_keeps_what_it_can(self) -> None:
        former = self.given(2, {1: 4})
        fewer = self.given(3, {1: 4}, former)
        for name, had in former.items():
            self.assertLessEqual(fewer[name][UUID(int=1)], had[UUID(int=1)])

    def test_those_who_subscribe_alike_share(self) -> None:
        one, two = UUID(int=1), UUID(int=2)
        assigned = assign(
            [
                Consumer("a", frozenset([one]), {}),
                Consumer("b", frozenset([one, two]), {two: frozenset([0])}),
                Consumer("c", frozenset(), {}),
            ],
            {one: 2, two: 1},
        )
        self.assertEqual(
            assigned,
            {
                "a": {one: frozenset([0, 1])},
                "b": {one: frozenset([0, 1]), two: frozenset([0])},
                "c": {},
            },
        )

    def test_topics_without_partitions(self) -> None:
        self.assertEqual(self.given(2, {}), {"m0": {}, "m1": {}})


class MembersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metadata = FakeMetadata()
        self.topics = [topic("t", 4)]
        self.offsets: set[str] = set()
        self.clock = Clock()
        self.configs = GroupConfigs(self.metadata)
        self.start()

    def start(self) -> None:
        self.members = ShareMembers(
            TimerWheel(self.clock),
            OrderedWrites(self.metadata),
            ShareSettings(max_members=3),
            self.configs,
            lambda: self.topics,
            self.offsets.__contains__,
        )
        self.members.load(self.metadata.rows(SHARE_GROUPS_TABLE))

    def beat(self, member: str, epoch: int, *names: str) -> Deferred[ConsumerHeartbeatAnswer]:
        request = ShareHeartbeat(
            "g", member, epoch, client_id="me", client_host="here", topic_names=frozenset(names) or None
        )
        return self.members.heartbeat(request)

    def told(self, member: str, epoch: int, *names: str) -> tuple[int, list[int] | None]:
        answer = self.successResultOf(self.beat(member, epoch, *names))
        self.assertEqual(answer.member_id, member)
        if answer.assignment is None:
            return answer.member_epoch, None
        return answer.member_epoch, sorted(answer.assignment.get(self.topics[0].id, ()))

    def refused(self, waiting: Deferred[Any]) -> ErrorCode:
        error = self.failureResultOf(waiting, BrokerError).value
        assert isinstance(error, BrokerError)
        return error.code

    def rows(self) -> list[list[str]]:
        return sorted(map(json.loads, self.metadata.rows(SHARE_GROUPS_TABLE)))

    def test_one_member_has_everything_two_share(self) -> None:
        self.assertEqual(self.told("a", 0, "t"), (1, [0, 1, 2, 3]))
        self.assertEqual(self.told("a", 1), (1, None))
        epoch, had = self.told("b", 0, "t")
        self.assertEqual((epoch, len(had or ())), (2, 2))
        epoch, rest = self.told("a", 1)
        self.assertEqual((epoch, sorted([*(had or ()), *(rest or ())])), (2, [0, 1, 2, 3]))
        self.assertEqual(self.told("a", 1), (2, None))
        self.assertEqual(self.told("a", 2, "t"), (2, rest))

    def test_epochs(self) -> None:
        self.assertIs(self.refused(self.beat("a", 1)), ErrorCode.GROUP_NOT_FOUND)
        self.told("a", 0, "t")
        self.assertIs(self.refused(self.beat("b", 1)), ErrorCode.UNKNOWN_MEMBER)
        self.assertIs(self.refused(self.beat("a", 2)), ErrorCode.FENCED_MEMBER_EPOCH)
        self.told("b", 0, "t")
        self.told("a", 1)
        self.told("c", 0, "t")
        self.assertEqual(self.told("a", 2)[0], 3)
        self.assertIs(self.refused(self.beat("a", 1)), ErrorCode.FENCED_MEMBER_EPOCH)
        self.assertEqual(self.told("a", 0, "t")[0], 3)

    def test_refused_requests(self) -> None:
        for member, epoch, names in (("", 0, ["t"]), ("a", -2, ["t"]), ("a", 0, [])):
            self.assertIs(self.refused(self.beat(member, epoch, *names)), ErrorCode.INVALID_REQUEST)
        for member in "abc":
            self.told(member, 0, "t")
        self.assertIs(self.refused(self.beat("d", 0, "t")), ErrorCode.GROUP_FULL)
        self.told("a", 0, "t")

    def test_leaving_and_silence(self) -> None:
        self.offsets.add("g")
        self.told("a", 0, "t")
        self.told("b", 0, "t")
        self.assertEqual(self.told("a", -1), (-1, None))
        self.assertEqual(self.told("b", 2), (3, [0, 1, 2, 3]))
        self.clock.advance(44)
        self.told("b", 3)
        self.clock.advance(44)
        self.assertEqual(self.members.state("g"), "Stable")
        self.clock.advance(2)
        self.assertEqual((self.members.state("g"), self.members.is_vacant("g")), ("Empty", True))
        self.assertEqual(self.rows(), [["g"]])
        self.assertIs(self.refused(self.beat("b", 3)), ErrorCode.UNKNOWN_MEMBER)
        self.assertEqual(self.told("b", 0, "t"), (5, [0, 1, 2, 3]))

    def test_a_group_without_anything_is_forgotten(self) -> None:
        self.told("a", 0, "t")
        self.told("a", -1)
        self.assertNotIn("g", self.members)
        self.assertEqual(self.rows(), [])
        self.assertEqual(self.told("a", 0, "t"), (1, [0, 1, 2, 3]))

    def test_topics_that_come_and_grow(self) -> None:
        self.topics[:] = [topic("u", 1)]
        self.told("a", 0, "t", "u")
        self.topics[:] = [topic("t", 2), topic("u", 1)]
        self.clock.advance(1.1)
        self.assertEqual(self.told("a", 1), (2, [0, 1]))
        self.topics[:] = [topic("t", 3), topic("u", 1)]
        self.clock.advance(1.1)
        self.assertEqual(self.told("a", 2), (3, [0, 1, 2]))

    def test_an_answer_waits_until_it_is_stored(self) -> None:
        self.metadata.holding = True
        waiting = self.beat("a", 0, "t")
        repeated = self.beat("a", 1)
        self.assertNoResult(waiting)
        self.assertNoResult(repeated)
        self.metadata.commit()
        self.assertEqual(self.successResultOf(waiting).member_epoch, 1)
        self.metadata.commit()
        self.assertEqual(self.successResultOf(repeated).member_epoch, 1)

    def test_what_could_not_be_stored_is_stored_later(self) -> None:
        self.metadata.error = disk_full()
        self.assertIs(self.refused(self.beat("a", 0, "t")), ErrorCode.DISK_FULL)
        self.metadata.error = None
        self.told("a", 1)
        self.assertEqual(self.rows(), [["g"], ["g", "a"]])

    def test_members_outlive_a_restart(self) -> None:
        self.told("a", 0, "t")
        self.told("b", 0, "t")
        before = self.told("a", 1)
        self.start()
        after = self.told("a", 2)
        self.assertEqual((after[0], after[1]), (3, None))
        self.assertEqual(
            before[1], sorted(self.members.describe("g").members[0].assignment[self.topics[0].id])
        )
        self.clock.advance(46)
        self.assertTrue(self.members.is_vacant("g") if "g" in self.members else True)

    def test_unreadable_rows_are_left_alone(self) -> None:
        self.metadata.tables[SHARE_GROUPS_TABLE] = {
            '["g"]': {"epoch": 1, "assignment_epoch": 1},
            '["g","a"]': {"rack_id": None},
            "x": {},
        }
        self.start()
        self.assertEqual(len(self.flushLoggedErrors()), 0)
        self.assertTrue(self.members.is_vacant("g"))

    def test_configurations_of_the_group(self) -> None:
        self.configs.on_change(self.members.reconfigure)
        self.told("a", 0, "t")
        self.successResultOf(
            self.configs.set("g", {"share.heartbeat.interval.ms": "100", "share.session.timeout.ms": "1000"})
        )
        self.assertEqual(self.successResultOf(self.beat("a", 1)).heartbeat_interval_ms, 100)
        self.clock.advance(1.1)
        self.assertNotIn("g", self.members)


class SessionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sessions = ShareSessions(2)
        self.place = (UUID(int=1), 0)

    def refused(self, group: str, member: str, epoch: int) -> ErrorCode:
        with self.assertRaises(BrokerError) as caught:
            self.sessions.proceed(group, member, epoch)
        return caught.exception.code

    def test_epochs(self) -> None:
        self.assertIs(self.refused("g", "a", 1), ErrorCode.SHARE_SESSION_NOT_FOUND)
        session = self.sessions.begin("g", "a", [self.place], "c")
        self.assertIs(self.refused("g", "a", 2), ErrorCode.INVALID_SHARE_SESSION_EPOCH)
        self.assertIs(self.sessions.proceed("g", "a", 1), session)
        self.assertIs(self.refused("g", "a", 1), ErrorCode.INVALID_SHARE_SESSION_EPOCH)
        session.epoch = (1 << 31) - 1
        self.sessions.proceed("g", "a", session.epoch)
        self.assertEqual(session.epoch, 1)
        self.assertIs(self.sessions.proceed("g", "a", -1), session)
        self.assertIs(self.sessions.end("g", "a"), session)
        self.assertIs(self.refused("g", "a", -1), ErrorCode.SHARE_SESSION_NOT_FOUND)

    def test_what_is_fetched(self) -> None:
        session = self.sessions.begin("g", "a", [self.place], "c")
        other = (UUID(int=1), 1)
        self.sessions.update(session, [other, self.place], [])
        self.assertEqual(list(session.places), [self.place, other])
        self.sessions.update(session, [], [self.place, self.place])
        self.assertEqual(list(session.places), [other])
        self.sessions.update(session, [other, self.place], [self.place, other])
        self.assertEqual(list(session.places), [])

    def test_no_more_partitions_than_may_be(self) -> None:
        session = self.sessions.begin("g", "a", [self.place], "c")
        crowd = [(UUID(int=2), index) for index in range(200_000)]
        with self.assertRaises(BrokerError) as caught:
            self.sessions.update(session, crowd, [])
        self.assertIs(caught.exception.code, ErrorCode.SHARE_SESSION_LIMIT)
        self.sessions.update(session, crowd[1:], [])
        with self.assertRaises(BrokerError):
            self.sessions.begin("g", "b", [self.place], "c")
        self.sessions.end("g", "a")
        self.sessions.begin("g", "b", crowd, "c")

    def test_no_more_than_there_may_be(self) -> None:
        self.sessions.begin("g", "a", [], "c")
        self.sessions.begin("g", "b", [], "d")
        with self.assertRaises(BrokerError) as caught:
            self.sessions.begin("g", "c", [], "d")
        self.assertIs(caught.exception.code, ErrorCode.SHARE_SESSION_LIMIT)
        self.sessions.begin("g", "b", [], "c")
        self.assertEqual(len(self.sessions), 2)
        self.assertEqual(self.sessions.end_all_of("d"), [])
        self.assertEqual({one.member_id for one in self.sessions.end_all_of("c")}, {"a", "b"})
        self.assertEqual(len(self.sessions), 0)
