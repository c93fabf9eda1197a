"""ListOffsets, OffsetForLeaderEpoch, FindCoordinator and InitProducerId."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import fail

from megabroker.errors import ErrorCode, StorageError
from megabroker.model import Node
from megabroker.protocols.kafka.schema import (
    find_coordinator,
    init_producer_id,
    list_offsets,
    offset_for_leader_epoch,
)
from tests.unit.kafka_apis_harness import NOW_MS, ApiCase, versions

UNKNOWN_TOPIC, COORDINATOR_LOADING, COORDINATOR_NOT_AVAILABLE = 3, 14, 15
UNSUPPORTED_VERSION, INVALID_REQUEST, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH = 35, 42, 74, 75
STORAGE_ERROR = 56


class ListOffsetsTests(ApiCase):
    def setUp(self) -> None:
        super().setUp()
        self.create("t", 2)
        self.produce("t", NOW_MS, NOW_MS + 50, NOW_MS + 20)
        self.produce("t", NOW_MS + 60, NOW_MS + 10)
        self.partition = self.topics.partition("t", 0)

    def rows(self, version: int, *asked: tuple[Any, ...], committed: bool = False, **more: Any) -> Any:
        """``asked`` are (topic, partition, timestamp)."""
        Topic = list_offsets.Request.Topic
        request = list_offsets.Request(
            replica_id=-1,
            isolation_level=int(committed),
            topics=[
                Topic(
                    name=name,
                    partitions=[Topic.Partition(partition_index=index, timestamp=timestamp, **more)],
                )
                for name, index, timestamp in asked
            ],
        )
        return [one for topic in self.ask(request, version).topics for one in topic.partitions]

    def find(self, version: int, timestamp: int, **more: Any) -> tuple[int, int, int, int]:
        (row,) = self.rows(version, ("t", 0, timestamp), **more)
        return row.error_code, row.offset, row.timestamp, row.leader_epoch

    def test_ends_and_times(self) -> None:
        for version in range(1, 11):
            epoch = 0 if version >= 4 else -1
            self.assertEqual(self.find(version, -1), (0, 5, -1, epoch))
            self.assertEqual(self.find(version, -2), (0, 0, -1, epoch))
            self.assertEqual(self.find(version, 0), (0, 0, NOW_MS, epoch))
            self.assertEqual(self.find(version, NOW_MS + 15), (0, 1, NOW_MS + 50, epoch))
            self.assertEqual(self.find(version, NOW_MS + 51), (0, 3, NOW_MS + 60, epoch))
            self.assertEqual(self.find(version, NOW_MS + 61), (0, -1, -1, -1))
            self.assertEqual(self.find(version, 2**63 - 1), (0, -1, -1, -1))

    def test_special_times_by_version(self) -> None:
        found = {-3: (0, 3, NOW_MS + 60, 0), -4: (0, 0, -1, 0), -5: (0, -1, -1, -1)}
        for timestamp, since in ((-3, 7), (-4, 8), (-5, 9), (-6, 99), (-(2**63), 99)):
            for version in range(1, 11):
                row = self.find(version, timestamp)
                if version >= since:
                    self.assertEqual(row, found[timestamp])
                else:
                    self.assertEqual(row, (UNSUPPORTED_VERSION, -1, -1, -1))

    def test_old_style(self) -> None:
        def old(timestamp: int, most: int) -> list[int]:
            (row,) = self.rows(0, ("t", 0, timestamp), max_num_offsets=most)
            self.assertEqual(row.error_code, 0)
            return row.old_style_offsets

        self.assertEqual(old(-1, 1), [5])
        self.assertEqual(old(-1, 10), [5, 0])
        self.assertEqual(old(-2, 10), [0])
        self.assertEqual(old(NOW_MS + 51, 1), [3])
        self.assertEqual(old(NOW_MS + 100, 1), [5])
        self.assertEqual(old(-1, 0), [])
        self.assertEqual(old(-1, -(2**31)), [])
        self.assertEqual(self.rows(0, ("t", 0, -3))[0].error_code, UNSUPPORTED_VERSION)

    def test_nothing_beyond_what_the_client_may_read(self) -> None:
        self.partition.high_watermark = 3
        for version in (7, 10):
            self.assertEqual(self.find(version, -1)[1], 3)
            self.assertEqual(self.find(version, NOW_MS + 51), (0, -1, -1, -1))
            self.assertEqual(self.find(version, -3), (0, -1, -1, -1))
        self.assertEqual(self.find(2, -1, committed=True)[1], self.partition.last_stable_offset)

    def test_leader_epochs(self) -> None:
        for version in range(4, 11):
            self.assertEqual(self.find(version, -1, current_leader_epoch=0)[0], 0)
            self.assertEqual(self.find(version, -1, current_leader_epoch=1)[0], UNKNOWN_LEADER_EPOCH)
        self.partition.leader_epoch = 4
        self.assertEqual(self.find(9, -1, current_leader_epoch=3)[0], FENCED_LEADER_EPOCH)
        self.assertEqual(self.find(9, -2), (0, 0, -1, -1))

    def test_what_is_not_there(self) -> None:
        def check(version: int) -> None:
            for name, index in (
                ("no", 0),
                ("t", 2),
                ("t", -1),
                ("t", -(2**31)),
                ("\x00", 0),
                ("x" * 30_000, 0),
            ):
                (row,) = self.rows(version, (name, index, -1))
                self.assertEqual((row.error_code, row.partition_index), (UNKNOWN_TOPIC, index))
            self.assertEqual(self.rows(version), [])

        self.at_every_version(2, check)

    def test_asked_for_twice(self) -> None:
        def check(version: int) -> None:
            rows = self.rows(version, ("t", 0, -1), ("t", 1, -1), ("t", 0, -2))
            self.assertEqual([row.error_code for row in rows], [INVALID_REQUEST, 0, INVALID_REQUEST])

        self.at_every_version(2, check)


class LeaderEpochTests(ApiCase):
    def setUp(self) -> None:
        super().setUp()
        self.create("t")
        self.partition = self.topics.partition("t", 0)

    def end_of(self, version: int, epoch: int, known: int = -1, index: int = 0) -> tuple[int, int, int]:
        Topic = offset_for_leader_epoch.Request.Topic
        wanted = Topic.Partition(partition=index, leader_epoch=epoch, current_leader_epoch=known)
        request = offset_for_leader_epoch.Request(topics=[Topic(topic="t", partitions=[wanted])])
        row = self.ask(request, version).topics[0].partitions[0]
        return row.error_code, row.leader_epoch, row.end_offset

    def test_epochs(self) -> None:
        def check(version: int) -> None:
            self.assertEqual(self.end_of(version, 5), (0, 5, 4))
            self.assertEqual(self.end_of(version, 2), (0, 2, 3))
            self.assertEqual(self.end_of(version, 1), (0, 0, 2))
            for unknown in (6, 2**31 - 1, -1, -(2**31)):
                self.assertEqual(self.end_of(version, unknown), (0, -1, -1))
            self.assertEqual(self.end_of(version, 2, known=5)[0], 0)
            self.assertEqual(self.end_of(version, 2, known=2), (FENCED_LEADER_EPOCH, -1, -1))
            self.assertEqual(self.end_of(version, 2, known=9), (UNKNOWN_LEADER_EPOCH, -1, -1))
            self.assertEqual(self.end_of(version, 0, index=1), (UNKNOWN_TOPIC, -1, -1))

        for epoch, timestamps in ((0, (1, 2)), (2, (3,)), (5, (4,))):
            self.partition.leader_epoch = epoch
            self.produce("t", *timestamps)
        self.at_every_version(23, check)

    def test_log_without_records(self) -> None:
        for version in versions(23):
            self.assertEqual(self.end_of(version, 0), (0, 0, 0))


class FindCoordinatorTests(ApiCase):
    def test_groups_and_transactions(self) -> None:
        def check(version: int) -> None:
            for kind in (0, 1):
                request = find_coordinator.Request(key="a", key_type=kind, coordinator_keys=["a", "", "a"])
                answer = self.ask(request, version)
                rows = answer.coordinators if version >= 4 else [answer]
                for row in rows:
                    self.assertEqual(
                        (row.error_code, row.node_id, row.host, row.port), (0, 1, "broker.test", 9092)
                    )
                if version >= 4:
                    self.assertEqual([row.key for row in rows], ["a", ""])

        self.at_every_version(10, check)

    def test_other_keys(self) -> None:
        for version in range(1, 7):
            for kind in (2, 3, -1, 127):
                request = find_coordinator.Request(key="a", key_type=kind, coordinator_keys=["a"])
                answer = self.ask(request, version)
                row = answer.coordinators[0] if version >= 4 else answer
                self.assertEqual((row.error_code, row.node_id, row.port), (INVALID_REQUEST, -1, -1))

    def test_out_of_reach(self) -> None:
        self.placement.me = Node(1)
        for version in versions(10):
            answer = self.ask(find_coordinator.Request(key="a", coordinator_keys=["a"]), version)
            row = answer.coordinators[0] if version >= 4 else answer
            self.assertEqual(row.error_code, COORDINATOR_NOT_AVAILABLE)


class InitProducerIdTests(ApiCase):
    def init(self, version: int, name: str | None = None, **known: int) -> tuple[int, int, int]:
        request = init_producer_id.Request(transactional_id=name, transaction_timeout_ms=1000, **known)
        answer = self.ask(request, version)
        return answer.error_code, answer.producer_id, answer.producer_epoch

    def test_fresh_ids(self) -> None:
        got = [self.init(version) for version in versions(22)]
        got.append(self.init(3, producer_id=got[0][1], producer_epoch=3))
        self.assertEqual({(code, epoch) for code, _, epoch in got}, {(0, 0)})
        self.assertEqual(len({producer_id for _, producer_id, _ in got}), len(got))

    def test_half_of_what_is_known(self) -> None:
        for version in range(3, 6):
            self.assertEqual(self.init(version, producer_id=1), (INVALID_REQUEST, -1, -1))
            self.assertEqual(self.init(version, producer_epoch=1), (INVALID_REQUEST, -1, -1))

    def test_a_transactional_id_keeps_its_producer_id(self) -> None:
        got = [self.init(version, "tx") for version in versions(22)]
        self.assertEqual({(code, producer_id) for code, producer_id, _ in got}, {(0, got[0][1])})
        self.assertEqual([epoch for _, _, epoch in got], list(range(len(got))))
        for version in versions(22):
            self.assertEqual(self.init(version, ""), (INVALID_REQUEST, -1, -1))

    def test_ids_that_cannot_be_stored(self) -> None:
        full = StorageError(ErrorCode.DISK_FULL, "no space left")
        self.metadata.advance = lambda table, key, count: fail(full)  # type: ignore[method-assign]
        self.assertEqual(self.init(1), (COORDINATOR_LOADING, -1, -1))
        for_good = StorageError(ErrorCode.STORAGE, "used up", retriable=False)
        self.metadata.advance = lambda table, key, count: fail(for_good)  # type: ignore[method-assign]
        self.assertEqual(self.init(1), (STORAGE_ERROR, -1, -1))
