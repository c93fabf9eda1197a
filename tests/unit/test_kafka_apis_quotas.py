"""Requests that set quotas and tell them."""

from __future__ import annotations

from typing import Any

from megabroker.core.quotas.service import Quotas
from megabroker.errors import ErrorCode, StorageError
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import alter_client_quotas, describe_client_quotas
from tests.unit.kafka_apis_harness import ApiCase

EXACT, DEFAULT, ANY = 0, 1, 2
INVALID_REQUEST = int(KafkaError.INVALID_REQUEST)
UNSUPPORTED_VERSION = int(KafkaError.UNSUPPORTED_VERSION)

Entity = list[tuple[str, str | None]]


class QuotaTests(ApiCase):
    def describe(
        self, *components: tuple[str, int, str | None], strict: bool = False, version: int = 1
    ) -> Any:
        asked = [
            describe_client_quotas.Request.Component(entity_type=kind, match_type=how, match=match)
            for kind, how, match in components
        ]
        return self.ask(describe_client_quotas.Request(components=asked, strict=strict), version)

    def found(self, *components: tuple[str, int, str | None], strict: bool = False) -> list[Entity]:
        answer = self.describe(*components, strict=strict)
        self.assertEqual(answer.error_code, 0)
        return sorted_entities(
            [[(one.entity_type, one.entity_name) for one in entry.entity] for entry in answer.entries]
        )

    def alter(
        self,
        *entries: tuple[Entity, list[tuple[str, float | None]]],
        validate_only: bool = False,
        version: int = 1,
    ) -> list[int]:
        Entry = alter_client_quotas.Request.Entry
        asked = [
            Entry(
                entity=[Entry.Entity(entity_type=kind, entity_name=name) for kind, name in entity],
                ops=[Entry.Op(key=key, value=value or 0.0, remove=value is None) for key, value in ops],
            )
            for entity, ops in entries
        ]
        answer = self.ask(alter_client_quotas.Request(entries=asked, validate_only=validate_only), version)
        return [int(row.error_code) for row in answer.entries]

    def test_set_told_and_removed_at_every_version(self) -> None:
        entity: Entity = [("user", "alice"), ("client-id", None)]
        for version in (0, 1):
            ops: list[tuple[str, float | None]] = [
                ("producer_byte_rate", 1024.0),
                ("request_percentage", 12.5),
            ]
            self.assertEqual(self.alter((entity, ops), version=version), [0])
            [entry] = self.describe(("user", EXACT, "alice"), version=version).entries
            self.assertEqual(
                [(one.key, one.value) for one in entry.values],
                [("request_percentage", 12.5), ("producer_byte_rate", 1024.0)],
            )
            self.assertEqual(
                [(one.entity_type, one.entity_name) for one in entry.entity],
                [("client-id", None), ("user", "alice")],
            )
            again = Quotas(self.metadata, self.now_ms)
            again.load()
            self.assertEqual(again.all(), self.broker.quotas.all())
            self.assertEqual(self.alter((entity, [(key, None) for key, _ in ops]), version=version), [0])
            self.assertEqual(self.describe(version=version).entries, [])

    def test_the_order_in_which_clients_expect_them(self) -> None:
        Entry = alter_client_quotas.Request.Entry
        Op = Entry.Op
        entity = [Entry.Entity(entity_type=kind, entity_name="x") for kind in ("user", "client-id")]
        quotas = ("producer_byte_rate", "consumer_byte_rate", "request_percentage")
        entry = Entry(entity=entity, ops=[Op(key=key, value=1.0) for key in quotas])
        [row] = self.ask(alter_client_quotas.Request(entries=[entry]), 1).entries
        self.assertEqual([one.entity_type for one in row.entity], ["client-id", "user"])
        [told] = self.describe().entries
        self.assertEqual([one.entity_type for one in told.entity], ["client-id", "user"])
        self.assertEqual([one.key for one in told.values], [quotas[1], quotas[2], quotas[0]])

    def test_matching(self) -> None:
        alice_any: Entity = [("client-id", None), ("user", "alice")]
        alice_app: Entity = [("client-id", "app"), ("user", "alice")]
        alice: Entity = [("user", "alice")]
        everyone: Entity = [("user", None)]
        app: Entity = [("client-id", "app")]
        ip: Entity = [("ip", "10.0.0.1")]
        every: list[Entity] = [alice_any, alice_app, alice, everyone, app]
        self.alter(*((entity, [("consumer_byte_rate", 1.0)]) for entity in every))
        self.alter((ip, [("connection_creation_rate", 1.0)]))
        for components, strict, expected in (
            ((), False, [*every, ip]),
            ((), True, []),
            ((("user", EXACT, "alice"),), False, [alice_any, alice_app, alice]),
            ((("user", EXACT, "alice"),), True, [alice]),
            ((("user", DEFAULT, None),), True, [everyone]),
            ((("user", ANY, None),), True, [alice, everyone]),
            ((("user", ANY, None), ("client-id", DEFAULT, None)), False, [alice_any]),
            ((("client-id", EXACT, "app"),), False, [alice_app, app]),
            ((("client-id", EXACT, "app"),), True, [app]),
            ((("ip", ANY, None),), False, [ip]),
            ((("ip", DEFAULT, None),), False, []),
        ):
            self.assertEqual(self.found(*components, strict=strict), sorted_entities(expected), components)

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

    def test_alter_refused(self) -> None:
        user: Entity = [("user", "x")]
        for entity, ops in (
            ([("ip", "10.0.0.1")], [("producer_byte_rate", 1.0)]),
            ([("ip", "no.such.host")], [("connection_creation_rate", 1.0)]),
            (user, [("connection_creation_rate", 1.0)]),
            (user, [("nonsense", 1.0)]),
            (user, [("producer_byte_rate", -1.0)]),
            (user, [("producer_byte_rate", 1.5)]),
            (user, [("producer_byte_rate", 1.0), ("producer_byte_rate", 2.0)]),
            ([("user", "")], [("producer_byte_rate", 1.0)]),
            ([("user", "x"), ("user", "y")], [("producer_byte_rate", 1.0)]),
            ([("user", "x"), ("ip", "10.0.0.1")], [("producer_byte_rate", 1.0)]),
            ([("planet", "x")], [("producer_byte_rate", 1.0)]),
            ([], [("producer_byte_rate", 1.0)]),
        ):
            self.assertEqual(self.alter((entity, ops)), [INVALID_REQUEST], (entity, ops))
        self.assertEqual(self.describe().entries, [])
        self.assertEqual(self.alter((user, [("producer_byte_rate", None), ("nonsense", None)])), [0])

    def test_one_refused_keeps_none_of_the_others(self) -> None:
        good: Entity = [("user", "good")]
        bad: Entity = [("user", "bad")]
        twice: Entity = [("user", "twice")]
        codes = self.alter(
            (good, [("producer_byte_rate", 1.0)]),
            (bad, [("producer_byte_rate", 1.0), ("nonsense", 1.0)]),
            (twice, [("producer_byte_rate", 1.0)]),
            (twice, [("producer_byte_rate", 2.0)]),
        )
        self.assertEqual(codes, [0, INVALID_REQUEST, INVALID_REQUEST])
        self.assertEqual(self.found(), [good])

    def test_validate_only(self) -> None:
        user: Entity = [("user", "x")]
        self.assertEqual(self.alter((user, [("producer_byte_rate", 1.0)]), validate_only=True), [0])
        self.assertEqual(
            self.alter((user, [("producer_byte_rate", 1.0), ("no", 1.0)]), validate_only=True),
            [INVALID_REQUEST],
        )
        self.assertEqual(self.describe().entries, [])

    def test_a_store_that_fails_is_told(self) -> None:
        def fail(changes: Any) -> Any:
            raise StorageError(ErrorCode.STORAGE, "broken")

        self.patch(self.metadata, "write", fail)
        self.assertEqual(
            self.alter(([("user", "x")], [("producer_byte_rate", 1.0)])),
            [int(KafkaError.KAFKA_STORAGE_ERROR)],
        )
        self.assertEqual(self.describe().entries, [])


def sorted_entities(entities: list[Entity]) -> list[Entity]:
    """Sort them, the default before names."""
    return sorted(entities, key=lambda entity: [(kind, name or "") for kind, name in entity])
