"""Kafka's requests about transactions, at every version, over real partitions in memory."""

from __future__ import annotations

from typing import Any

import attrs

from megabroker.codec.batch import read_header
from megabroker.codec.records import build
from megabroker.core.transactions import TransactionSettings
from megabroker.model import Acks, ProducerIdentity
from megabroker.protocols.kafka.schema import (
    add_offsets_to_txn,
    add_partitions_to_txn,
    api_versions,
    describe_producers,
    describe_transactions,
    end_txn,
    find_coordinator,
    init_producer_id,
    list_transactions,
    offset_fetch,
    txn_offset_commit,
    write_txn_markers,
)
from tests.unit.kafka_apis_harness import NOW_MS, ApiCase, versions

UNKNOWN_TOPIC, NOT_COORDINATOR_AVAILABLE, INVALID_GROUP_ID, INVALID_REQUEST = 3, 15, 24, 42
INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE, INVALID_PRODUCER_ID, INVALID_TXN_TIMEOUT = 47, 48, 49, 50
CONCURRENT, NOT_ATTEMPTED, UNSTABLE, FENCED, NOT_FOUND, ABORTABLE = 51, 55, 88, 90, 105, 120
INVALID_REGULAR_EXPRESSION = 128


class TransactionCase(ApiCase):
    def setUp(self) -> None:
        super().setUp()
        self.create("t", 2)

    def init(self, name: str = "x", version: int = 4, **fields: int) -> Any:
        fields = {"transaction_timeout_ms": 10_000, **fields}
        return self.ask(init_producer_id.Request(transactional_id=name, **fields), version)

    def identity(self, name: str = "x") -> ProducerIdentity:
        for _ in range(3):
            answer = self.init(name)
            if not answer.error_code:
                break
        self.assertEqual(answer.error_code, 0)
        return ProducerIdentity(answer.producer_id, answer.producer_epoch)

    def add(
        self, me: ProducerIdentity, *indexes: int, version: int = 3, topic: str = "t", verify: bool = False
    ) -> list[int]:
        """Ask for partitions and return their codes, in order."""
        topics = [add_partitions_to_txn.Topic(name=topic, partitions=list(indexes))]
        if version < 4:
            request = add_partitions_to_txn.Request(
                v3_and_below_transactional_id="x",
                v3_and_below_producer_id=me.producer_id,
                v3_and_below_producer_epoch=me.producer_epoch,
                v3_and_below_topics=topics,
            )
            results = self.ask(request, version).results_by_topic_v3_and_below
        else:
            one = add_partitions_to_txn.Request.Transaction(
                transactional_id="x",
                producer_id=me.producer_id,
                producer_epoch=me.producer_epoch,
                verify_only=verify,
                topics=topics,
            )
            answer = self.ask(add_partitions_to_txn.Request(transactions=[one]), version)
            [transaction] = answer.results_by_transaction
            self.assertEqual(transaction.transactional_id, "x")
            results = transaction.topic_results
        rows = sorted(
            (one.partition_index, one.partition_error_code) for r in results for one in r.results_by_partition
        )
        return [code for _, code in rows]

    def end(self, me: ProducerIdentity, commit: bool = True, version: int = 3) -> Any:
        request = end_txn.Request(
            transactional_id="x",
            producer_id=me.producer_id,
            producer_epoch=me.producer_epoch,
            committed=commit,
        )
        return self.ask(request, version)

    def append(self, me: ProducerIdentity, index: int = 0) -> None:
        """Store one transactional record."""
        data = build(
            [(None, b"value", (), NOW_MS)],
            producer_id=me.producer_id,
            producer_epoch=me.producer_epoch,
            base_sequence=0,
            attributes=16,
        )
        heard: list[Any] = []
        partition = self.topics.partition("t", index)
        partition.append(read_header(data, 0, len(data)), data, Acks.DURABLE, heard.append)
        self.turn()
        self.assertEqual(heard, [None])

    def commit_offset(self, me: ProducerIdentity, version: int = 3, **fields: Any) -> int:
        row = txn_offset_commit.Request.Topic.Partition(partition_index=0, committed_offset=7)
        topic = txn_offset_commit.Request.Topic(name=fields.pop("topic", "t"), partitions=[row])
        request = txn_offset_commit.Request(
            **{
                "transactional_id": "x",
                "group_id": "g",
                "producer_id": me.producer_id,
                "producer_epoch": me.producer_epoch,
                "topics": [topic],
                **fields,
            }
        )
        return int(self.ask(request, version).topics[0].partitions[0].error_code)

    def add_group(self, me: ProducerIdentity, version: int = 3, group: str = "g") -> int:
        request = add_offsets_to_txn.Request(
            transactional_id="x",
            producer_id=me.producer_id,
            producer_epoch=me.producer_epoch,
            group_id=group,
        )
        return int(self.ask(request, version).error_code)


class InitTests(TransactionCase):
    transaction_settings = TransactionSettings(max_timeout_ms=20_000, max_transactional_ids=1)

    def test_fencing_by_what_is_known(self) -> None:
        first = self.identity()
        for version in (3, 4, 5):
            me = self.identity()
            known = {"producer_id": me.producer_id, "producer_epoch": me.producer_epoch}
            answer = self.init(version=version, **known)
            self.assertEqual((answer.error_code, answer.producer_epoch), (0, me.producer_epoch + 1))
            known["producer_epoch"] = first.producer_epoch
            answer = self.init(version=version, **known)
            expected = INVALID_PRODUCER_EPOCH if version < 4 else FENCED
            self.assertEqual((answer.error_code, answer.producer_id), (expected, -1))

    def test_refusals(self) -> None:
        for version in versions(22):
            for timeout_ms in (0, 20_001):
                answer = self.init(version=version, transaction_timeout_ms=timeout_ms)
                self.assertEqual(answer.error_code, INVALID_TXN_TIMEOUT)
            self.assertEqual(self.init("", version).error_code, INVALID_REQUEST)
            if version >= 2:
                self.assertEqual(self.init("é" * 20_000, version).error_code, INVALID_REQUEST)
        self.init()
        self.assertEqual(self.init("one too many").error_code, NOT_COORDINATOR_AVAILABLE)

    def test_what_is_open_is_aborted_first(self) -> None:
        me = self.identity()
        self.add(me, 0)
        self.append(me)
        waiting = self.begin(init_producer_id.Request(transactional_id="x", transaction_timeout_ms=1000), 4)
        self.turn()
        self.assertEqual(self.successResultOf(waiting).error_code, CONCURRENT)
        self.assertEqual(self.init().producer_epoch, me.producer_epoch + 2)


class AddTests(TransactionCase):
    def test_every_version(self) -> None:
        def check(version: int) -> None:
            me = self.identity()
            self.assertEqual(self.add(me, 0, 1, version=version), [0, 0])
            self.assertEqual(self.add(me, 0, 5, version=version), [NOT_ATTEMPTED, UNKNOWN_TOPIC])
            self.assertEqual(self.add(me, 0, version=version, topic="gone"), [UNKNOWN_TOPIC])
            stale = me._replace(producer_epoch=me.producer_epoch - 1)
            fenced = INVALID_PRODUCER_EPOCH if version < 2 else FENCED
            self.assertEqual(self.add(stale, 0, 1, version=version), [fenced, fenced])
            stranger = ProducerIdentity(me.producer_id + 1, 0)
            self.assertEqual(self.add(stranger, 0, version=version), [INVALID_PRODUCER_ID])

        self.at_every_version(24, check)

    def test_verifying(self) -> None:
        me = self.identity()
        self.add(me, 0)
        self.assertEqual(self.add(me, 0, 1, version=4, verify=True), [0, INVALID_TXN_STATE])
        self.assertEqual(self.add(me, 0, 1, version=5, verify=True), [0, ABORTABLE])
        self.assertEqual(self.add(me, 1, version=4), [0])

    def test_several_at_once(self) -> None:
        ids = {name: self.identity(name) for name in ("x", "y")}
        rows = [
            add_partitions_to_txn.Request.Transaction(
                transactional_id=name,
                producer_id=me.producer_id,
                producer_epoch=me.producer_epoch,
                topics=[add_partitions_to_txn.Topic(name="t", partitions=[0])],
            )
            for name, me in (*ids.items(), ("", ids["x"]), ("nobody", ids["x"]))
        ]
        answer = self.ask(add_partitions_to_txn.Request(transactions=rows), 5)
        codes = {
            one.transactional_id: one.topic_results[0].results_by_partition[0].partition_error_code
            for one in answer.results_by_transaction
        }
        self.assertEqual(codes, {"x": 0, "y": 0, "": INVALID_REQUEST, "nobody": INVALID_PRODUCER_ID})
        self.assertEqual(self.ask(add_partitions_to_txn.Request(), 5).results_by_transaction, [])


class EndTests(TransactionCase):
    def test_every_version(self) -> None:
        def check(version: int) -> None:
            for commit in (True, False):
                me = self.identity()
                self.add(me, 0)
                self.append(me)
                answer = self.end(me, commit, version)
                told = (answer.error_code, answer.producer_id, answer.producer_epoch)
                after = (0, me.producer_id, me.producer_epoch + 1) if version >= 5 else (0, -1, -1)
                self.assertEqual(told, after)
                self.assertEqual(self.end(me, commit, version).error_code, 0)
                self.assertEqual(self.end(me, not commit, version).error_code, INVALID_TXN_STATE)
                partition = self.topics.partition("t", 0)
                self.assertEqual(partition.last_stable_offset, partition.high_watermark)
            stale = me._replace(producer_epoch=me.producer_epoch - 1)
            fenced = INVALID_PRODUCER_EPOCH if version < 2 else FENCED
            self.assertEqual(self.end(stale, False, version).error_code, fenced)

        self.at_every_version(26, check)

    def test_nothing_to_end(self) -> None:
        me = self.identity()
        self.assertEqual(self.end(me, True, 5).error_code, INVALID_TXN_STATE)
        self.assertEqual(self.end(me, False, 4).error_code, INVALID_TXN_STATE)
        self.assertEqual(self.end(me, False, 5).producer_epoch, me.producer_epoch + 1)


class OffsetTests(TransactionCase):
    def fetch(self, version: int, *, stable: bool, everything: bool = False) -> tuple[int, int]:
        wanted = offset_fetch.Request.Group.Topic(name="t", partition_indexes=[0])
        if version >= 10:
            wanted.topic_id = self.topics.get("t").id.bytes
        group = offset_fetch.Request.Group(group_id="g", topics=None if everything else [wanted])
        if version >= 8:
            request = offset_fetch.Request(groups=[group], require_stable=stable)
            topics = self.ask(request, version).groups[0].topics
        else:
            topic = offset_fetch.Request.Topic(name="t", partition_indexes=[0])
            request = offset_fetch.Request(
                group_id="g", topics=None if everything else [topic], require_stable=stable
            )
            topics = self.ask(request, version).topics
        [row] = topics[0].partitions
        return row.error_code, row.committed_offset

    def test_every_version(self) -> None:
        def check(version: int) -> None:
            me = self.identity()
            if version < 5:
                expected = ABORTABLE if version == 4 else INVALID_TXN_STATE
                self.assertEqual(self.commit_offset(me, version), expected)
                self.assertEqual(self.add_group(me), 0)
            self.assertEqual(self.commit_offset(me, version), 0)
            self.assertEqual(self.commit_offset(me, version, topic="gone"), UNKNOWN_TOPIC)
            stale = me._replace(producer_epoch=me.producer_epoch - 1)
            fenced = INVALID_PRODUCER_EPOCH if version < 3 else FENCED
            self.assertEqual(self.commit_offset(stale, version), fenced)
            self.assertEqual(self.commit_offset(me, version, group_id=""), INVALID_GROUP_ID)
            self.end(me, version % 2 == 1)

        self.at_every_version(28, check)

    def test_members_are_checked(self) -> None:
        me = self.identity()
        for fields in ({"generation_id": 1}, {"generation_id": 1, "member_id": "m"}):
            self.assertEqual(self.commit_offset(me, 5, **fields), 22)

    def test_visible_with_the_commit_and_unstable_until_then(self) -> None:
        for version in range(7, 11):
            me = self.identity()
            self.commit_offset(me, 5)
            for everything in (False, True):
                self.assertEqual(self.fetch(version, stable=True, everything=everything), (UNSTABLE, -1))
            before = self.fetch(version, stable=False)
            self.assertEqual(before, (0, -1 if version == 7 else 7))
            self.end(me, True, 5)
            self.assertEqual(self.fetch(version, stable=True), (0, 7))

    def test_adding_groups(self) -> None:
        def check(version: int) -> None:
            me = self.identity()
            self.assertEqual(self.add_group(me, version), 0)
            self.assertEqual(self.add_group(me, version, ""), INVALID_GROUP_ID)
            stale = me._replace(producer_epoch=me.producer_epoch - 1)
            fenced = INVALID_PRODUCER_EPOCH if version < 2 else FENCED
            self.assertEqual(self.add_group(stale, version), fenced)

        self.at_every_version(25, check)


class MarkerTests(TransactionCase):
    def write(self, version: int, me: ProducerIdentity, *indexes: int, epoch: int = 0) -> list[int]:
        marker = write_txn_markers.Request.Marker(
            producer_id=me.producer_id,
            producer_epoch=me.producer_epoch,
            transaction_result=False,
            topics=[write_txn_markers.Request.Marker.Topic(name="t", partition_indexes=list(indexes))],
            coordinator_epoch=epoch,
        )
        [row] = self.ask(write_txn_markers.Request(markers=[marker]), version).markers
        self.assertEqual(row.producer_id, me.producer_id)
        return [one.error_code for topic in row.topics for one in topic.partitions]

    def test_every_version(self) -> None:
        def check(version: int) -> None:
            me = self.identity()
            self.add(me, 0)
            self.append(me)
            partition = self.topics.partition("t", 0)
            self.assertLess(partition.last_stable_offset, partition.high_watermark)
            self.assertEqual(self.write(version, me, 0, 0, 9, epoch=100), [0, UNKNOWN_TOPIC])
            self.assertEqual(partition.last_stable_offset, partition.high_watermark)
            stale = me._replace(producer_epoch=me.producer_epoch - 1)
            self.assertEqual(self.write(version, stale, 0), [INVALID_PRODUCER_EPOCH])
            self.assertEqual(self.end(me).error_code, 0)

        self.at_every_version(27, check)


class AdministrationTests(TransactionCase):
    def test_producers(self) -> None:
        me = self.identity()
        self.add(me, 0)
        self.append(me)
        topics = [
            describe_producers.Request.Topic(name="t", partition_indexes=[0, 1, 9]),
            describe_producers.Request.Topic(name="gone", partition_indexes=[0]),
        ]
        answer = self.ask(describe_producers.Request(topics=topics), 0)
        rows = {(one.name, row.partition_index): row for one in answer.topics for row in one.partitions}
        [found] = rows["t", 0].active_producers
        self.assertEqual(
            (found.producer_id, found.producer_epoch, found.last_sequence, found.current_txn_start_offset),
            (*me, 0, 0),
        )
        self.assertEqual((rows["t", 1].error_code, rows["t", 1].active_producers), (0, []))
        self.assertEqual([rows["t", 9].error_code, rows["gone", 0].error_code], [UNKNOWN_TOPIC] * 2)

    def test_transactions(self) -> None:
        me = self.identity()
        self.add(me, 0, 1)
        answer = self.ask(describe_transactions.Request(transactional_ids=["x", "y", "x"]), 0)
        found, missing = answer.transaction_states
        self.assertEqual((missing.error_code, missing.transactional_id), (NOT_FOUND, "y"))
        self.assertEqual(
            (found.transaction_state, found.producer_id, found.producer_epoch, found.transaction_timeout_ms),
            ("Ongoing", *me, 10_000),
        )
        self.assertEqual([(one.topic, one.partitions) for one in found.topics], [("t", [0, 1])])
        self.assertIn(found.transaction_start_time_ms, range(NOW_MS, NOW_MS + 1000))

    def listed(self, version: int = 1, **filters: Any) -> list[str]:
        answer = self.ask(list_transactions.Request(**filters), version)
        return [one.transactional_id for one in answer.transaction_states]

    def test_listing(self) -> None:
        idle, me = self.identity("idle"), self.identity()
        self.add(me, 0)
        self.clock.advance(2)
        for version in versions(66):
            self.assertEqual(self.listed(version), ["idle", "x"])
            self.assertEqual(self.listed(version, state_filters=["Ongoing"]), ["x"])
            self.assertEqual(self.listed(version, state_filters=["Empty", "Ongoing"]), ["idle", "x"])
            self.assertEqual(self.listed(version, producer_id_filters=[idle.producer_id]), ["idle"])
        self.assertEqual(self.listed(duration_filter=1000), ["x"])
        self.assertEqual(self.listed(duration_filter=60_000), [])
        answer = self.ask(list_transactions.Request(state_filters=["Asleep"]), 1)
        self.assertEqual((answer.unknown_state_filters, answer.transaction_states), (["Asleep"], []))

    def test_listing_by_pattern(self) -> None:
        for name in ("orders/1", "orders/2", "früh #1"):
            self.identity(name)
        for pattern, found in (
            (None, ["früh #1", "orders/1", "orders/2"]),
            ("", ["früh #1", "orders/1", "orders/2"]),
            (r"orders/\d", ["orders/1", "orders/2"]),
            (r"orders", []),
            (r"[^/]*", ["früh #1"]),
            (r"fr\pLh.\D1", ["früh #1"]),
            (r"(?i)FRÜH.*", ["früh #1"]),
        ):
            self.assertEqual(sorted(self.listed(2, transactional_id_pattern=pattern)), found, pattern)
        answer = self.ask(list_transactions.Request(transactional_id_pattern="("), 2)
        self.assertEqual((answer.error_code, answer.transaction_states), (INVALID_REGULAR_EXPRESSION, []))

    def test_coordinators(self) -> None:
        answer = self.ask(find_coordinator.Request(key_type=1, coordinator_keys=["x"]), 5)
        [row] = answer.coordinators
        self.assertEqual((row.error_code, row.node_id, row.host), (0, 1, "broker.test"))

    def test_features(self) -> None:
        for version in (3, 4):
            answer = self.ask(api_versions.Request(), version)
            finalized = {
                one.name: (one.min_version_level, one.max_version_level) for one in answer.finalized_features
            }
            self.assertEqual(finalized["transaction.version"], (2, 2))
            supported = {one.name: (one.min_version, one.max_version) for one in answer.supported_features}
            self.assertEqual(supported.get("transaction.version"), (0, 2) if version > 3 else None)
            self.assertGreaterEqual(answer.finalized_features_epoch, 0)


class AnotherNodeTests(TransactionCase):
    def test_what_this_node_does_not_coordinate(self) -> None:
        me = self.identity()
        other = attrs.evolve(self.placement.me, id=9)
        self.placement.coordinator = lambda key: other  # type: ignore[method-assign]
        self.assertEqual(self.init().error_code, 16)
        self.assertEqual(self.add(me, 0), [16])
        self.assertEqual(self.end(me).error_code, 16)
        self.assertEqual(self.commit_offset(me), 16)
        self.assertEqual(self.add_group(me), 16)
