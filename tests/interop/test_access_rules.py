"""Access rules with real clients: who they are by SASL, what they may do by rules that other clients make."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import kafka.admin
import kafka.errors
import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from megabroker.cli.main import commands
from megabroker.client.mega import MessageClient
from megabroker.errors import BrokerError
from tests.brokers import BrokerProcess
from tests.interop.conftest import check_log, java_or_skip
from tests.interop.java import TOOLS
from tests.interop.secured import addresses, listener, properties, set_password
from tests.interop.tool_box import ToolBox
from tests.interop.wires import until
from tests.workers import WorkersProcess

pytestmark = pytest.mark.interop

_SECONDS = 20
_EVERY = AclBindingFilter(
    ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
)
_ANY = {"host": "*", "permission_type": AclPermissionType.ALLOW}


class Place:
    """The broker, and where it asks for passwords and where it does not."""

    def __init__(self, broker: BrokerProcess) -> None:
        self.broker = broker
        self.passwords, self.open = addresses(broker)
        self.admin = self.client(AdminClient, "admin")
        set_password(self.admin, "alice", "alice-secret", "SCRAM-SHA-256")

    def settings(self, user: str, **more: Any) -> dict[str, Any]:
        """Return what librdkafka needs."""
        return {
            "bootstrap.servers": self.passwords,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-256",
            "sasl.username": user,
            "sasl.password": f"{user}-secret",
            **more,
        }

    def client(self, kind: Callable[[dict[str, Any]], Any], user: str, **more: Any) -> Any:
        return kind(self.settings(user, **more))

    def topic(self, name: str) -> str:
        self.admin.create_topics([NewTopic(name, 1)])[name].result(_SECONDS)
        return name

    def rule(
        self,
        kind: ResourceType,
        name: str,
        operation: AclOperation,
        *,
        who: str = "User:alice",
        pattern: ResourcePatternType = ResourcePatternType.LITERAL,
        permission: AclPermissionType = AclPermissionType.ALLOW,
    ) -> AclBinding:
        made = AclBinding(kind, name, pattern, who, "*", operation, permission)
        self.admin.create_acls([made])[made].result(_SECONDS)
        return made

    def forget(self, *bindings: AclBinding) -> None:
        for one in bindings:
            wanted = AclBindingFilter(
                one.restype,
                one.name,
                one.resource_pattern_type,
                one.principal,
                one.host,
                one.operation,
                one.permission_type,
            )
            found = self.admin.delete_acls([wanted])[wanted].result(_SECONDS)
            assert found == [one]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("broker")
    done = CliRunner().invoke(
        commands, ["user", "add", "admin", "--data-dir", str(directory / "data")], input="admin-secret\n"
    )
    assert done.exit_code == 0, done.output
    listeners = [listener("passwords", sasl=["SCRAM-SHA-256"]), listener("open")]
    config = {
        "durability": "os",
        "groups": {"consumer_heartbeat_interval_ms": 100},
        "security": {"authorizer": "acls", "super_users": ["User:admin"]},
        "protocols": {"kafka": {"listeners": listeners}},
    }
    with BrokerProcess(config, directory) as broker:
        yield Place(broker)
        assert broker.stop() == 0, broker.log[-5000:]
        check_log(broker.log)


@pytest.fixture(autouse=True)
def without_rules(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave no rule behind."""
    yield
    if "place" in request.fixturenames:
        admin: AdminClient = request.getfixturevalue("place").admin
        admin.delete_acls([_EVERY])[_EVERY].result(_SECONDS)


def produced(producer: Producer, topic: str) -> KafkaError | None:
    """Produce a record; return the error."""
    found: list[KafkaError | None] = []
    producer.produce(topic, b"value", on_delivery=lambda error, _: found.append(error))
    producer.flush(_SECONDS)
    assert found, "no answer"
    return found[0]


def code(call: Callable[[], Any]) -> int:
    """Return the code of the error that a call fails with, 0 if it does not."""
    try:
        call()
    except KafkaException as error:
        return int(error.args[0].code())
    return 0


def test_producing(place: Place) -> None:
    topic = place.topic("producing")
    plain = place.client(Producer, "alice")
    refused = produced(plain, topic)
    assert refused is not None
    assert refused.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    rule = place.rule(ResourceType.TOPIC, topic, AclOperation.WRITE)
    producer = place.client(Producer, "alice", **{"linger.ms": 0})
    assert [produced(producer, topic) for _ in range(5)] == [None] * 5
    # What the broker remembers of a producer that repeats itself ends with the rule.
    place.forget(rule)
    refused = produced(producer, topic)
    assert refused is not None
    assert refused.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    consumer = place.client(Consumer, "admin", **{"group.id": "x"})
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), _SECONDS) == (0, 5)
    consumer.close()
    assert "denied: User:alice from 127.0.0.1: WRITE on TOPIC 'producing'" in place.broker.log


def test_producing_exactly_once(place: Place) -> None:
    topic = place.topic("exactly-once")

    def idempotently() -> bool:
        """Say whether an idempotent producer may write; what is fatal for it is raised out of any call."""
        try:
            return produced(place.client(Producer, "alice", **{"enable.idempotence": True}), topic) is None
        except (KafkaException, SystemError):
            return False

    place.rule(ResourceType.TOPIC, topic, AclOperation.DESCRIBE)
    assert not idempotently()
    assert "denied: User:alice from 127.0.0.1: IDEMPOTENT_WRITE on CLUSTER" in place.broker.log
    place.rule(ResourceType.TOPIC, topic, AclOperation.WRITE)
    assert idempotently()

    till = place.client(Producer, "alice", **{"transactional.id": "till-1"})
    refused = KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    assert code(lambda: till.init_transactions(_SECONDS)) == refused
    prefix = ResourcePatternType.PREFIXED
    place.rule(ResourceType.TRANSACTIONAL_ID, "till-", AclOperation.WRITE, pattern=prefix)
    till = place.client(Producer, "alice", **{"transactional.id": "till-1"})
    till.init_transactions(_SECONDS)
    till.begin_transaction()
    assert produced(till, topic) is None
    till.commit_transaction(_SECONDS)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_consuming_in_a_group(place: Place, protocol: str) -> None:
    topic = place.topic(f"consuming-{protocol}")
    assert produced(place.client(Producer, "admin"), topic) is None
    group = {"group.id": f"readers-{protocol}", "auto.offset.reset": "earliest", "group.protocol": protocol}

    def first() -> int:
        """Return the error that a new consumer gets, 0 when it gets the record."""
        consumer = place.client(Consumer, "alice", **group)
        consumer.subscribe([topic])
        try:
            message = consumer.poll(_SECONDS)
            assert message is not None
            error = message.error()
            if error is None:
                consumer.commit(message, asynchronous=False)
            return 0 if error is None else int(error.code())
        finally:
            consumer.close()

    visible = place.rule(ResourceType.TOPIC, topic, AclOperation.DESCRIBE)
    assert first() == KafkaError.GROUP_AUTHORIZATION_FAILED
    member = place.rule(ResourceType.GROUP, group["group.id"], AclOperation.READ)
    assert first() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    reader = place.rule(ResourceType.TOPIC, topic, AclOperation.READ)
    assert first() == 0
    place.forget(visible, member, reader)


def test_a_group_that_subscribes_by_a_regular_expression(place: Place) -> None:
    """Of what it matches its members have what they may see, and follow when that changes."""
    seen, hidden = place.topic("regex-seen"), place.topic("regex-hidden")
    place.rule(ResourceType.GROUP, "regex", AclOperation.READ)
    place.rule(ResourceType.TOPIC, seen, AclOperation.READ)
    consumer = place.client(
        Consumer, "alice", **{"group.id": "regex", "group.protocol": "consumer", "fetch.wait.max.ms": 50}
    )
    consumer.subscribe(["^regex-.*"])

    def has(*topics: str) -> bool:
        message = consumer.poll(0.1)
        assert message is None or message.error() is None, message.error()
        return {one.topic for one in consumer.assignment()} == set(topics)

    until(lambda: has(seen), _SECONDS, "the topic that it may see")
    rule = place.rule(ResourceType.TOPIC, hidden, AclOperation.READ)
    until(lambda: has(seen, hidden), _SECONDS, "both")
    place.forget(rule)

    def has_again() -> bool:
        consumer.poll(0.1)  # it may find out by its fetches first
        return {one.topic for one in consumer.assignment()} == {seen}

    until(has_again, _SECONDS, "one again")
    consumer.close()


def test_administering(place: Place) -> None:
    alice: AdminClient = place.client(AdminClient, "alice")
    new = [NewTopic("made-by-alice", 1)]
    refused = KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert code(lambda: alice.create_topics(new)["made-by-alice"].result(_SECONDS)) == refused
    cluster = KafkaError.CLUSTER_AUTHORIZATION_FAILED
    assert alice.describe_acls(_EVERY).result(_SECONDS) == []  # this client does not tell of the error
    mine = AclBinding(
        ResourceType.BROKER,
        "kafka-cluster",
        ResourcePatternType.LITERAL,
        "User:alice",
        operation=AclOperation.ALL,
        **_ANY,
    )
    assert code(lambda: alice.create_acls([mine])[mine].result(_SECONDS)) == cluster
    config = ConfigResource(ConfigResource.Type.BROKER, "1")
    assert code(lambda: alice.describe_configs([config])[config].result(_SECONDS)) == cluster
    assert code(lambda: alice.list_consumer_groups().result(_SECONDS)) == 0
    place.topic("hidden")
    assert set(alice.list_topics(timeout=_SECONDS).topics) == set()
    rules = [
        place.rule(ResourceType.TOPIC, "made-", operation, pattern=ResourcePatternType.PREFIXED)
        for operation in (AclOperation.CREATE, AclOperation.DELETE)
    ]
    alice.create_topics(new)["made-by-alice"].result(_SECONDS)
    assert set(alice.list_topics(timeout=_SECONDS).topics) == {"made-by-alice"}
    found = place.admin.describe_acls(_EVERY).result(_SECONDS)
    assert sorted(map(repr, found)) == sorted(map(repr, rules))
    alice.delete_topics(["made-by-alice"])["made-by-alice"].result(_SECONDS)
    hidden = code(lambda: alice.delete_topics(["hidden"])["hidden"].result(_SECONDS))
    assert hidden == refused
    place.forget(*rules)
    assert "changed: User:alice from 127.0.0.1: CreateTopics: made-by-alice" in place.broker.log
    assert "changed: User:admin from 127.0.0.1: CreateAcls: ALLOW User:alice" in place.broker.log


def test_kafka_python(place: Place) -> None:
    login = {
        "bootstrap_servers": place.passwords,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-256",
    }
    admin = kafka.admin.KafkaAdminClient(
        **login, sasl_plain_username="admin", sasl_plain_password="admin-secret"
    )
    acl = kafka.admin.ACL(
        principal="User:alice",
        host="*",
        operation=kafka.admin.ACLOperation.READ,
        permission_type=kafka.admin.ACLPermissionType.ALLOW,
        resource_pattern=kafka.admin.ResourcePattern(kafka.admin.ResourceType.TOPIC, "by-kafka-python"),
    )
    made = admin.create_acls([acl])
    assert (made["succeeded"], made["failed"]) == ([acl], [])
    wanted = kafka.admin.ACLFilter(
        principal=None,
        host="*",
        operation=kafka.admin.ACLOperation.ANY,
        permission_type=kafka.admin.ACLPermissionType.ANY,
        resource_pattern=kafka.admin.ResourcePattern(kafka.admin.ResourceType.TOPIC, "by-kafka-python"),
    )
    assert admin.describe_acls(wanted)[0] == [acl]
    ((_, gone, error),) = admin.delete_acls([wanted])
    assert gone == [acl]
    assert error is kafka.errors.NoError
    assert admin.describe_acls(wanted)[0] == []
    admin.close()


def test_kafkas_own_tool(place: Place, tmp_path: pathlib.Path) -> None:
    java = java_or_skip(TOOLS, "ToolBox")
    module = "org.apache.kafka.common.security.scram.ScramLoginModule"
    login = module + ' required username="{0}" password="{0}-secret";'
    files = {
        user: properties(
            tmp_path / f"{user}.properties",
            {
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "SCRAM-SHA-256",
                "sasl.jaas.config": login.format(user),
            },
        )
        for user in ("admin", "alice")
    }
    with ToolBox(java, place.passwords) as box:
        admin = ("kafka-acls", "--command-config", files["admin"])
        added = box.good(*admin, "--add", "--allow-principal", "User:alice", "--producer", "--topic", "tool")
        assert "Adding ACLs for resource" in added
        box.good(
            *admin, "--add", "--deny-principal", "User:bob", "--operation", "All", "--group", "g-",
            "--resource-pattern-type", "prefixed",
        )  # fmt: skip
        listed = box.good(*admin, "--list")
        assert "ResourcePattern(resourceType=TOPIC, name=tool, patternType=LITERAL)" in listed
        assert "(principal=User:alice, host=*, operation=WRITE, permissionType=ALLOW)" in listed
        assert "ResourcePattern(resourceType=GROUP, name=g-, patternType=PREFIXED)" in listed
        one = box.good(*admin, "--list", "--principal", "User:bob")
        assert ("g-" in one, "alice" in one) == (True, False)
        refused = box.run("kafka-acls", "--command-config", files["alice"], "--list")
        assert "ClusterAuthorizationException" in refused.text
        made = box.run("kafka-topics", "--create", "--topic", "tool", "--command-config", files["alice"])
        assert made.exit == 0, made.text
        remove = (*admin, "--remove", "--force")
        box.good(*remove, "--topic", "tool", "--producer", "--allow-principal", "User:alice")
        box.good(*remove, "--group", "g-", "--resource-pattern-type", "prefixed")
        assert "principal=" not in box.good(*admin, "--list")


def run(place: Place, user: str, *arguments: str) -> tuple[int, list[str]]:
    """Run ``megabroker acl`` in this process; return its exit code and what it said."""
    login = ["-s", place.passwords, "--as", user]
    environment = {"MEGABROKER_PASSWORD": f"{user}-secret"}
    done = CliRunner().invoke(commands, ["acl", *arguments, *login], env=environment)
    if isinstance(done.exception, BrokerError):
        return 1, [str(done.exception)]
    return done.exit_code, done.output.splitlines()


def test_our_own_command(place: Place) -> None:
    added = run(
        place, "admin", "add", "--allow", "User:alice", "-o", "read", "-o", "describe",
        "--topic", "orders-", "--prefixed",
    )  # fmt: skip
    rules = [
        f"ALLOW User:alice from * {operation} TOPIC prefix orders-" for operation in ("READ", "DESCRIBE")
    ]
    assert added == (0, rules)
    denied = run(place, "admin", "add", "--deny", "User:bob", "--cluster", "--host", "10.0.0.1")
    assert denied == (0, ["DENY User:bob from 10.0.0.1 ALL CLUSTER kafka-cluster"])
    assert run(place, "admin", "list") == (0, [*rules, *denied[1]])
    assert run(place, "admin", "list", "--topic", "orders-") == (0, [])
    assert run(place, "admin", "list", "--topic", "orders-", "--prefixed", "-o", "read") == (0, rules[:1])
    assert run(place, "alice", "list") == (1, ["access rules: Cluster authorization failed."])
    assert run(place, "alice", "add", "--allow", "User:alice", "--cluster")[0] == 1
    assert run(place, "admin", "remove")[0] == 2
    assert run(place, "admin", "add", "--allow", "User:alice")[0] == 2
    assert run(place, "admin", "remove", "--deny", "User:bob") == denied
    code, said = run(place, "admin", "remove", "--deny", "User:bob")
    assert code == 1
    assert "no rule matches" in said[0]
    code, said = run(place, "admin", "add", "--topic", "t", "--allow", "alice")
    assert code == 2
    assert "expected a principal such as User:alice" in said[-1]
    code, [made] = run(place, "admin", "add", "--topic", "t", "--allow", "User:eve", "-o", "read", "--json")
    [rule] = json.loads(made)
    assert (code, rule["principal"], rule["operation"], rule["permission"]) == (
        0,
        "User:eve",
        "read",
        "allow",
    )
    assert run(place, "admin", "remove", "--topic", "t", "--json") == (0, [made])
    assert run(place, "admin", "remove", "--all") == (0, rules)


def test_the_other_wires(place: Place) -> None:
    topic = place.topic("by-mega")
    with MessageClient(host="127.0.0.1", port=place.broker.ports["mega"]) as client:
        assert client.produce(topic, "x")["error_code"] == "TOPIC_NOT_FOUND"
        assert client.create_topic("by-mega-too")["error_code"] == "INVALID_REQUEST"
        rule = place.rule(ResourceType.TOPIC, topic, AclOperation.ALL, who="User:ANONYMOUS")
        assert client.produce(topic, "x")["success"]
        assert client.consume(topic, 0)["payload"] == "x"
        place.forget(rule)
        assert client.consume(topic, 0)["error_code"] == "TOPIC_NOT_FOUND"


def test_rules_outlive_the_broker_and_hold_at_every_worker(tmp_path: pathlib.Path) -> None:
    config = {
        "durability": "os",
        "security": {"authorizer": "acls", "allow_everyone_if_no_acl_found": True},
        "protocols": {"cursus": {"enabled": False}},
    }
    with WorkersProcess(2, config, tmp_path) as broker:
        nodes = [AdminClient({"bootstrap.servers": address}) for address in broker.nodes]
        nodes[1].create_topics([NewTopic("t", 2)])["t"].result(_SECONDS)

        def connected() -> list[Producer]:
            return [Producer({"bootstrap.servers": broker.kafka, "linger.ms": 0}) for _ in (0, 1)]

        def outcomes(producers: list[Producer]) -> list[int]:
            """Produce to the partition of each worker, through a producer each."""
            found: list[int] = []
            for partition, producer in enumerate(producers):
                producer.produce(
                    "t",
                    b"x",
                    partition=partition,
                    on_delivery=lambda error, _: found.append(0 if error is None else error.code()),
                )
                producer.flush(_SECONDS)
            return found

        producers = connected()
        assert [outcomes(producers) for _ in range(3)] == [[0, 0]] * 3
        denial = AclBinding(
            ResourceType.TOPIC,
            "t",
            ResourcePatternType.LITERAL,
            "User:*",
            "*",
            AclOperation.WRITE,
            AclPermissionType.DENY,
        )
        visible = AclBinding(
            ResourceType.TOPIC,
            "t",
            ResourcePatternType.LITERAL,
            "User:*",
            operation=AclOperation.DESCRIBE,
            **_ANY,
        )
        # Asked of the worker that has to pass it on; once that is answered it holds everywhere.
        for done in nodes[1].create_acls([denial, visible]).values():
            done.result(_SECONDS)
        assert outcomes(producers) == [KafkaError.TOPIC_AUTHORIZATION_FAILED] * 2
        assert broker.stop() == 0
        broker.start()
        assert outcomes(connected()) == [KafkaError.TOPIC_AUTHORIZATION_FAILED] * 2
        for _ in range(4):
            with MessageClient(host="127.0.0.1", port=broker.ports["mega"]) as client:
                assert not client.produce("t", "x")["success"]
        node = AdminClient({"bootstrap.servers": broker.nodes[1]})
        wanted = AclBindingFilter(
            ResourceType.TOPIC,
            "t",
            ResourcePatternType.LITERAL,
            None,
            None,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        gone = node.delete_acls([wanted])[wanted].result(_SECONDS)
        assert sorted(map(repr, gone)) == sorted(map(repr, [denial, visible]))
        # MEGA's topic has its first partition at one of the workers; the other asks that one for it.
        for _ in range(4):
            with MessageClient(host="127.0.0.1", port=broker.ports["mega"]) as client:
                assert client.produce("t", "x")["success"]
        assert broker.stop() == 0
        check_log(broker.log)
