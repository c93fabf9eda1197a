"""Requests about users, and about rules, quotas and voters, of which there are none: each error says so."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import pathlib
from typing import Any

import attrs

from megabroker.core.authentication.scram import credential
from megabroker.core.credentials import SCRAM_TABLE, Credentials
from megabroker.model import Change
from megabroker.protocols.kafka.schema import (
    add_raft_voter,
    alter_replica_log_dirs,
    alter_user_scram_credentials,
    create_acls,
    create_delegation_token,
    delete_acls,
    describe_acls,
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
from megabroker.protocols.kafka.scram import MECHANISMS
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
    def alter(self, deletions: Any = (), upsertions: Any = ()) -> dict[str, int]:
        Request = alter_user_scram_credentials.Request
        request = Request(
            deletions=[Request.Deletion(name=name, mechanism=kind) for name, kind in deletions],
            upsertions=[
                Request.Upsertion(
                    name=name, mechanism=kind, iterations=count, salt=b"salt", salted_password=b"p" * 32
                )
                for name, kind, count in upsertions
            ],
        )
        waiting = self.begin(request, 0)
        self.turn()
        rows = self.successResultOf(waiting).results
        self.assertEqual(len({row.user for row in rows}), len(rows))
        for row in rows:
            self.assertEqual(bool(row.error_message), bool(row.error_code))
        return {row.user: row.error_code for row in rows}

    def described(self, *names: str) -> list[tuple[str, int, list[tuple[int, int]]]]:
        Request = describe_user_scram_credentials.Request
        answer = self.ask(Request(users=[Request.User(name=name) for name in names]), 0)
        self.assertEqual(answer.error_code, 0)
        return [
            (row.user, row.error_code, [(one.mechanism, one.iterations) for one in row.credential_infos])
            for row in answer.results
        ]

    def test_nobody(self) -> None:
        Request = describe_user_scram_credentials.Request
        for nobody in (None, []):
            answer = self.ask(Request(users=nobody), 0)
            self.assertEqual((answer.error_code, answer.results), (0, []))
        self.assertEqual(self.described("a", "b", "b"), [("a", NOT_FOUND, []), ("b", DUPLICATE, [])])

    def test_kept_told_changed_and_removed(self) -> None:
        self.assertEqual(self.alter(upsertions=[("b", 1, 4096), ("a", 2, 16384)]), {"a": 0, "b": 0})
        self.assertEqual(self.alter(upsertions=[("b", 2, 5000)]), {"b": 0})
        expected = [("a", 0, [(2, 16384)]), ("b", 0, [(1, 4096), (2, 5000)])]
        self.assertEqual(self.described(), expected)
        self.assertEqual(self.described("b"), expected[1:])
        again = Credentials(self.metadata)
        again.load()
        self.assertEqual(again.of("b"), self.broker.credentials.of("b"))
        self.assertEqual(again.users(), ["a", "b"])
        self.assertEqual(self.alter([("a", 2)], [("b", 1, 8192)]), {"a": 0, "b": 0})
        self.assertEqual(self.described(), [("b", 0, [(1, 8192), (2, 5000)])])

    def test_what_is_kept_checks_a_password_and_is_none(self) -> None:
        """The example of RFC 7677, 3: user "user", password "pencil"."""
        salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
        salted = hashlib.pbkdf2_hmac("sha256", b"pencil", salt, 4096)
        kept = credential(MECHANISMS[1].digest, 4096, salt, salted)
        first = "n=user,r=rOprNGfwEbeRWgbNEkqO,"
        nonce = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
        said = f"{first}{nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,{nonce}".encode()
        proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
        signature = hmac.digest(kept.stored_key, said, "sha256")
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        self.assertEqual(hashlib.sha256(client_key).digest(), kept.stored_key)
        verifier = base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
        self.assertEqual(hmac.digest(kept.server_key, said, "sha256"), verifier)
        self.assertNotIn(salted, kept)

    def test_refusals(self) -> None:
        self.alter(upsertions=[("there", 1, 4096), ("twice", 1, 4096)])
        deletions = [("gone", 1), ("there", 2), ("odd", 9), ("", 1), ("twice", 1)]
        upsertions = [("twice", 1, 4096), ("few", 1, 4095), ("many", 2, 16385), ("new", 1, 4096)]
        self.assertEqual(
            self.alter(deletions, upsertions),
            {
                "gone": NOT_FOUND,
                "there": NOT_FOUND,
                "odd": UNSUPPORTED_SASL,
                "": UNACCEPTABLE,
                "twice": DUPLICATE,
                "few": UNACCEPTABLE,
                "many": UNACCEPTABLE,
                "new": 0,
            },
        )
        self.assertEqual([user for user, _, _ in self.described()], ["new", "there", "twice"])

    def test_secrets_of_no_length_or_too_long(self) -> None:
        Request = alter_user_scram_credentials.Request
        for salt, salted in ((b"", b"x"), (b"x", b""), (b"x" * 1025, b"x"), (b"x", b"x" * 1025)):
            one = Request.Upsertion(name="u", mechanism=1, iterations=4096, salt=salt, salted_password=salted)
            (row,) = self.ask(Request(upsertions=[one]), 0).results
            self.assertEqual(row.error_code, UNACCEPTABLE)

    def test_a_row_that_is_none_is_left_alone(self) -> None:
        self.alter(upsertions=[("good", 1, 4096)])
        bad = [Change(SCRAM_TABLE, "no json", {}), Change(SCRAM_TABLE, '["u","SCRAM-SHA-256"]', {"salt": 1})]
        written = self.metadata.write(bad)
        self.turn()
        self.successResultOf(written)
        again = Credentials(self.metadata)
        again.load()
        self.assertEqual(again.users(), ["good"])
        self.assertEqual(len(self.flushLoggedErrors()), 0)


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
