"""What share partitions store and when, and what they make of it after a restart."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.core.groups.configs import GroupConfigs, duration_ms
from megabroker.core.shares import partitions as share_partitions
from megabroker.core.shares.live import SHARE_PARTITIONS_TABLE, LiveSharePartition
from megabroker.core.shares.service import ShareService
from megabroker.core.shares.settings import ShareSettings
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import AcknowledgementBatch, LogSpan, ShareHeartbeat, TimestampedOffset, Topic
from tests.unit.core_fakes import FakeMetadata, disk_full

TOPIC = Topic("t", UUID(int=7), 2)
PLACE = (TOPIC.id, 0)
ACCEPT, RELEASE = [1], [2]


class FakePartition:
    """A partition with ten records, of which the first two are deleted."""

    start_offset, high_watermark, leader_epoch = 2, 10, 3

    @property
    def log(self) -> FakePartition:
        return self

    def offset_for_time(self, timestamp_ms: int) -> TimestampedOffset | None:
        return TimestampedOffset(timestamp_ms // 1000, timestamp_ms) if timestamp_ms < 10_000 else None


class FakeTopics:
    def __init__(self) -> None:
        self.there = [TOPIC]

    def all(self) -> list[Topic]:
        return self.there

    def get(self, name: str) -> Topic | None:
        return next((one for one in self.there if one.name == name), None)

    def get_by_id(self, topic_id: UUID) -> Topic | None:
        return next((one for one in self.there if one.id == topic_id), None)

    def partition(self, name: str, index: int) -> FakePartition:
        return FakePartition()


class SharePartitionsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metadata = FakeMetadata()
        self.topics = FakeTopics()
        self.start()

    def start(self) -> None:
        self.clock = Clock()
        self.clock.advance(12)
        self.configs = GroupConfigs(self.metadata)
        self.configs.load()
        self.service = ShareService(
            self.clock,
            self.metadata,
            ShareSettings(),
            self.topics,
            self.configs,
            lambda group_id: group_id == "taken",
        )
        self.service.load()
        self.partitions = self.service.partitions

    def attend(self, reset: str = "earliest", group: str = "g") -> LiveSharePartition:
        if not self.configs.of(group):
            self.configs.set(group, {"share.auto.offset.reset": reset})
        live = self.partitions.attend(group, PLACE, FakePartition())
        self.clock.advance(0)
        return live

    def acquire(self, live: LiveSharePartition, member: str = "a", last: int = 9) -> None:
        offset = live.fetch_offset(2)
        assert offset is not None
        live.acquire(member, offset, [LogSpan(offset, last)], 100, 100, strict=False)

    def acknowledge(self, first: int, last: int, types: list[int], member: str = "a") -> Deferred[None]:
        return self.partitions.acknowledge("g", member, PLACE, [AcknowledgementBatch(first, last, types)])

    def rows(self) -> dict[str, Any]:
        return {
            json.loads(key)[0]: value for key, value in self.metadata.rows(SHARE_PARTITIONS_TABLE).items()
        }

    def refused(self, waiting: Deferred[Any]) -> ErrorCode:
        error = self.failureResultOf(waiting, BrokerError).value
        assert isinstance(error, BrokerError)
        return error.code

    def test_share_partitions_are_bounded_however_they_begin(self) -> None:
        self.patch(share_partitions, "_MAX_SHARE_PARTITIONS", 2)
        self.attend()
        other = (TOPIC.id, 1)
        self.assertEqual(
            self.refused(self.partitions.begin_at("h", {PLACE: 1, other: 1})), ErrorCode.TOPIC_LIMIT
        )
        self.partitions.begin_at("h", {PLACE: 1})
        with self.assertRaises(BrokerError):
            self.attend(group="i")
        self.partitions.begin_at("g", {PLACE: 5})
        self.clock.advance(0)
        self.assertEqual({group: row["start_offset"] for group, row in self.rows().items()}, {"g": 5, "h": 1})

    def test_where_a_group_begins(self) -> None:
        for group, reset, expected in (
            ("a", "earliest", 2),
            ("b", "latest", 10),
            ("c", "by_duration:PT6S", 6),
            ("d", "by_duration:PT11.5S", 2),
            ("e", "by_duration:PT1S", 10),
        ):
            self.attend(reset, group)
            self.assertEqual(self.rows()[group]["start_offset"], expected, reset)

    def test_nothing_is_handed_out_before_the_beginning_is_stored(self) -> None:
        self.configs.set("g", {"share.auto.offset.reset": "earliest"})
        self.metadata.holding = True
        live = self.attend()
        woken: list[bool] = []
        live.watch(lambda: woken.append(True))
        self.assertIsNone(live.fetch_offset(2))
        self.metadata.commit()
        self.assertEqual((live.fetch_offset(2), woken), (2, [True]))

    def test_a_beginning_that_cannot_be_stored_is_made_anew(self) -> None:
        self.configs.set("g", {"share.auto.offset.reset": "earliest"})
        self.metadata.error = disk_full()
        live = self.attend()
        self.assertEqual(len(self.flushLoggedErrors(BrokerError)), 1)
        self.assertTrue(live.dead)
        self.assertIsNone(live.fetch_offset(2))
        self.metadata.error = None
        self.assertEqual(self.attend().fetch_offset(2), 2)

    def test_one_write_a_turn_however_many_acknowledgements(self) -> None:
        live = self.attend()
        self.acquire(live)
        before = self.metadata.writes
        waiting = [self.acknowledge(offset, offset, ACCEPT) for offset in range(2, 10)]
        for one in waiting:
            self.assertNoResult(one)
        self.clock.advance(0)
        for one in waiting:
            self.successResultOf(one)
        self.assertEqual(self.metadata.writes, before + 1)
        self.assertEqual(
            self.rows()["g"], {"state_epoch": 0, "leader_epoch": 3, "start_offset": 10, "batches": []}
        )

    def test_what_could_not_be_stored_is_told_and_stored_with_the_next(self) -> None:
        live = self.attend()
        self.acquire(live)
        self.metadata.error = disk_full()
        failed = self.acknowledge(2, 3, ACCEPT)
        self.clock.advance(0)
        self.assertIs(self.refused(failed), ErrorCode.DISK_FULL)
        self.assertEqual(self.rows()["g"]["start_offset"], 2)
        self.metadata.error = None
        stored = self.acknowledge(4, 4, ACCEPT)
        self.clock.advance(0)
        self.successResultOf(stored)
        self.assertEqual(self.rows()["g"]["start_offset"], 5)

    def test_restart(self) -> None:
        live = self.attend()
        self.acquire(live)
        self.acknowledge(4, 5, ACCEPT)
        self.acknowledge(7, 7, RELEASE)
        self.clock.advance(0)
        self.assertEqual(self.rows()["g"]["batches"], [[4, 5, 2, 1], [7, 7, 0, 1]])
        self.start()
        again = self.attend()
        self.assertEqual((again.automaton.start_offset, again.fetch_offset(2)), (2, 2))
        rows = again.acquire("b", 2, [LogSpan(2, 9)], 100, 1, strict=False)
        self.assertEqual([tuple(row) for row in rows], [(2, 3, 1), (6, 6, 1), (7, 7, 2), (8, 9, 1)])

    def test_a_stop_writes_what_waits(self) -> None:
        live = self.attend()
        self.acquire(live)
        stored = self.acknowledge(2, 2, ACCEPT)
        self.service.stop()
        self.successResultOf(stored)
        self.assertEqual(self.rows()["g"]["start_offset"], 3)
        self.assertIs(
            self.refused(self.service.heartbeat(ShareHeartbeat("g", "a", 0))), ErrorCode.NOT_COORDINATOR
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_timer_for_all_locks(self) -> None:
        live = self.attend()
        self.acquire(live, last=3)
        self.clock.advance(10)
        self.acquire(live, "b", last=9)
        self.clock.advance(20.1)
        self.assertEqual([run.member_id for run in live.automaton.runs], ["", "b"])
        self.assertEqual(self.rows()["g"]["batches"], [[2, 3, 0, 1]])
        self.clock.advance(10)
        self.assertEqual({run.member_id for run in live.automaton.runs}, {""})

    def test_rows_that_are_none_and_topics_that_are_gone(self) -> None:
        table = self.metadata.tables.setdefault(SHARE_PARTITIONS_TABLE, {})
        gone = json.dumps(["g", UUID(int=99).hex, 0], separators=(",", ":"))
        good = {"state_epoch": 1, "leader_epoch": 0, "start_offset": 5, "batches": [[6, 6, 2, 1]]}
        table.update(
            {
                gone: good,
                "nonsense": {},
                json.dumps(["g", TOPIC.id.hex, 0], separators=(",", ":")): good,
                json.dumps(["g", TOPIC.id.hex, 1], separators=(",", ":")): {**good, "batches": [[1]]},
            }
        )
        self.start()
        self.assertEqual(self.partitions.places("g"), [PLACE])
        self.assertNotIn(gone, table)
        state = self.partitions.stored_state("g", PLACE)
        assert state is not None
        self.assertEqual((state.start_offset, state.complete_count), (5, 1))
        self.assertEqual(self.partitions.offset("g", PLACE).lag, 4)

    def test_a_topic_that_is_deleted(self) -> None:
        live = self.attend()
        self.acquire(live)
        woken: list[bool] = []
        live.watch(lambda: woken.append(True))
        self.topics.there.clear()
        self.service.topic_deleted("t")
        self.assertEqual((self.rows(), live.dead, woken), ({}, True, [True]))
        self.assertIs(self.refused(self.acknowledge(2, 2, ACCEPT)), ErrorCode.UNKNOWN_PARTITION)

    def test_offsets_set_while_something_waits_to_be_stored(self) -> None:
        live = self.attend()
        self.acquire(live)
        late = self.acknowledge(2, 9, ACCEPT)
        made = self.partitions.begin_at("g", {PLACE: 4})
        self.clock.advance(0)
        self.successResultOf(late)
        self.successResultOf(made)
        self.assertEqual((self.rows()["g"]["start_offset"], self.rows()["g"]["state_epoch"]), (4, 1))
        self.assertIs(self.refused(self.acknowledge(4, 4, ACCEPT)), ErrorCode.INVALID_REQUEST)

    def test_names_of_other_groups(self) -> None:
        beat = ShareHeartbeat("taken", "a", 0, topic_names=frozenset("t"))
        self.assertIs(self.refused(self.service.heartbeat(beat)), ErrorCode.GROUP_NOT_FOUND)
        for waiting in (self.service.delete("taken"), self.service.set_offsets("taken", {})):
            self.assertIs(self.refused(waiting), ErrorCode.GROUP_NOT_FOUND)
        self.assertIs(self.refused(self.service.delete("unknown")), ErrorCode.GROUP_NOT_FOUND)
        self.assertIs(self.refused(self.service.delete("")), ErrorCode.INVALID_GROUP)


class GroupConfigsTests(SynchronousTestCase):
    def test_durations(self) -> None:
        for text, expected in (
            ("PT1H", 3_600_000),
            ("P1D", 86_400_000),
            ("P1DT2H3M4.5S", 93_784_500),
            ("PT0.0005S", 0),
            ("pt1m", 60_000),
            ("P", None),
            ("PT", None),
            ("P1DT", None),
            ("-PT1H", None),
            ("PT1H ", None),
            ("1H", None),
        ):
            self.assertEqual(duration_ms(f"by_duration:{text}"), expected, text)
        self.assertIsNone(duration_ms("PT1H"))

    def test_words_for_true(self) -> None:
        configs = GroupConfigs(FakeMetadata())
        for word, plain in (("TRUE", "true"), (" false ", "false")):
            self.successResultOf(configs.set("g", {"share.renew.acknowledge.enable": word}))
            self.assertEqual(configs.value("g", "share.renew.acknowledge.enable"), plain)
        self.failureResultOf(configs.set("g", {"share.renew.acknowledge.enable": "yes"}), BrokerError)

    def test_kept_over_a_restart_even_if_the_broker_has_changed(self) -> None:
        metadata = FakeMetadata()
        configs = GroupConfigs(metadata)
        self.successResultOf(configs.set("g", {"share.session.timeout.ms": "6000"}))
        metadata.tables["group_configs"]["bad"] = {"no.such": "1"}
        metadata.tables["group_configs"]["worse"] = 7
        again = GroupConfigs(metadata, {"share.heartbeat.interval.ms": "9000"})
        again.load()
        self.assertEqual(again.groups(), ["g"])
        self.assertEqual(again.number("g", "share.session.timeout.ms"), 6000)
        self.assertEqual(again.number("g", "share.heartbeat.interval.ms"), 9000)
        waiting = again.set("g", {"share.session.timeout.ms": "7000"})
        self.failureResultOf(waiting, BrokerError)


class RoomTests(SynchronousTestCase):
    def test_share_groups_and_what_their_members_say_have_bounds(self) -> None:
        metadata, topics, clock = FakeMetadata(), FakeTopics(), Clock()
        clock.advance(12)
        configs = GroupConfigs(metadata)
        configs.load()
        settings = ShareSettings(max_groups=2, max_member_bytes=10_000)
        service = ShareService(clock, metadata, settings, topics, configs, lambda group_id: False)
        service.load()

        def join(group: str, member: str, *names: str) -> ErrorCode | None:
            answers: list[Any] = []
            request = ShareHeartbeat(group, member, 0, topic_names=frozenset(names or ("t",)))
            service.heartbeat(request).addBoth(answers.append)
            clock.advance(0)
            found = getattr(answers[0], "value", answers[0])
            return found.code if isinstance(found, BrokerError) else None

        self.assertEqual([join("a", "1"), join("b", "1"), join("c", "1")], [None, None, ErrorCode.GROUP_FULL])
        self.assertIs(
            join("a", "2", *("x" * 240 + str(number) for number in range(40))), ErrorCode.GROUP_FULL
        )
        self.assertIsNone(join("a", "2"))
        service.stop()
