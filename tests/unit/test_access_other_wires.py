"""Access rules as produce, fetch, MEGA and cursus meet them, and what is remembered when they change."""

from __future__ import annotations

import json
import struct
import unittest
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport

from megabroker.access import CLUSTER_NAME, Acl, AclFilter, Operation, PatternType, Permission, ResourceType
from megabroker.codec.batch import build, build_single
from megabroker.model import HostPort, Listener, Principal
from megabroker.protocols.cursus.factory import CursusFactory
from megabroker.protocols.cursus.later.batch import BatchMessage, encode_batch
from megabroker.protocols.cursus.settings import CursusSettings
from megabroker.protocols.kafka.protocol import InternalFactory
from megabroker.protocols.kafka.schema import fetch, produce
from megabroker.protocols.kafka.settings import KafkaSettings
from megabroker.protocols.mega.codec import MegaError
from megabroker.protocols.mega.factory import MegaFactory
from megabroker.protocols.mega.settings import MegaSettings
from tests.unit.call_counting import COMPILED, Client, CountingCase

Op, R = Operation, ResourceType
TOPIC, ID, UNKNOWN_ID = 29, 53, 100
ALICE, BOB = Principal("User", "alice"), Principal("User", "bob")
NOW_MS = 1_700_000_000_000


class RulesCase(CountingCase):
    config = "security: {authorizer: acls, super_users: ['User:admin']}\n"

    def setUp(self) -> None:
        super().setUp()
        self.topic = self.done(self.service.core.topics.create("t", 2))
        self.acls = self.service.broker.authorizer

    def allow(
        self,
        operation: Operation,
        name: str = "t",
        *,
        who: Principal = ALICE,
        kind: ResourceType = R.TOPIC,
        permission: Permission = Permission.ALLOW,
    ) -> Acl:
        acl = Acl(kind, name, PatternType.LITERAL, str(who), "*", operation, permission)
        self.assertEqual(self.done(self.acls.create([acl])), [None])
        return acl

    def forbid(self, acl: Acl) -> None:
        self.assertEqual(self.done(self.acls.delete([AclFilter(*acl)])), [[acl]])


class KafkaTests(RulesCase):
    def client(self, who: Principal) -> Client:
        client = self.connect()
        client.connection.principal = who
        return client

    def produce(
        self,
        client: Client,
        index: int = 0,
        *,
        version: int = 12,
        name: str = "t",
        topic_id: bytes = bytes(16),
        producer: tuple[int, int] | None = None,
        transactional_id: str | None = None,
    ) -> int:
        """Send a produce request, as a producer does that repeats it, and return the error."""
        batch = bytearray(build_single(None, b"value", NOW_MS))
        if producer is not None:
            batch = bytearray(build_transactional(*producer))
        data = produce.Request.Topic.Partition(index=index, records=bytes(batch))
        topic = produce.Request.Topic(name=name, topic_id=topic_id, partition_data=[data])
        request = produce.Request(
            acks=1, timeout_ms=1000, topic_data=[topic], transactional_id=transactional_id
        )
        answer = client.ask(request, produce.Response, version)
        return answer.responses[0].partition_responses[0].error_code

    def test_produce_is_refused_by_name_and_by_id(self) -> None:
        client = self.client(ALICE)
        for version in (3, 9, 12):
            self.assertEqual(self.produce(client, version=version), TOPIC)
            self.assertEqual(self.produce(client, version=version, name="nowhere"), TOPIC)
        self.assertEqual(self.produce(client, version=13, topic_id=self.topic.id.bytes), TOPIC)
        self.assertEqual(self.produce(client, version=13, topic_id=bytes(15) + b"x"), UNKNOWN_ID)
        self.assertEqual(self.service.core.topics.partition("t", 0).log.next_offset, 0)
        self.allow(Op.WRITE)
        self.assertEqual(self.produce(client, version=13, topic_id=self.topic.id.bytes), 0)

    def test_a_producer_that_repeats_itself_is_refused_as_soon_as_the_rule_is_gone(self) -> None:
        rule = self.allow(Op.WRITE)
        self.allow(Op.WRITE, who=BOB)
        alice, bob = self.client(ALICE), self.client(BOB)
        for _ in range(3):
            self.assertEqual((self.produce(alice), self.produce(bob)), (0, 0))
        self.assertIsNotNone(alice.connection.template)
        self.forbid(rule)
        # What is remembered of Bob, for a partition that Alice had not produced to, must not let her in.
        for index in (1, 0, 1, 0):
            self.assertEqual((self.produce(bob, index), self.produce(alice, index)), (0, TOPIC))
        self.allow(Op.WRITE)
        self.assertEqual([self.produce(alice), self.produce(alice)], [0, 0])
        self.allow(Op.WRITE, permission=Permission.DENY)
        self.assertEqual([self.produce(alice), self.produce(bob)], [TOPIC, 0])
        self.assertEqual(self.service.core.topics.partition("t", 0).log.next_offset, 3 + 3 + 2 + 2 + 1)

    def test_batches_of_transactions_need_the_id(self) -> None:
        self.allow(Op.WRITE)
        client = self.client(ALICE)
        self.assertEqual(self.produce(client, producer=(7, 0), transactional_id="till"), ID)
        self.assertEqual(self.produce(client, producer=(7, 0)), ID)
        self.assertEqual(self.produce(client, transactional_id="till"), 0)

    def test_fetch(self) -> None:
        client = self.client(ALICE)
        self.allow(Op.WRITE)
        self.assertEqual(self.produce(client), 0)
        for version, name, topic_id in ((12, "t", bytes(16)), (13, "", self.topic.id.bytes)):
            self.assertEqual(self.fetched(client, version, name, topic_id), (TOPIC, 0))
        rule = self.allow(Op.READ)
        self.allow(Op.DESCRIBE, permission=Permission.DENY)
        for version, name, topic_id in ((12, "t", bytes(16)), (13, "", self.topic.id.bytes)):
            error, size = self.fetched(client, version, name, topic_id)
            self.assertEqual((error, size > 0), (0, True))
        self.forbid(rule)
        self.assertEqual(self.fetched(client, 12, "t", bytes(16)), (TOPIC, 0))

    def fetched(self, client: Client, version: int, name: str, topic_id: bytes) -> tuple[int, int]:
        wanted = fetch.Request.Topic.Partition(partition=0, partition_max_bytes=1 << 20)
        topic = fetch.Request.Topic(topic=name, topic_id=topic_id, partitions=[wanted])
        request = fetch.Request(max_wait_ms=0, max_bytes=1 << 20, topics=[topic], session_epoch=-1)
        row = client.ask(request, fetch.Response, version).responses[0].partitions[0]
        return row.error_code, len(row.records or b"")

    def test_other_processes_of_the_broker_may_do_everything(self) -> None:
        listener = Listener("kafka", "internal", HostPort("", 0))
        self.factory = InternalFactory(self.service.broker, KafkaSettings(), listener)
        self.assertEqual(self.produce(self.connect()), 0)


@unittest.skipUnless(COMPILED, "the compiled part is not there")
class CompiledKafkaTests(KafkaTests):
    compiled = True


def build_transactional(producer_id: int, epoch: int) -> bytes:
    return bytes(
        build(
            [(None, b"value", (), NOW_MS)],
            producer_id=producer_id,
            producer_epoch=epoch,
            base_sequence=0,
            attributes=16,
        )
    )


class TextCase(RulesCase):
    """A connection of another wire, fed with bytes."""

    connection: Any

    def open(self, factory: Any) -> None:
        self.connection = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 9))
        self.connection.makeConnection(StringTransport())
        self.connection.principal = ALICE

    def exchange(self, data: bytes) -> bytes:
        self.connection.dataReceived(data)
        self.reactor.until(lambda: self.connection.transport.value())
        found: bytes = self.connection.transport.value()
        self.connection.transport.clear()
        return found


class MegaTests(TextCase):
    def setUp(self) -> None:
        super().setUp()
        listener = Listener("mega", "default", HostPort("localhost", 1))
        self.open(MegaFactory(self.service.broker, MegaSettings(), listener))

    def ask(self, kind: int, topic: str, payload: bytes = b"", offset: int = 0) -> int:
        """Return the error, 0 for none."""
        name = topic.encode()
        head = struct.pack(">iBi", 7, kind, len(name)) + name + struct.pack(">q", NOW_MS)
        body = {1: struct.pack(">i", len(payload)) + payload, 2: struct.pack(">i", offset)}.get(kind, b"")
        answer = self.exchange(head + body)
        correlation_id, succeeded, code = struct.unpack_from(">iBB", answer)
        self.assertEqual(correlation_id, 7)
        return 0 if succeeded else code

    def test_everything_is_asked_about(self) -> None:
        for kind in (1, 2):
            self.assertEqual(self.ask(kind, "t", b"x"), MegaError.TOPIC_NOT_FOUND)
        self.assertEqual(self.ask(3, "new"), MegaError.INVALID_REQUEST)
        self.assertIsNone(self.service.core.topics.get("new"))
        self.allow(Op.DESCRIBE)
        self.assertEqual(self.ask(1, "t", b"x"), MegaError.INVALID_REQUEST)
        self.assertEqual(self.ask(2, "t"), MegaError.INVALID_REQUEST)
        self.allow(Op.WRITE)
        self.assertEqual(self.ask(1, "t", b"x"), 0)
        rule = self.allow(Op.READ)
        self.assertEqual(self.ask(2, "t"), 0)
        self.forbid(rule)
        self.assertEqual(self.ask(2, "t"), MegaError.INVALID_REQUEST)
        self.allow(Op.CREATE, CLUSTER_NAME, kind=R.CLUSTER)
        self.assertEqual(self.ask(3, "new"), 0)


class CursusTests(TextCase):
    def setUp(self) -> None:
        super().setUp()
        listener = Listener("cursus", "default", HostPort("localhost", 1))
        settings = CursusSettings(consume_keep_open=True, subscribe_push=True)
        self.open(CursusFactory(self.service.broker, settings, listener))

    def ask(self, text: str) -> str:
        frame = struct.pack(">H", 1) + b"-" + text.encode()
        return self.exchange(struct.pack(">I", len(frame)) + frame)[4:].decode()

    def test_everything_is_asked_about(self) -> None:
        self.done(self.service.core.topics.create("other", 1))
        self.assertNotIn("t", self.ask("LIST").split(", "))
        for command in ("PUBLISH t x", "SUBSCRIBE t"):
            self.assertEqual(self.ask(command), "ERROR: topic 't' does not exist")
        self.assertTrue(self.ask("CONSUME t 0 0").startswith("ERROR: "))
        self.assertEqual(self.ask("DELETE t"), "ERROR: topic 't' not found")
        self.assertEqual(self.ask("CREATE new"), "ERROR: CREATE of new is not allowed")
        self.allow(Op.DESCRIBE)
        self.assertEqual(self.ask("LIST"), "t")
        self.assertEqual(self.ask("PUBLISH t x"), "ERROR: WRITE of t is not allowed")
        self.assertEqual(self.ask("SUBSCRIBE t"), "ERROR: READ of t is not allowed")
        self.assertEqual(self.ask("DELETE t"), "ERROR: DELETE of t is not allowed")
        self.assertEqual(self.ask("CREATE t 4"), "ERROR: ALTER of t is not allowed")
        self.allow(Op.WRITE)
        self.assertIn("'t'", self.ask("PUBLISH t x"))
        self.allow(Op.READ)
        self.assertNotIn("ERROR", self.ask("SUBSCRIBE t"))
        index = next(i for i in (0, 1) if self.service.core.topics.partition("t", i).log.next_offset)
        self.assertEqual(self.ask(f"CONSUME t {index} 0"), "x")
        self.allow(Op.CREATE, "new")
        self.assertIn("'new' now has", self.ask("CREATE new"))
        self.allow(Op.DELETE)
        self.assertNotIn("ERROR", self.ask("DELETE t"))

    def test_pushing_ends_with_the_permission(self) -> None:
        rule = self.allow(Op.READ)
        self.ask("SUBSCRIBE t")
        self.assertIn("t", self.connection.context.current_topics)
        self.connection.sweep(1, 30, 600)
        self.assertIn("t", self.connection.context.current_topics)
        self.forbid(rule)
        self.connection.sweep(2, 30, 600)
        self.assertEqual(self.connection.context.current_topics, set())


LATER_NEEDS: list[tuple[str, list[tuple[Operation, ResourceType, str]]]] = [
    ("DESCRIBE topic=t", [(Op.DESCRIBE, R.TOPIC, "t")]),
    ("PUBLISH topic=t producerId=p message=m", [(Op.WRITE, R.TOPIC, "t")]),
    (
        "CONSUME topic=t partition=0 offset=0 member=m group=g",
        [(Op.READ, R.GROUP, "g"), (Op.READ, R.TOPIC, "t")],
    ),
    (
        "CONSUME topic=t* partition=0 offset=0 member=m group=g",
        [(Op.READ, R.GROUP, "g"), (Op.READ, R.TOPIC, "t")],
    ),
    ("JOIN_GROUP topic=t group=g member=m", [(Op.READ, R.GROUP, "g"), (Op.READ, R.TOPIC, "t")]),
    ("FETCH_OFFSET topic=t group=g partition=0", [(Op.DESCRIBE, R.GROUP, "g"), (Op.DESCRIBE, R.TOPIC, "t")]),
    ("FIND_COORDINATOR group=g", [(Op.DESCRIBE, R.GROUP, "g")]),
    ("INIT_PRODUCER_ID transactional_id=x", [(Op.WRITE, R.TRANSACTIONAL_ID, "x")]),
    ("LIST_OFFSETS topic=t", [(Op.DESCRIBE, R.TOPIC, "t")]),
    ("CREATE topic=new", [(Op.CREATE, R.TOPIC, "new")]),
    ("CREATE topic=t partitions=3", [(Op.DESCRIBE, R.TOPIC, "t"), (Op.ALTER, R.TOPIC, "t")]),
    ("DELETE topic=t", [(Op.DELETE, R.TOPIC, "t")]),
]


class LaterTests(CursusTests):
    """The later dialect of cursus asks about everything, too."""

    def ask(self, text: str) -> str:
        frame = b"\0\0" + text.encode()
        return self.exchange(struct.pack(">I", len(frame)) + frame)[4:].decode("latin-1")

    def test_everything_is_asked_about(self) -> None:
        self.assertEqual(self.ask("LIST_GROUPS no=thing"), "OK count=0 groups=")
        for command, needs in LATER_NEEDS:
            rules = []
            for operation, kind, name in needs:
                told = self.ask(command)
                self.assertTrue(told.startswith("ERROR: "), (command, told))
                self.assertRegex(told, "NOT_AUTHORIZED_FOR|topic_not_found", command)
                rules.append(self.allow(operation, name, kind=kind))
            told = self.ask(command)
            self.assertFalse(told.startswith("ERROR: "), (command, told))
            for rule in rules:
                self.forbid(rule)

    def test_a_batch(self) -> None:
        batch = encode_batch("t", 0, [BatchMessage(0, 1, b"m")])
        frame = struct.pack(">I", len(batch)) + batch
        self.assertEqual(self.exchange(frame)[4:], b"ERROR: topic_not_found topic=t")
        self.allow(Op.DESCRIBE)
        refusal = b"ERROR: NOT_AUTHORIZED_FOR_TOPIC operation=write topic=t"
        self.assertEqual(self.exchange(frame)[4:], refusal)
        self.allow(Op.WRITE)
        self.assertIn(b'"status":"OK","last_offset":0', self.exchange(frame))

    def test_lists_tell_of_what_may_be_seen(self) -> None:
        self.allow(Op.READ, "g", kind=R.GROUP)
        self.allow(Op.READ)
        self.assertIn("generation=1", self.ask("JOIN_GROUP topic=t group=g member=m"))
        self.assertEqual(self.ask("LIST"), "OK count=1 topics=t")
        self.assertEqual(self.ask("LIST_GROUPS a=b"), "OK count=1 groups=g")
        self.connection.principal = BOB
        self.assertEqual(self.ask("LIST"), "OK count=0 topics=")
        self.assertEqual(self.ask("LIST_GROUPS a=b"), "OK count=0 groups=")

    def test_a_group_is_told_with_the_topics_that_may_be_seen(self) -> None:
        self.done(self.service.core.topics.create("u", 3))
        self.allow(Op.READ, "g", kind=R.GROUP)
        self.allow(Op.READ)
        hidden = self.allow(Op.READ, "u")
        self.assertIn("generation=1", self.ask("JOIN_GROUP topic=t group=g member=m"))
        self.assertIn("generation=2", self.ask("JOIN_GROUP topic=u group=g member=n"))
        told = json.loads(self.ask("GROUP_STATUS group=g"))
        self.assertEqual((told["topic_name"], told["partition_count"], told["member_count"]), ("t,u", 5, 2))
        self.assertEqual([one["assignments"] for one in told["members"]], [[0, 1], [0, 1, 2]])
        self.forbid(hidden)
        told = json.loads(self.ask("GROUP_STATUS group=g"))
        self.assertEqual((told["topic_name"], told["partition_count"], told["member_count"]), ("t", 2, 2))
        self.assertEqual([one["assignments"] for one in told["members"]], [[0, 1], []])

    def test_a_stream_ends_with_the_permission(self) -> None:
        self.allow(Op.READ, "g", kind=R.GROUP)
        rule = self.allow(Op.READ)
        words = b"\0\0STREAM topic=t partition=0 group=g"
        self.connection.dataReceived(struct.pack(">I", len(words)) + words)
        self.reactor.turn()
        self.forbid(rule)
        self.reactor.advance(5)
        self.assertIn(b"STREAM_CONTROL type=CLOSE reason=error offset=0", self.exchange(b""))
        self.reactor.turn()
        self.assertTrue(self.connection.transport.disconnecting)
