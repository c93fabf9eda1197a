"""Requests about users, rules, quotas and voters, of which there are none: each error says so."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import attrs

from megabroker.protocols.kafka.schema import (
    add_raft_voter,
    alter_client_quotas,
    alter_replica_log_dirs,
    alter_user_scram_credentials,
    create_acls,
    create_delegation_token,
    delete_acls,
    describe_acls,
    describe_client_quotas,
    describe_delegation_token,
    describe_log_dirs,
    describe_user_scram_credentials,
    expire_delegation_token,
    init_producer_id,
    remove_raft_voter,
    renew_delegation_token,
    sasl_authenticate,
    sasl_handshake,
    unregister_broker,
)
from tests.unit.kafka_apis_harness import ApiCase, versions

UNSUPPORTED_SASL, ILLEGAL_SASL, UNSUPPORTED_VERSION, INVALID_REQUEST = 33, 34, 35, 42
NOT_AUTHORIZED_TXN, SECURITY_DISABLED, NO_LOG_DIR, TOKEN_NOT_ALLOWED = 53, 54, 57, 64
NOT_FOUND, DUPLICATE, UNACCEPTABLE, NO_BROKER, OTHER_CLUSTER = 91, 92, 93, 102, 104
EXACT, DEFAULT, ANY = 0, 1, 2


class NobodyTests(ApiCase):
    def test_sasl(self) -> None:
        for version in versions(17):
            answer = self.ask(sasl_handshake.Request(mechanism="PLAIN"), version)
            self.assertEqual((answer.error_code, answer.mechanisms), (ILLEGAL_SASL, []))
        for version in versions(36):
            answer = self.ask(sasl_authenticate.Request(auth_bytes=b"\0a\0b"), version)
            self.assertEqual((answer.error_code, bytes(answer.auth_bytes)), (ILLEGAL_SASL, b""))

    def test_acls(self) -> None:
        for version in versions(29):
            answer = self.ask(describe_acls.Request(), version)
            self.assertEqual((answer.error_code, answer.resources), (SECURITY_DISABLED, []))
        creations = [create_acls.Request.Creation(resource_type=2, resource_name="t")] * 2
        filters = [delete_acls.Request.Filter(resource_type_filter=2)] * 2
        for version in versions(30):
            created = self.ask(create_acls.Request(creations=creations), version).results
            deleted = self.ask(delete_acls.Request(filters=filters), version).filter_results
            self.assertEqual([row.error_code for row in created + deleted], [SECURITY_DISABLED] * 4)

    def test_delegation_tokens(self) -> None:
        answer = self.ask(create_delegation_token.Request(owner_principal_name="alice"), 3)
        self.assertEqual(
            (answer.error_code, answer.principal_name, answer.token_requester_principal_name),
            (TOKEN_NOT_ALLOWED, "alice", "ANONYMOUS"),
        )
        for request in (
            create_delegation_token.Request(),
            renew_delegation_token.Request(),
            expire_delegation_token.Request(),
            describe_delegation_token.Request(),
        ):
            for version in versions(type(request).__schema__.key):
                self.assertEqual(self.ask(request, version).error_code, TOKEN_NOT_ALLOWED)

    def test_two_phase_commit(self) -> None:
        Request = init_producer_id.Request
        answer = self.ask(Request(transactional_id="x", transaction_timeout_ms=1000, enable2_pc=True), 6)
        self.assertEqual((answer.error_code, answer.producer_id), (NOT_AUTHORIZED_TXN, -1))
        answer = self.ask(
            Request(transactional_id="x", transaction_timeout_ms=1000, keep_prepared_txn=True), 6
        )
        self.assertEqual(answer.error_code, UNSUPPORTED_VERSION)


class ScramTests(ApiCase):
    def test_describe(self) -> None:
        Request = describe_user_scram_credentials.Request
        for nobody in (None, []):
            answer = self.ask(Request(users=nobody), 0)
            self.assertEqual((answer.error_code, answer.results), (0, []))
        users = [Request.User(name=name) for name in ("a", "b", "b")]
        rows = self.ask(Request(users=users), 0).results
        self.assertEqual([(row.user, row.error_code) for row in rows], [("a", NOT_FOUND), ("b", DUPLICATE)])

    def test_alter(self) -> None:
        Request = alter_user_scram_credentials.Request
        deletions = [
            Request.Deletion(name=name, mechanism=mechanism)
            for name, mechanism in (("gone", 1), ("odd", 9), ("", 1), ("twice", 2), ("twice", 2))
        ]
        upsertions = [Request.Upsertion(name="new", mechanism=1, iterations=4096)]
        rows = self.ask(Request(deletions=deletions, upsertions=upsertions), 0).results
        self.assertEqual(
            {row.user: row.error_code for row in rows},
            {
                "gone": NOT_FOUND,
                "odd": UNSUPPORTED_SASL,
                "": UNACCEPTABLE,
                "twice": DUPLICATE,
                "new": UNSUPPORTED_SASL,
            },
        )
        self.assertEqual(len(rows), 5)


class QuotaTests(ApiCase):
    def describe(self, *components: tuple[str, int, str | None]) -> Any:
        asked = [
            describe_client_quotas.Request.Component(entity_type=kind, match_type=how, match=match)
            for kind, how, match in components
        ]
        return self.ask(describe_client_quotas.Request(components=asked), 1)

    def test_describe(self) -> None:
        for components in (
            (),
            (("user", ANY, None),),
            (("user", EXACT, "alice"), ("client-id", DEFAULT, None)),
            (("ip", EXACT, "10.0.0.1"),),
        ):
            answer = self.describe(*components)
            self.assertEqual((answer.error_code, answer.entries), (0, []))

    def test_describe_refused(self) -> None:
        for components, error in (
            ((("planet", EXACT, "x"),), UNSUPPORTED_VERSION),
            ((("", EXACT, "x"),), INVALID_REQUEST),
            ((("user", 7, None),), INVALID_REQUEST),
            ((("user", EXACT, None),), INVALID_REQUEST),
            ((("user", ANY, "x"),), INVALID_REQUEST),
            ((("user", ANY, None), ("user", ANY, None)), INVALID_REQUEST),
            ((("user", ANY, None), ("ip", ANY, None)), INVALID_REQUEST),
        ):
            answer = self.describe(*components)
            self.assertEqual((answer.error_code, answer.entries), (error, None), components)

    def alter(self, kinds: list[str], key: str, value: float, remove: bool = False) -> int:
        Entry = alter_client_quotas.Request.Entry
        entry = Entry(
            entity=[Entry.Entity(entity_type=kind, entity_name="x") for kind in kinds],
            ops=[Entry.Op(key=key, value=value, remove=remove)],
        )
        [row] = self.ask(alter_client_quotas.Request(entries=[entry]), 1).entries
        self.assertEqual([one.entity_type for one in row.entity], kinds)
        return int(row.error_code)

    def test_alter(self) -> None:
        for kinds, key, value, error in (
            (["user"], "producer_byte_rate", 1.0, UNSUPPORTED_VERSION),
            (["user", "client-id"], "request_percentage", 1.0, UNSUPPORTED_VERSION),
            (["ip"], "connection_creation_rate", 1.0, UNSUPPORTED_VERSION),
            (["ip"], "producer_byte_rate", 1.0, INVALID_REQUEST),
            (["user"], "connection_creation_rate", 1.0, INVALID_REQUEST),
            (["user"], "nonsense", 1.0, INVALID_REQUEST),
            (["user"], "producer_byte_rate", 0.0, INVALID_REQUEST),
            (["user"], "producer_byte_rate", float("nan"), INVALID_REQUEST),
            (["user", "user"], "producer_byte_rate", 1.0, INVALID_REQUEST),
            (["user", "ip"], "producer_byte_rate", 1.0, INVALID_REQUEST),
            (["planet"], "producer_byte_rate", 1.0, INVALID_REQUEST),
            ([], "producer_byte_rate", 1.0, INVALID_REQUEST),
        ):
            self.assertEqual(self.alter(kinds, key, value), error, (kinds, key, value))
        self.assertEqual(self.alter(["user"], "producer_byte_rate", 0.0, remove=True), 0)


class NodeTests(ApiCase):
    def test_log_dirs(self) -> None:
        self.create("t", 1)
        here = self.ask(describe_log_dirs.Request(topics=None), 5).results[0].log_dir
        Dir = alter_replica_log_dirs.Request.Dir
        for path, topic, error in (
            (here, "t", 0),
            (f"{here}/../{os.path.basename(here)}/", "t", 0),
            (here, "missing", 3),
            ("/elsewhere", "t", NO_LOG_DIR),
            ("relative", "t", NO_LOG_DIR),
        ):
            asked = [Dir(path=path, topics=[Dir.Topic(name=topic, partitions=[0])])]
            for version in versions(34):
                [row] = self.ask(alter_replica_log_dirs.Request(dirs=asked), version).results
                self.assertEqual((row.topic_name, row.partitions[0].error_code), (topic, error), path)

    def test_several_log_dirs(self) -> None:
        self.create("t", 2)
        self.broker.settings = attrs.evolve(self.config, more_data_dirs=(pathlib.Path("/more"),))
        self.topics.partition("t", 1).log.place = "/more"
        main, more = self.ask(describe_log_dirs.Request(topics=None), 5).results
        self.assertEqual((main.log_dir, more.log_dir), (os.path.abspath(self.config.data_dir), "/more"))
        for place, index in ((main, 0), (more, 1)):
            self.assertEqual([row.partition_index for row in place.topics[0].partitions], [index])
        Dir = alter_replica_log_dirs.Request.Dir
        asked = [Dir(path="/more", topics=[Dir.Topic(name="t", partitions=[0, 1])])]
        [row] = self.ask(alter_replica_log_dirs.Request(dirs=asked), 2).results
        self.assertEqual([one.error_code for one in row.partitions], [UNSUPPORTED_VERSION, 0])

    def test_unregister(self) -> None:
        self.assertEqual(self.ask(unregister_broker.Request(broker_id=77), 0).error_code, NO_BROKER)
        self.assertEqual(self.ask(unregister_broker.Request(broker_id=1), 0).error_code, INVALID_REQUEST)

    def test_voters(self) -> None:
        for cluster, voter, error in (
            (None, 2, UNSUPPORTED_VERSION),
            ("C" * 22, 2, UNSUPPORTED_VERSION),
            ("D" * 22, 2, OTHER_CLUSTER),
            (None, -1, INVALID_REQUEST),
        ):
            for version in versions(80):
                added = self.ask(add_raft_voter.Request(cluster_id=cluster, voter_id=voter), version)
                self.assertEqual(added.error_code, error)
            removed = self.ask(remove_raft_voter.Request(cluster_id=cluster, voter_id=voter), 0)
            self.assertEqual(removed.error_code, error)
