"""Access rules: who may ask for what, and what those are told who may not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.logger import globalLogPublisher

from megabroker.access import (
    CLUSTER_NAME,
    Acl,
    AclFilter,
    Operation,
    PatternType,
    Permission,
    ResourceType,
)
from megabroker.core.acls import ACLS_TABLE, Acls, AclSettings
from megabroker.model import Change, Principal
from megabroker.protocols.kafka.access.table import ASKS_ITSELF, FOR_EVERYBODY, GUARDS
from megabroker.protocols.kafka.dispatch import SERVED
from megabroker.protocols.kafka.schema import (
    add_offsets_to_txn,
    add_partitions_to_txn,
    add_raft_voter,
    alter_client_quotas,
    alter_configs,
    alter_partition_reassignments,
    alter_replica_log_dirs,
    alter_share_group_offsets,
    alter_user_scram_credentials,
    consumer_group_describe,
    consumer_group_heartbeat,
    create_acls,
    create_partitions,
    create_topics,
    delete_acls,
    delete_groups,
    delete_records,
    delete_share_group_offsets,
    delete_share_group_state,
    delete_topics,
    describe_acls,
    describe_client_quotas,
    describe_cluster,
    describe_configs,
    describe_groups,
    describe_log_dirs,
    describe_producers,
    describe_quorum,
    describe_share_group_offsets,
    describe_topic_partitions,
    describe_transactions,
    describe_user_scram_credentials,
    elect_leaders,
    end_txn,
    find_coordinator,
    heartbeat,
    incremental_alter_configs,
    init_producer_id,
    initialize_share_group_state,
    join_group,
    leave_group,
    list_config_resources,
    list_groups,
    list_offsets,
    list_partition_reassignments,
    list_transactions,
    metadata,
    offset_commit,
    offset_delete,
    offset_fetch,
    offset_for_leader_epoch,
    read_share_group_state,
    read_share_group_state_summary,
    remove_raft_voter,
    share_acknowledge,
    share_group_describe,
    share_group_heartbeat,
    streams_group_describe,
    streams_group_heartbeat,
    sync_group,
    txn_offset_commit,
    unregister_broker,
    update_features,
    write_share_group_state,
    write_txn_markers,
)
from megabroker.protocols.kafka.schema.fields import Message, Struct
from tests.unit.kafka_apis_harness import ApiCase, versions

Op, R = Operation, ResourceType
TOPIC, GROUP, CLUSTER, ID, NOT_ATTEMPTED = 29, 30, 31, 53, 55
UNKNOWN_ID, INVALID = 100, 42
ALICE, ADMIN = Principal("User", "alice"), Principal("User", "admin")


def row(module: Any, place: str, /, **values: Any) -> Any:
    """Make a row of a request by the path to its class."""
    kind = module.Request
    for name in place.split("."):
        kind = getattr(kind, name)
    return kind(**values)


def topic(module: Any, field: str = "name", **values: Any) -> Any:
    one = row(module, "Topic.Partition")
    return row(module, "Topic", **{field: "secret"}, partitions=[one], **values)


def states(module: Any) -> Message:
    one = row(module, "Topic", topic_id=bytes(15) + b"x", partitions=[row(module, "Topic.Partition")])
    return module.Request(group_id="g", topics=[one])


def cases() -> Iterator[tuple[Message, int]]:
    """Yield requests, and the one error that somebody without any rule gets wherever there can be one."""
    yield list_offsets.Request(topics=[topic(list_offsets)]), TOPIC
    yield metadata.Request(topics=[row(metadata, "Topic", name="secret")]), TOPIC
    yield offset_commit.Request(group_id="g", topics=[topic(offset_commit)]), GROUP
    yield (
        offset_fetch.Request(
            group_id="g",
            topics=[row(offset_fetch, "Topic", name="secret", partition_indexes=[0])],
            groups=[row(offset_fetch, "Group", group_id="g", topics=None)],
        ),
        GROUP,
    )
    yield find_coordinator.Request(key="g", coordinator_keys=["g"]), GROUP
    yield join_group.Request(group_id="g", protocol_type="consumer"), GROUP
    yield heartbeat.Request(group_id="g"), GROUP
    yield leave_group.Request(group_id="g"), GROUP
    yield sync_group.Request(group_id="g"), GROUP
    yield describe_groups.Request(groups=["g"]), GROUP
    yield create_topics.Request(topics=[row(create_topics, "Topic", name="new")]), TOPIC
    yield (
        delete_topics.Request(topic_names=["secret"], topics=[row(delete_topics, "Topic", name="secret")]),
        TOPIC,
    )
    yield delete_records.Request(topics=[topic(delete_records)]), TOPIC
    yield init_producer_id.Request(transactional_id="till"), ID
    yield init_producer_id.Request(transactional_id=None), CLUSTER
    yield offset_for_leader_epoch.Request(topics=[topic(offset_for_leader_epoch, "topic")]), TOPIC
    yield add_offsets_to_txn.Request(transactional_id="till", group_id="g"), ID
    yield end_txn.Request(transactional_id="till"), ID
    marked = row(write_txn_markers, "Marker.Topic", name="secret", partition_indexes=[0, 1])
    yield write_txn_markers.Request(markers=[row(write_txn_markers, "Marker", topics=[marked])]), CLUSTER
    yield (
        txn_offset_commit.Request(transactional_id="till", group_id="g", topics=[topic(txn_offset_commit)]),
        ID,
    )
    yield describe_acls.Request(resource_type_filter=1, operation=1, permission_type=1), CLUSTER
    yield create_acls.Request(creations=[row(create_acls, "Creation")]), CLUSTER
    yield delete_acls.Request(filters=[row(delete_acls, "Filter")]), CLUSTER
    for kind, error in ((2, TOPIC), (4, CLUSTER), (8, CLUSTER), (16, CLUSTER), (32, GROUP)):
        named = {"resource_type": kind, "resource_name": "secret"}
        yield describe_configs.Request(resources=[row(describe_configs, "Resource", **named)]), error
        yield alter_configs.Request(resources=[row(alter_configs, "Resource", **named)]), error
        resources = [row(incremental_alter_configs, "Resource", **named)]
        yield incremental_alter_configs.Request(resources=resources), error
    moved = row(alter_replica_log_dirs, "Dir.Topic", name="secret", partitions=[0])
    yield (
        alter_replica_log_dirs.Request(dirs=[row(alter_replica_log_dirs, "Dir", path="/x", topics=[moved])]),
        CLUSTER,
    )
    yield create_partitions.Request(topics=[row(create_partitions, "Topic", name="secret", count=2)]), TOPIC
    yield delete_groups.Request(groups_names=["g"]), GROUP
    yield (
        elect_leaders.Request(topic_partitions=[row(elect_leaders, "Topic", topic="secret", partitions=[0])]),
        CLUSTER,
    )
    yield alter_partition_reassignments.Request(), CLUSTER
    yield list_partition_reassignments.Request(), CLUSTER
    yield offset_delete.Request(group_id="g", topics=[topic(offset_delete)]), GROUP
    yield describe_client_quotas.Request(), CLUSTER
    entity = row(alter_client_quotas, "Entry.Entity", entity_type="user", entity_name="bob")
    yield (
        alter_client_quotas.Request(entries=[row(alter_client_quotas, "Entry", entity=[entity])]),
        CLUSTER,
    )
    yield describe_user_scram_credentials.Request(), CLUSTER
    gone = row(alter_user_scram_credentials, "Deletion", name="bob", mechanism=1)
    yield alter_user_scram_credentials.Request(deletions=[gone, gone]), CLUSTER
    yield describe_quorum.Request(), CLUSTER
    yield update_features.Request(), CLUSTER
    asked = row(describe_producers, "Topic", name="secret", partition_indexes=[0])
    yield describe_producers.Request(topics=[asked]), TOPIC
    yield unregister_broker.Request(), CLUSTER
    yield describe_transactions.Request(transactional_ids=["till"]), ID
    yield consumer_group_heartbeat.Request(group_id="g", member_id="m"), GROUP
    yield consumer_group_describe.Request(group_ids=["g"]), GROUP
    yield list_config_resources.Request(), CLUSTER
    yield (
        describe_topic_partitions.Request(topics=[row(describe_topic_partitions, "Topic", name="secret")]),
        TOPIC,
    )
    yield share_group_heartbeat.Request(group_id="g", member_id="m"), GROUP
    yield share_group_describe.Request(group_ids=["g"]), GROUP
    yield share_acknowledge.Request(group_id="g", member_id="m"), GROUP
    yield add_raft_voter.Request(), CLUSTER
    yield remove_raft_voter.Request(), CLUSTER
    yield states(initialize_share_group_state), CLUSTER
    yield states(read_share_group_state), CLUSTER
    yield states(write_share_group_state), CLUSTER
    yield states(delete_share_group_state), CLUSTER
    yield states(read_share_group_state_summary), CLUSTER
    yield streams_group_heartbeat.Request(group_id="g", member_id="m"), GROUP
    yield streams_group_describe.Request(group_ids=["g"]), GROUP
    groups = [row(describe_share_group_offsets, "Group", group_id="g", topics=None)]
    yield describe_share_group_offsets.Request(groups=groups), GROUP
    yield alter_share_group_offsets.Request(group_id="g"), GROUP
    yield delete_share_group_offsets.Request(group_id="g"), GROUP


def errors(part: Struct) -> Iterator[int]:
    """Yield the errors of an answer, those of its rows too."""
    for name in part.__slots__:
        value = getattr(part, name)
        if name in ("error_code", "partition_error_code") and value:
            yield value
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Struct):
                yield from errors(one)


class AccessCase(ApiCase):
    acl_settings = AclSettings(enabled=True, super_users=frozenset({"User:admin"}))
    principal = ALICE

    def setUp(self) -> None:
        super().setUp()
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)
        self.secret = self.create("secret", 2)

    def observe(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace") == "megabroker.audit":
            self.lines.append(event["log_format"].format(**event))

    def rule(
        self,
        operation: Operation,
        resource_type: ResourceType,
        name: str = CLUSTER_NAME,
        *,
        prefixed: bool = False,
        who: str = "User:alice",
        host: str = "*",
        permission: Permission = Permission.ALLOW,
    ) -> Acl:
        pattern = PatternType.PREFIXED if prefixed else PatternType.LITERAL
        acl = Acl(resource_type, name, pattern, who, host, operation, permission)
        made = self.acls.create([acl])
        self.turn()
        self.assertEqual(self.successResultOf(made), [None])
        return acl


class StreamsTests(AccessCase):
    """A member whose user may not create the internal topics lives on, and is told why there are none."""

    def setUp(self) -> None:
        super().setUp()
        self.rule(Op.READ, R.GROUP, "g")
        self.rule(Op.DESCRIBE, R.TOPIC, "secret")

    def beat(self, epoch: int, **fields: Any) -> Any:
        request = streams_group_heartbeat.Request(
            group_id="g", member_id="m", member_epoch=epoch, process_id="m", **fields
        )
        return self.ask(request, 0)

    def join(self) -> Any:
        part = row(
            streams_group_heartbeat,
            "Topology.Subtopology",
            subtopology_id="0",
            source_topics=["secret"],
            state_changelog_topics=[streams_group_heartbeat.TopicInfo(name="g-store")],
        )
        topology = row(streams_group_heartbeat, "Topology", epoch=0, subtopologies=[part])
        nothing: dict[str, Any] = {"active_tasks": [], "standby_tasks": [], "warmup_tasks": []}
        return self.beat(0, rebalance_timeout_ms=1000, topology=topology, **nothing)

    def test_internal_topics_that_may_not_be_seen(self) -> None:
        self.assertEqual(self.join().error_code, TOPIC)

    def test_internal_topics_that_may_not_be_made(self) -> None:
        self.rule(Op.DESCRIBE, R.TOPIC, "g-", prefixed=True)
        joined = self.join()
        self.assertEqual(joined.error_code, 0)
        for answer in (joined, self.beat(joined.member_epoch)):
            (status,) = answer.status
            self.assertEqual(status.status_code, 3)
            self.assertTrue(
                status.status_detail.endswith("g-store; Unauthorized to CREATE on topics g-store.")
            )
        self.assertIsNone(self.topics.get("g-store"))
        self.assertIn("CREATE on TOPIC 'g-store'", self.lines[-1])
        # Topics that come and go are no reason to make them either.
        self.create("another", 1)
        self.clock.advance(2)
        self.assertIsNone(self.topics.get("g-store"))
        self.rule(Op.CREATE, R.TOPIC, "g-", prefixed=True)
        self.beat(joined.member_epoch)
        self.assertIsNotNone(self.topics.get("g-store"))
        answer = self.beat(joined.member_epoch)
        self.assertEqual((answer.status, answer.active_tasks[0].partitions), ([], [0, 1]))


class AuditTests(AccessCase):
    principal = ADMIN

    def told(self, request: Message, version: int) -> list[str]:
        self.lines.clear()
        self.ask(request, version)
        return [line.removeprefix("changed: User:admin from 127.0.0.1: ") for line in self.lines]

    def test_what_is_changed_by_name(self) -> None:
        marker = row(
            write_txn_markers,
            "Marker",
            producer_id=5,
            transaction_result=False,
            topics=[row(write_txn_markers, "Marker.Topic", name="secret", partition_indexes=[0, 7])],
        )
        self.assertEqual(
            self.told(write_txn_markers.Request(markers=[marker]), 1),
            ["WriteTxnMarkers: abort 5 in secret-0"],
        )
        place = row(alter_share_group_offsets, "Topic.Partition", partition_index=1, start_offset=0)
        there = row(alter_share_group_offsets, "Topic", topic_name="secret", partitions=[place])
        self.assertEqual(
            self.told(alter_share_group_offsets.Request(group_id="s", topics=[there]), 0),
            ["AlterShareGroupOffsets: group 's' secret-1"],
        )
        gone = [row(delete_share_group_offsets, "Topic", topic_name=name) for name in ("secret", "nowhere")]
        self.assertEqual(
            self.told(delete_share_group_offsets.Request(group_id="s", topics=gone), 0),
            ["DeleteShareGroupOffsets: group 's' secret"],
        )
        committed = row(offset_commit, "Topic.Partition", partition_index=0, committed_offset=0)
        mine = row(offset_commit, "Topic", name="secret", partitions=[committed])
        commit = offset_commit.Request(
            group_id="g", generation_id_or_member_epoch=-1, member_id="", topics=[mine]
        )
        self.assertEqual(self.told(commit, 8), [], "every consumer does that")
        gone = row(
            offset_delete,
            "Topic",
            name="secret",
            partitions=[row(offset_delete, "Topic.Partition", partition_index=0)],
        )
        self.assertEqual(
            self.told(offset_delete.Request(group_id="g", topics=[gone]), 0),
            ["OffsetDelete: group 'g' secret-0"],
        )

    def test_what_administrators_wanted_in_vain(self) -> None:
        self.assertEqual(
            self.told(unregister_broker.Request(broker_id=9), 0),
            ["UnregisterBroker: node 9: not done: BROKER_ID_NOT_REGISTERED"],
        )
        wanted = row(update_features, "FeatureUpdate", feature="kraft.version", max_version_level=99)
        (line,) = self.told(update_features.Request(feature_updates=[wanted]), 1)
        self.assertTrue(line.startswith("UpdateFeatures: kraft.version level 99: not done: "), line)
        self.principal = ALICE
        self.told(unregister_broker.Request(broker_id=9), 0)
        self.assertEqual(len(self.lines), 1)
        self.assertIn("denied: User:alice", self.lines[0])


class RefusalTests(AccessCase):
    def test_every_request_is_asked_about(self) -> None:
        known = [set(GUARDS), set(ASKS_ITSELF), set(FOR_EVERYBODY)]
        self.assertEqual(set().union(*known), set(SERVED))
        self.assertEqual(sum(map(len, known)), len(SERVED))
        tried = {type(request).__schema__.key for request, _ in cases()}
        # Those that leave things out have tests of their own, and produce and both fetches files of theirs.
        self.assertEqual((set(GUARDS) | ASKS_ITSELF) - tried, {0, 1, 16, 24, 35, 60, 66, 78})

    def test_somebody_without_a_rule_is_refused_everything(self) -> None:
        for request, error in cases():
            key = type(request).__schema__.key
            for version in versions(key):
                with self.subTest(request=request, version=version):
                    before = [topic.name for topic in self.topics.all()]
                    self.assertEqual(set(errors(self.ask(request, version))), {error})
                    self.assertEqual([topic.name for topic in self.topics.all()], before)

    def test_super_users_are_refused_nothing(self) -> None:
        self.principal = ADMIN
        for request, _ in cases():
            for version in versions(type(request).__schema__.key):
                with self.subTest(request=request, version=version):
                    found = set(errors(self.ask(request, version)))
                    self.assertFalse(found & {TOPIC, GROUP, CLUSTER}, found)

    def test_log_directories_are_told_to_administrators(self) -> None:
        self.assertEqual(self.ask(describe_log_dirs.Request(topics=None), 3).error_code, CLUSTER)
        self.assertEqual(self.ask(describe_log_dirs.Request(topics=None), 1).results, [])

    def test_refusals_name_what_was_asked(self) -> None:
        answer = self.ask(list_offsets.Request(topics=[topic(list_offsets)]), 7).topics[0]
        self.assertEqual(
            (answer.name, answer.partitions[0].offset, answer.partitions[0].timestamp), ("secret", -1, -1)
        )
        entity = row(alter_client_quotas, "Entry.Entity", entity_type="user", entity_name="bob")
        request = alter_client_quotas.Request(entries=[row(alter_client_quotas, "Entry", entity=[entity])])
        told = self.ask(request, 1).entries[0].entity[0]
        self.assertEqual((told.entity_type, told.entity_name), ("user", "bob"))
        moved = row(alter_replica_log_dirs, "Dir.Topic", name="secret", partitions=[3])
        request = alter_replica_log_dirs.Request(dirs=[row(alter_replica_log_dirs, "Dir", topics=[moved])])
        told = self.ask(request, 2).results[0]
        self.assertEqual((told.topic_name, told.partitions[0].partition_index), ("secret", 3))
        gone = row(alter_user_scram_credentials, "Deletion", name="bob", mechanism=1)
        request = alter_user_scram_credentials.Request(deletions=[gone, gone])
        self.assertEqual([one.user for one in self.ask(request, 0).results], ["bob"])
        answer = self.ask(delete_records.Request(topics=[topic(delete_records)]), 2)
        self.assertEqual(answer.topics[0].partitions[0].low_watermark, -1)


class RuleTests(AccessCase):
    def test_what_may_not_be_seen_is_not_told(self) -> None:
        self.create("open")
        self.rule(Op.READ, R.TOPIC, "open")
        for version in (1, 9, 13):
            everything = self.ask(metadata.Request(topics=None), version)
            self.assertEqual([one.name for one in everything.topics], ["open"])
        pages = self.ask(describe_topic_partitions.Request(), 0)
        self.assertEqual([one.name for one in pages.topics], ["open"])
        asked = [row(metadata, "Topic", name=None, topic_id=self.secret.id.bytes)]
        found = self.ask(metadata.Request(topics=asked), 13).topics[0]
        self.assertEqual((found.name, found.error_code), (None, TOPIC))
        asked = [row(metadata, "Topic", name=None, topic_id=bytes(15) + b"x")]
        self.assertEqual(self.ask(metadata.Request(topics=asked), 13).topics[0].error_code, UNKNOWN_ID)
        # Whether there is a topic that may not be seen cannot be found out.
        for name in ("secret", "nowhere"):
            named = self.ask(metadata.Request(topics=[row(metadata, "Topic", name=name)]), 9).topics[0]
            self.assertEqual((named.name, named.error_code, bytes(named.topic_id)), (name, TOPIC, bytes(16)))
            gone = self.ask(delete_topics.Request(topics=[row(delete_topics, "Topic", name=name)]), 6)
            self.assertEqual(gone.responses[0].error_code, TOPIC)
        gone = delete_topics.Request(
            topics=[row(delete_topics, "Topic", name=None, topic_id=self.secret.id.bytes)]
        )
        self.assertEqual([(one.name, one.error_code) for one in self.ask(gone, 6).responses], [(None, TOPIC)])
        self.rule(Op.DESCRIBE, R.TOPIC, "secret")
        self.assertEqual(
            [(one.name, one.error_code) for one in self.ask(gone, 6).responses], [("secret", TOPIC)]
        )
        self.rule(Op.DELETE, R.TOPIC, "secret")
        self.assertEqual([(one.name, one.error_code) for one in self.ask(gone, 6).responses], [("secret", 0)])

    def test_rows_that_are_allowed_are_answered_beside_those_that_are_not(self) -> None:
        self.create("open")
        self.rule(Op.DESCRIBE, R.TOPIC, "open")
        both = [topic(list_offsets), topic(list_offsets)]
        both[1].name = "open"
        answer = self.ask(list_offsets.Request(topics=both), 7)
        self.assertEqual(
            {one.name: one.partitions[0].error_code for one in answer.topics}, {"open": 0, "secret": TOPIC}
        )

    def test_topics_are_made_by_who_may(self) -> None:
        self.rule(Op.CREATE, R.TOPIC, "mine-", prefixed=True)
        wanted = [
            row(create_topics, "Topic", name=name, num_partitions=1, replication_factor=1)
            for name in ("mine-1", "yours")
        ]
        rows = {one.name: one for one in self.ask(create_topics.Request(topics=wanted), 7).topics}
        self.assertEqual((rows["yours"].error_code, rows["mine-1"].error_code), (TOPIC, 0))
        made = rows["mine-1"]
        self.assertEqual(
            (made.topic_config_error_code, made.num_partitions, made.replication_factor), (TOPIC, -1, -1)
        )
        self.assertFalse(made.configs)
        self.rule(Op.DESCRIBE_CONFIGS, R.TOPIC, "mine-", prefixed=True)
        self.rule(Op.CREATE, R.CLUSTER)
        wanted = [row(create_topics, "Topic", name="mine-2", num_partitions=1, replication_factor=1)]
        made = self.ask(create_topics.Request(topics=wanted), 7).topics[0]
        self.assertEqual((made.topic_config_error_code, made.num_partitions), (0, 1))
        self.assertTrue(made.configs)

    def test_topics_that_are_made_when_asked_for_need_both_permissions(self) -> None:
        asked = metadata.Request(topics=[row(metadata, "Topic", name="auto")], allow_auto_topic_creation=True)
        self.rule(Op.DESCRIBE, R.TOPIC, "auto")
        self.assertEqual(self.ask(asked, 9).topics[0].error_code, TOPIC)
        self.assertIsNone(self.topics.get("auto"))
        self.rule(Op.CREATE, R.TOPIC, "auto")
        self.assertEqual(self.ask(asked, 9).topics[0].error_code, 0)
        self.assertIsNotNone(self.topics.get("auto"))

    def test_groups_and_their_offsets(self) -> None:
        self.rule(Op.READ, R.GROUP, "g")
        commit = offset_commit.Request(group_id="g", topics=[topic(offset_commit)])
        self.assertEqual(list(errors(self.ask(commit, 7))), [TOPIC])
        self.rule(Op.READ, R.TOPIC, "secret")
        self.assertEqual(list(errors(self.ask(commit, 7))), [])
        self.principal = Principal("User", "bob")
        self.rule(Op.DESCRIBE, R.GROUP, "g", who="User:bob")
        groups = [row(offset_fetch, "Group", group_id="g", topics=None)]
        everything = offset_fetch.Request(groups=groups)
        self.assertEqual(self.ask(everything, 8).groups[0].topics, [])
        groups[0].topics = [row(offset_fetch, "Group.Topic", name="secret", partition_indexes=[0])]
        self.assertEqual(list(errors(self.ask(everything, 8))), [TOPIC])
        self.assertEqual([one.group_id for one in self.ask(list_groups.Request(), 4).groups], ["g"])
        self.principal = Principal("User", "carol")
        self.assertEqual(self.ask(list_groups.Request(), 4).groups, [])
        self.rule(Op.DESCRIBE, R.CLUSTER, who="User:carol")
        self.assertEqual([one.group_id for one in self.ask(list_groups.Request(), 4).groups], ["g"])

    def test_members_subscribe_to_what_they_may_see(self) -> None:
        self.rule(Op.READ, R.GROUP, "g")
        for module, epoch in ((consumer_group_heartbeat, 0), (share_group_heartbeat, 0)):
            beat = module.Request(
                group_id="g",
                member_id="a-member",
                member_epoch=epoch,
                subscribed_topic_names=["secret"],
            )
            self.assertEqual(self.ask(beat, 1).error_code, TOPIC)
        self.rule(Op.DESCRIBE, R.TOPIC, "secret")
        beat = consumer_group_heartbeat.Request(
            group_id="g",
            member_id="a-member",
            rebalance_timeout_ms=1000,
            subscribed_topic_names=["secret"],
            topic_partitions=[],
        )
        self.assertEqual(self.ask(beat, 1).error_code, 0)
        self.principal = Principal("User", "bob")
        self.rule(Op.DESCRIBE, R.GROUP, "g", who="User:bob")
        described = self.ask(consumer_group_describe.Request(group_ids=["g"]), 1).groups[0]
        self.assertEqual((described.group_id, described.error_code, described.members), ("g", TOPIC, []))
        self.rule(Op.DESCRIBE, R.TOPIC, "secret", who="User:bob")
        asked = consumer_group_describe.Request(group_ids=["g"], include_authorized_operations=True)
        described = self.ask(asked, 1).groups[0]
        self.assertEqual((described.error_code, described.authorized_operations), (0, 1 << Op.DESCRIBE))

    def test_transactions(self) -> None:
        topics = [add_partitions_to_txn.Topic(name=name, partitions=[0]) for name in ("secret", "other")]
        request = add_partitions_to_txn.Request(
            v3_and_below_transactional_id="till", v3_and_below_topics=topics
        )
        self.assertEqual(list(errors(self.ask(request, 3))), [ID, ID])
        self.rule(Op.WRITE, R.TRANSACTIONAL_ID, "till")
        self.rule(Op.WRITE, R.TOPIC, "other")
        self.assertEqual(list(errors(self.ask(request, 3))), [TOPIC, NOT_ATTEMPTED])
        self.assertEqual(self.ask(add_partitions_to_txn.Request(), 4).error_code, CLUSTER)
        offsets = add_offsets_to_txn.Request(transactional_id="till", group_id="g")
        self.assertEqual(self.ask(offsets, 3).error_code, GROUP)
        begun = self.ask(init_producer_id.Request(transactional_id="till", transaction_timeout_ms=1000), 4)
        self.assertEqual(begun.error_code, 0)
        self.assertEqual(len(self.ask(list_transactions.Request(), 0).transaction_states), 1)
        self.principal = Principal("User", "bob")
        self.assertEqual(self.ask(list_transactions.Request(), 0).transaction_states, [])

    def test_who_may_write_to_some_topic_may_write_idempotently(self) -> None:
        request = init_producer_id.Request(transactional_id=None)
        self.assertEqual(self.ask(request, 4).error_code, CLUSTER)
        acl = self.rule(Op.WRITE, R.TOPIC, "any-", prefixed=True)
        self.assertEqual(self.ask(request, 4).error_code, 0)
        self.rule(Op.WRITE, R.TOPIC, "an", prefixed=True, permission=Permission.DENY)
        self.assertEqual(self.ask(request, 4).error_code, CLUSTER)
        self.rule(Op.IDEMPOTENT_WRITE, R.CLUSTER)
        self.assertEqual(self.ask(request, 4).error_code, 0)
        self.assertEqual(self.acls.describe(AclFilter(*acl)), [acl])

    def test_authorized_operations(self) -> None:
        asked = metadata.Request(
            topics=[row(metadata, "Topic", name="secret")],
            include_topic_authorized_operations=True,
            include_cluster_authorized_operations=True,
        )
        self.rule(Op.READ, R.TOPIC, "secret")
        answer = self.ask(asked, 8)
        self.assertEqual(answer.topics[0].topic_authorized_operations, 1 << Op.READ | 1 << Op.DESCRIBE)
        self.assertEqual(answer.cluster_authorized_operations, 0)
        self.rule(Op.ALTER, R.CLUSTER)
        cluster = describe_cluster.Request(include_cluster_authorized_operations=True)
        expected = 1 << Op.ALTER | 1 << Op.DESCRIBE
        self.assertEqual(self.ask(cluster, 1).cluster_authorized_operations, expected)
        self.rule(Op.ALL, R.GROUP, "g")
        groups = describe_groups.Request(groups=["g"], include_authorized_operations=True)
        self.assertEqual(self.ask(groups, 5).groups[0].authorized_operations, 0b110101001000)

    def test_hosts_and_denials(self) -> None:
        asked = list_offsets.Request(topics=[topic(list_offsets)])
        self.rule(Op.READ, R.TOPIC, "secret", host="10.0.0.1")
        self.assertEqual(list(errors(self.ask(asked, 7))), [TOPIC])
        self.rule(Op.READ, R.TOPIC, "secret", host="127.0.0.1", who="User:*")
        self.assertEqual(list(errors(self.ask(asked, 7))), [])
        self.rule(Op.DESCRIBE, R.TOPIC, "s", prefixed=True, permission=Permission.DENY)
        self.assertEqual(list(errors(self.ask(asked, 7))), [TOPIC])


class AdministrationTests(AccessCase):
    principal = ADMIN

    def make(self, **changes: Any) -> Any:
        values = {
            "resource_type": 2,
            "resource_name": "secret",
            "resource_pattern_type": 3,
            "principal": "User:alice",
            "host": "*",
            "operation": 3,
            "permission_type": 3,
        }
        creation = row(create_acls, "Creation", **{**values, **changes})
        return self.ask(create_acls.Request(creations=[creation]), 3).results[0]

    def all(self, version: int = 3, **wanted: Any) -> list[Any]:
        fields = {"resource_type_filter": 1, "operation": 1, "permission_type": 1, "pattern_type_filter": 1}
        none = dict.fromkeys(("resource_name_filter", "principal_filter", "host_filter"))
        return self.ask(describe_acls.Request(**{**fields, **none, **wanted}), version).resources

    def test_rules_are_made_told_and_removed(self) -> None:
        self.assertEqual(self.make().error_code, 0)
        self.assertEqual(self.make().error_code, 0)
        self.assertEqual(self.make(operation=4).error_code, 0)
        self.assertEqual(self.make(resource_pattern_type=4, resource_name="sec").error_code, 0)
        found = self.all()
        self.assertEqual(
            [(one.resource_name, one.pattern_type, len(one.acls)) for one in found],
            [("sec", 4, 1), ("secret", 3, 2)],
        )
        self.assertEqual([one.resource_name for one in self.all(0)], ["secret"])
        matching = self.all(resource_type_filter=2, resource_name_filter="secrets", pattern_type_filter=2)
        self.assertEqual([one.resource_name for one in matching], ["sec"])
        again = Acls(self.metadata, self.acl_settings, self.audit, lambda: None)
        again.load()
        self.assertEqual(len(again.describe(AclFilter())), 3)
        wanted = row(
            delete_acls,
            "Filter",
            resource_type_filter=2,
            resource_name_filter="secret",
            principal_filter=None,
            host_filter=None,
            operation=1,
            permission_type=1,
        )
        gone = self.ask(delete_acls.Request(filters=[wanted]), 3).filter_results[0]
        self.assertEqual(sorted(one.operation for one in gone.matching_acls), [3, 4])
        self.assertEqual([one.resource_name for one in self.all()], ["sec"])
        self.assertEqual(
            [line.split(": ")[2] for line in self.lines if line.startswith("changed")],
            ["CreateAcls"] * 4 + ["DeleteAcls"],
        )
        self.assertIn("User:admin from 127.0.0.1", self.lines[-1])

    def test_what_can_be_no_rule_is_refused(self) -> None:
        for wrong in (
            {"resource_type": 1},
            {"resource_type": 99},
            {"resource_pattern_type": 2},
            {"operation": 1},
            {"operation": 0},
            {"permission_type": 1},
            {"resource_name": ""},
            {"resource_type": 4},
            {"principal": "alice"},
            {"host": "x" * 2000},
        ):
            with self.subTest(wrong=wrong):
                refused = self.make(**wrong)
                self.assertEqual(refused.error_code, INVALID)
                self.assertTrue(refused.error_message)
        self.assertEqual(self.all(), [])
        unknown = self.ask(describe_acls.Request(resource_type_filter=0, operation=1, permission_type=1), 3)
        self.assertEqual(unknown.error_code, INVALID)
        wanted = row(delete_acls, "Filter", resource_type_filter=2, operation=77, permission_type=1)
        self.assertEqual(
            self.ask(delete_acls.Request(filters=[wanted]), 3).filter_results[0].error_code, INVALID
        )

    def test_rows_that_cannot_be_read_cost_nothing_but_a_line(self) -> None:
        good = '[2,"secret",3,"User:alice","*",3,3]'
        self.metadata.write(
            [Change(ACLS_TABLE, key, {}) for key in (good, "[2]", "x", '[9,"a",3,"U:a","*",3,3]')]
        )
        self.turn()
        self.acls.load()
        self.assertEqual([acl.name for acl in self.acls.describe(AclFilter())], ["secret"])
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    def test_every_change_has_all_ask_again_who_remember(self) -> None:
        before = self.quotas.generation
        self.make()
        self.assertEqual(self.quotas.generation, before + 1)
        self.make()
        self.assertEqual(self.quotas.generation, before + 1)
        self.acls.configure(AclSettings(super_users=frozenset({"User:bob"})))
        self.assertEqual(self.quotas.generation, before + 2)
        self.assertTrue(self.acls.enabled)
        self.assertEqual(self.make().error_code, CLUSTER)
        self.principal = Principal("User", "bob")
        self.assertEqual(self.make().error_code, 0)

    def test_what_no_rule_is_about_can_be_for_everybody(self) -> None:
        self.acls.configure(AclSettings(allow_everyone_if_no_acl_found=True))
        self.principal = ALICE
        asked = list_offsets.Request(topics=[topic(list_offsets)])
        self.assertEqual(list(errors(self.ask(asked, 7))), [])
        self.rule(Op.READ, R.TOPIC, "secret", who="User:bob")
        self.assertEqual(list(errors(self.ask(asked, 7))), [TOPIC])

    def test_denials_are_logged_and_bounded(self) -> None:
        self.principal = ALICE
        asked = list_offsets.Request(topics=[topic(list_offsets)])
        self.ask(asked, 7)
        self.assertEqual(
            self.lines,
            [
                "denied: User:alice from 127.0.0.1: DESCRIBE on TOPIC 'secret' by no rule that allows it",
            ],
        )
        self.rule(Op.DESCRIBE, R.TOPIC, "s", prefixed=True, permission=Permission.DENY)
        self.ask(asked, 7)
        self.assertIn("by the rule DENY User:alice from * DESCRIBE TOPIC prefix s", self.lines[-1])
        del self.lines[:]
        for _ in range(100):
            self.broker.authorizer.allowed(ALICE, "127.0.0.1", Op.WRITE, R.TOPIC, "secret")
        self.assertLessEqual(len(self.lines), 20)
        self.clock.advance(1)
        self.broker.authorizer.allowed(ALICE, "127.0.0.1", Op.WRITE, R.TOPIC, "secret")
        self.assertRegex(self.lines[-2], r"^\d+ more denials were not logged one by one")
