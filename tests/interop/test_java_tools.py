"""Apache Kafka's command-line tools against this broker, many of them in one Java process."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import time
from collections.abc import Callable, Iterator

import confluent_kafka
import pytest

from tests.brokers import BrokerProcess
from tests.interop.conftest import java_or_skip
from tests.interop.java import TOOLS
from tests.interop.tool_box import TOOLS_BY_NAME, ToolBox

_PERFORMANCE_RECORDS = 2000


@pytest.fixture(scope="module")
def box(os_broker: BrokerProcess) -> Iterator[ToolBox]:
    """The tools, speaking to the shared broker."""
    with ToolBox(java_or_skip(TOOLS, "ToolBox"), os_broker.kafka) as box:
        yield box


def fill(kafka: str, topic: str, values: list[str], partition: int = 0) -> None:
    """Write records to one partition."""
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka})
    for value in values:
        producer.produce(topic, value, partition=partition)
    producer.flush(10)


def test_topics(box: ToolBox, broker: BrokerProcess, unique: Callable[[str], str]) -> None:
    name = unique("topic")
    box.good(
        "kafka-topics", "--create", "--topic", name, "--partitions", "2", "--config", "retention.ms=90000"
    )
    assert name in box.good("kafka-topics", "--list").splitlines()
    box.good("kafka-topics", "--alter", "--topic", name, "--partitions", "3")
    described = box.good("kafka-topics", "--describe", "--topic", name)
    assert re.search(r"PartitionCount: 3\s+ReplicationFactor: 1\s+Configs: .*retention.ms=90000", described)
    assert len(re.findall(r"Leader: 1\s+Replicas: 1\s+Isr: 1", described)) == 3
    assert name in box.good("kafka-topics", "--describe", "--topics-with-overrides")
    assert name not in box.good("kafka-topics", "--describe", "--under-replicated-partitions")
    again = box.run("kafka-topics", "--create", "--topic", name)
    assert (again.exit, "TopicExistsException" in again.text) == (1, True)
    fewer = box.run("kafka-topics", "--alter", "--topic", name, "--partitions", "1")
    assert fewer.exit == 1
    box.good("kafka-topics", "--delete", "--topic", name)
    assert name not in box.good("kafka-topics", "--list").splitlines()
    box.good("kafka-topics", "--delete", "--topic", name, "--if-exists")


def test_configs(box: ToolBox, broker: BrokerProcess, new_topic: Callable[..., str]) -> None:
    name = new_topic(1)
    topic = ("--entity-type", "topics", "--entity-name", name)
    changes = "cleanup.policy=[compact,delete],max.message.bytes=5000"
    box.good("kafka-configs", *topic, "--alter", "--add-config", changes)
    found = box.good("kafka-configs", *topic, "--describe")
    assert "cleanup.policy=compact,delete" in found
    assert "max.message.bytes=5000" in found
    box.good("kafka-configs", *topic, "--alter", "--delete-config", "max.message.bytes")
    assert "max.message.bytes" not in box.good("kafka-configs", *topic, "--describe")
    assert "max.message.bytes=1048588" in box.good("kafka-configs", *topic, "--describe", "--all")
    wrong = box.run("kafka-configs", *topic, "--alter", "--add-config", "retention.ms=soon")
    assert (wrong.exit, "retention.ms" in wrong.text) == (1, True)
    everything = box.good(
        "kafka-configs", "--entity-type", "brokers", "--entity-name", "1", "--describe", "--all"
    )
    assert f"advertised.listeners=DEFAULT://{broker.kafka}" in everything
    assert "log.retention.hours=168" in everything
    for kind in ("users", "clients", "ips"):
        assert box.good("kafka-configs", "--entity-type", kind, "--describe").strip() == ""


def test_configs_of_brokers_and_loggers(box: ToolBox, broker: BrokerProcess) -> None:
    one = ("--entity-type", "brokers", "--entity-name", "1")
    every = ("--entity-type", "brokers", "--entity-default")
    box.good("kafka-configs", *every, "--alter", "--add-config", "log.roll.ms=70000,max.connections=900")
    box.good("kafka-configs", *one, "--alter", "--add-config", "log.roll.ms=80000")
    assert "log.roll.ms=70000" in box.good("kafka-configs", *every, "--describe")
    found = box.good("kafka-configs", *one, "--describe")
    assert re.search(
        "log.roll.ms=80000 sensitive=false synonyms={DYNAMIC_BROKER_CONFIG:log.roll.ms=80000, "
        "DYNAMIC_DEFAULT_BROKER_CONFIG:log.roll.ms=70000, .*DEFAULT_CONFIG:log.roll.hours=168}",
        found,
    )
    box.good("kafka-configs", *one, "--alter", "--delete-config", "log.roll.ms")
    box.good("kafka-configs", *every, "--alter", "--delete-config", "log.roll.ms,max.connections")
    assert "log.roll.ms" not in box.good("kafka-configs", *one, "--describe")
    fixed = box.run("kafka-configs", *one, "--alter", "--add-config", "num.partitions=9")
    assert (fixed.exit, "num.partitions" in fixed.text) == (1, True)
    loggers = ("--entity-type", "broker-loggers", "--entity-name", "1")
    box.good("kafka-configs", *loggers, "--alter", "--add-config", "megabroker.core=DEBUG")
    assert "megabroker.core.topics=DEBUG" in box.good("kafka-configs", *loggers, "--describe")
    box.good("kafka-configs", *loggers, "--alter", "--delete-config", "megabroker.core")
    assert "megabroker.core.topics=INFO" in box.good("kafka-configs", *loggers, "--describe")


def test_groups(
    box: ToolBox, broker: BrokerProcess, new_topic: Callable[..., str], unique: Callable[[str], str]
) -> None:
    topic, group = new_topic(1), unique("group")
    fill(broker.kafka, topic, ["a", "b", "c"])
    consume = ("--topic", topic, "--from-beginning", "--timeout-ms", "10000", "--group", group)
    assert box.good("kafka-console-consumer", *consume, "--max-messages", "3").split() == ["a", "b", "c"]
    listed = box.good("kafka-consumer-groups", "--list", "--state", "--type")
    assert re.search(rf"^{group} +Classic +Empty", listed, re.MULTILINE)
    assert re.search(rf"^{group} +Classic +consumer", box.good("kafka-groups", "--list"), re.MULTILINE)
    of_group = ("--group", group)
    lags = box.good("kafka-consumer-groups", "--describe", *of_group)
    assert re.search(rf"^{group} +{topic} +0 +3 +3 +0 ", lags, re.MULTILINE)
    state = box.good("kafka-consumer-groups", "--describe", *of_group, "--state")
    assert re.search(rf"^{group} .* Empty +0", state, re.MULTILINE)
    reset = ("--reset-offsets", *of_group, "--topic", topic)
    for how, offset in (
        (("--to-earliest",), 0),
        (("--shift-by", "2"), 2),
        (("--to-latest",), 3),
        (("--to-offset", "1"), 1),
        (("--by-duration", "PT1H"), 0),
    ):
        planned = box.good("kafka-consumer-groups", *reset, *how, "--execute")
        assert re.search(rf"^{group} +{topic} +0 +{offset}\b", planned, re.MULTILINE), how
    assert re.search(rf" {topic} +0 +0 +3 +3 ", box.good("kafka-consumer-groups", "--describe", *of_group))
    box.good("kafka-consumer-groups", "--delete-offsets", *of_group, "--topic", topic)
    assert topic not in box.good("kafka-consumer-groups", "--describe", *of_group)
    box.good("kafka-consumer-groups", "--delete", *of_group)
    assert group not in box.good("kafka-consumer-groups", "--list").split()


def test_members(
    box: ToolBox, broker: BrokerProcess, new_topic: Callable[..., str], unique: Callable[[str], str]
) -> None:
    topic = new_topic(2)
    for protocol, kind in (("classic", "Classic"), ("consumer", "Consumer")):
        group = unique("group")
        settings = {"bootstrap.servers": broker.kafka, "group.id": group, "group.protocol": protocol}
        consumer = confluent_kafka.Consumer({**settings, "group.instance.id": "one"})
        consumer.subscribe([topic])
        while len(consumer.assignment()) < 2:
            consumer.poll(0.1)
        members = box.good("kafka-consumer-groups", "--describe", "--group", group, "--members", "--verbose")
        assert re.search(rf"^{group} .* one .* 2 .*{topic}[:(]0,1", members, re.MULTILINE), members
        state = box.good("kafka-consumer-groups", "--describe", "--group", group, "--state")
        assert re.search(rf"^{group} .* Stable +1", state, re.MULTILINE)
        assert group in box.good("kafka-consumer-groups", "--list", "--type", kind.lower())
        busy = box.run("kafka-consumer-groups", "--delete", "--group", group)
        assert "not empty" in busy.text
        consumer.close()


def test_console(
    box: ToolBox, broker: BrokerProcess, new_topic: Callable[..., str], unique: Callable[[str], str]
) -> None:
    topic = new_topic(1)
    read = ("--topic", topic, "--from-beginning", "--max-messages", "5", "--timeout-ms", "10000")
    shown = [f"--formatter-property=print.{what}=true" for what in ("headers", "key", "offset")]
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        properties = ("--reader-property", "parse.key=true", "--reader-property", "parse.headers=true")
        box.good(
            "kafka-console-producer",
            *("--topic", topic, "--compression-codec", codec),
            *properties,
            text_input=f"by:{codec}\tkey\tvalue\n",
        )
    for protocol in ("classic", "consumer"):
        how = ("--command-property", f"group.protocol={protocol}", "--group", unique("group"))
        found = box.good("kafka-console-consumer", *read, *shown, *how, "--isolation-level", "read_committed")
        assert found.splitlines() == [
            f"Offset:{offset}\tby:{codec}\tkey\tvalue"
            for offset, codec in enumerate(("none", "gzip", "snappy", "lz4", "zstd"))
        ]


def test_offsets_and_records(
    box: ToolBox, broker: BrokerProcess, new_topic: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    topic = new_topic(1)
    fill(broker.kafka, topic, ["a", "b", "c"])
    for time_of, offset in (
        ("latest", "3"),
        ("earliest", "0"),
        ("earliest-local", "0"),
        ("max-timestamp", "[0-2]"),
        ("1", "0"),
    ):
        found = box.good("kafka-get-offsets", "--topic", topic, "--time", time_of).strip()
        assert re.fullmatch(rf"{topic}:0:{offset}", found), time_of
    for time_of in ("latest-tiered", "earliest-pending-upload"):
        assert box.good("kafka-get-offsets", "--topic", topic, "--time", time_of).strip() == ""
    wanted = tmp_path / "offsets.json"
    wanted.write_text(json.dumps({"partitions": [{"topic": topic, "partition": 0, "offset": 2}]}))
    assert "low_watermark: 2" in box.good("kafka-delete-records", "--offset-json-file", str(wanted))
    assert box.good("kafka-get-offsets", "--topic", topic, "--time", "earliest").strip() == f"{topic}:0:2"
    described = json.loads(box.good("kafka-log-dirs", "--describe", "--topic-list", topic).splitlines()[-1])
    [place] = described["brokers"][0]["logDirs"]
    assert pathlib.Path(place["logDir"]) == broker.directory / "data"
    assert [one["partition"] for one in place["partitions"]] == [f"{topic}-0"]
    segment = broker.directory / "data" / f"{topic}-0" / "00000000000000000000.log"
    dumped = box.plain("kafka-dump-log", "--files", str(segment), "--print-data-log").out
    assert re.findall(r"payload: (\w)", dumped) == ["a", "b", "c"]
    assert "isvalid: false" not in dumped


def test_transactions(
    box: ToolBox, broker: BrokerProcess, new_topic: Callable[..., str], unique: Callable[[str], str]
) -> None:
    topic, name = new_topic(1), unique("transactional")
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka, "transactional.id": name})
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(topic, "left open", partition=0)
    producer.flush(10)
    listed = box.good("kafka-transactions", "list", "--transactional-id-pattern", f".*{name[-8:]}")
    assert re.search(rf"^{name} *\t1 *\t\d+ *\tOngoing", listed, re.MULTILINE)
    described = box.good("kafka-transactions", "describe", "--transactional-id", name)
    assert re.search(rf"\t{name} *\t.*\tOngoing.*\t{topic}-0", described)
    partition = ("--topic", topic, "--partition", "0")
    assert re.search(
        r"\t0 +\t$", box.good("kafka-transactions", "describe-producers", *partition), re.MULTILINE
    )
    assert topic not in box.good("kafka-transactions", "find-hanging", "--broker-id", "1")
    box.good("kafka-transactions", "abort", *partition, "--start-offset", "0")
    assert "None" in box.good("kafka-transactions", "describe-producers", *partition)
    missing = box.run("kafka-transactions", "describe", "--transactional-id", unique("missing"))
    assert (missing.exit, "could not be found" in missing.text) == (1, True)
    wrong = box.run("kafka-transactions", "abort", *partition, "--start-offset", "77")
    assert wrong.exit == 1


def test_cluster(box: ToolBox, broker: BrokerProcess) -> None:
    for endpoint in box.good("kafka-broker-api-versions").splitlines():
        assert "UNKNOWN" not in endpoint
    features = box.good("kafka-features", "describe")
    assert re.search(r"group.version\s.*FinalizedVersionLevel: 1", features)
    assert re.search(r"transaction.version\s.*FinalizedVersionLevel: 2", features)
    status = box.good("kafka-metadata-quorum", "describe", "--status")
    assert re.search(r"LeaderId: +1\n", status)
    assert re.search(
        r"^1 +\t.*\tLeader", box.good("kafka-metadata-quorum", "describe", "--replication"), re.M
    )
    voter = ("--controller-id", "3", "--controller-directory-id", "AAAAAAAAAAAAAAAAAAAAAg")
    refused = box.run("kafka-metadata-quorum", "remove-controller", *voter)
    assert (refused.exit, "UnsupportedVersionException" in refused.text) == (1, True)
    at = ("--bootstrap-server", broker.kafka)
    assert re.search(r"Cluster ID: \S{22}", box.plain("kafka-cluster", "cluster-id", *at).out)
    endpoints = box.plain("kafka-cluster", "list-endpoints", *at).out
    assert re.search(rf"^1 +127.0.0.1 +{broker.ports['kafka']} ", endpoints, re.M)
    gone = box.plain("kafka-cluster", "unregister", "--id", "77", *at)
    assert (gone.exit, "77" in gone.text) == (1, True)


def test_replicas(
    box: ToolBox, broker: BrokerProcess, new_topic: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    topic = new_topic(1)
    box.good("kafka-leader-election", "--election-type", "preferred", "--topic", topic, "--partition", "0")
    box.good("kafka-leader-election", "--election-type", "unclean", "--topic", topic, "--partition", "0")
    plan, topics = tmp_path / "plan.json", tmp_path / "topics.json"
    place = str(broker.directory / "data")
    moved = {"topic": topic, "partition": 0, "replicas": [1], "log_dirs": [place]}
    plan.write_text(json.dumps({"version": 1, "partitions": [moved]}))
    topics.write_text(json.dumps({"version": 1, "topics": [{"topic": topic}]}))
    generate = ("--topics-to-move-json-file", str(topics), "--broker-list", "1", "--generate")
    assert '"replicas":[1]' in box.good("kafka-reassign-partitions", *generate)
    by_plan = ("--reassignment-json-file", str(plan))
    assert "Successfully started" in box.good("kafka-reassign-partitions", *by_plan, "--execute")
    assert "is completed" in box.good("kafka-reassign-partitions", *by_plan, "--verify")
    throttled = (*by_plan, "--execute", "--throttle", "1000000")
    assert "Successfully started" in box.good("kafka-reassign-partitions", *throttled)
    assert "is completed" in box.good("kafka-reassign-partitions", *by_plan, "--verify")
    assert "No partition reassignments found" in box.good("kafka-reassign-partitions", "--list")


def test_security(box: ToolBox, broker: BrokerProcess, new_topic: Callable[..., str]) -> None:
    """There are no rules and tokens, and whoever asks for some is told so; passwords are kept."""
    listed = box.run("kafka-acls", "--list")
    assert (listed.exit, "SecurityDisabledException" in listed.text) == (1, True)
    rule = ("--allow-principal", "User:alice", "--operation", "read", "--topic", new_topic(1))
    added = box.run("kafka-acls", "--add", *rule)
    assert "SecurityDisabledException" in added.text
    tokens = box.run("kafka-delegation-tokens", "--describe", "--command-config", "/dev/null")
    assert (tokens.exit, "UnsupportedByAuthenticationException" in tokens.text) == (1, True)
    alter = ("--entity-type", "users", "--entity-name", "alice", "--alter", "--add-config")
    box.good("kafka-configs", *alter, "SCRAM-SHA-256=[password=secret]")
    user = alter[:4]
    assert "SCRAM-SHA-256=iterations=4096" in box.good("kafka-configs", *user, "--describe")
    box.good("kafka-configs", *user, "--alter", "--delete-config", "SCRAM-SHA-256")
    assert "SCRAM" not in box.good("kafka-configs", *user, "--describe")


def test_quotas(box: ToolBox, broker: BrokerProcess, unique: Callable[[str], str]) -> None:
    """For a client, a user, both, the default and an address; refused, told and removed."""
    name = unique("limited")
    client = ("--entity-type", "clients", "--entity-name", name)
    user = ("--entity-type", "users", "--entity-name", name)
    everyone = ("--entity-type", "users", "--entity-default")
    address = ("--entity-type", "ips", "--entity-name", "203.0.113.9")
    for entity, quotas in (
        (client, "producer_byte_rate=1048576,consumer_byte_rate=2097152"),
        (user, "request_percentage=150.5"),
        (user + client, "controller_mutation_rate=10.0"),
        (everyone + client, "producer_byte_rate=4096"),
        (address, "connection_creation_rate=10"),
    ):
        box.good("kafka-configs", *entity, "--alter", "--add-config", quotas)
        told = box.good("kafka-configs", *entity, "--describe")
        for quota in quotas.split(","):
            assert quota in told
        names = ",".join(quota.partition("=")[0] for quota in quotas.split(","))
        box.good("kafka-configs", *entity, "--alter", "--delete-config", names)
        assert "_rate=" not in box.good("kafka-configs", *entity, "--describe")
    refused = box.run("kafka-configs", *client, "--alter", "--add-config", "producer_byte_rate=-1")
    assert refused.exit == 1
    assert "InvalidRequestException" in refused.text


def test_client_metrics(box: ToolBox, broker: BrokerProcess, unique: Callable[[str], str]) -> None:
    name = unique("metrics")
    asked = ("--metrics", "org.apache.kafka.producer.", "--interval", "10000", "--match", "client_id=a.*")
    box.good("kafka-client-metrics", "--alter", "--name", name, *asked)
    assert name in box.good("kafka-client-metrics", "--list").split()
    described = box.good("kafka-client-metrics", "--describe", "--name", name)
    for setting in ("interval.ms=10000", "match=client_id=a.*", "metrics=org.apache.kafka.producer."):
        assert setting in described
    box.good("kafka-client-metrics", "--delete", "--name", name)
    assert name not in box.good("kafka-client-metrics", "--list").split()


def test_performance(box: ToolBox, broker: BrokerProcess, new_topic: Callable[..., str]) -> None:
    topic = new_topic(2)
    written = ("--topic", topic, "--num-records", str(_PERFORMANCE_RECORDS // 2), "--record-size", "100")
    settings = ("--throughput", "-1", "--command-property", f"bootstrap.servers={broker.kafka}")
    for more in (("acks=all", "compression.type=lz4"), ("linger.ms=0",)):
        transactions = () if "acks=all" in more else ("--transaction-duration-ms", "50")
        done = box.plain("kafka-producer-perf-test", *written, *settings, *more, *transactions)
        assert done.exit == 0, done.err
        assert f"\n{_PERFORMANCE_RECORDS // 2} records sent" in f"\n{done.out}"
    found = box.good("kafka-consumer-perf-test", "--topic", topic, "--num-records", str(_PERFORMANCE_RECORDS))
    assert f" {_PERFORMANCE_RECORDS}, " in found.splitlines()[-1]
    latency = box.good(
        "kafka-e2e-latency",
        *("--topic", topic, "--num-records", "50", "--producer-acks", "1", "--record-size", "20"),
    )
    assert "Avg latency" in latency


def test_streams_reset(
    box: ToolBox, broker: BrokerProcess, new_topic: Callable[..., str], unique: Callable[[str], str]
) -> None:
    topic, application = new_topic(1), unique("application")
    fill(broker.kafka, topic, ["a"])
    inner = f"{application}-store-changelog"
    box.good("kafka-topics", "--create", "--topic", inner)
    asked = ("--application-id", application, "--input-topics", topic)
    assert f"Topic: {topic} Partition: 0 Offset: 0" in box.good("kafka-streams-application-reset", *asked)
    assert inner not in box.good("kafka-topics", "--list").split()
    assert box.good("kafka-streams-groups", "--list").strip() == ""


def test_verifiable_clients(
    box: ToolBox, broker: BrokerProcess, new_topic: Callable[..., str], unique: Callable[[str], str]
) -> None:
    """These have processes of their own: they end by hooks of the Java process."""
    topic = new_topic(2)
    at = ("--bootstrap-server", broker.kafka, "--topic", topic, "--max-messages", "50")
    producer = box.java.run(TOOLS_BY_NAME["kafka-verifiable-producer"], *at, "--acks", "-1", seconds=60)
    assert producer.returncode == 0, producer.stderr
    written = [json.loads(line) for line in producer.stdout.splitlines()]
    assert sum(one["name"] == "producer_send_success" for one in written) == 50
    assert written[-1]["name"] == "tool_data"
    for protocol in ("classic", "consumer"):
        more = ("--group-id", unique("group"), "--reset-policy", "earliest", "--group-protocol", protocol)
        consumer = box.java.run(TOOLS_BY_NAME["kafka-verifiable-consumer"], *at, *more, seconds=60)
        read = [json.loads(line) for line in consumer.stdout.splitlines()]
        assert sum(one["count"] for one in read if one["name"] == "records_consumed") == 50
        assert all(one["success"] for one in read if one["name"] == "offsets_committed")


def test_replica_verification(box: ToolBox, broker: BrokerProcess, new_topic: Callable[..., str]) -> None:
    topic = new_topic(1)
    fill(broker.kafka, topic, ["a", "b"])
    arguments = ("--broker-list", broker.kafka, "--topics-include", topic, "--report-interval-ms", "100")
    command = box.java.command(TOOLS_BY_NAME["kafka-replica-verification"], *arguments, "--time", "-2")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        deadline = time.monotonic() + 30
        for line in process.stdout:
            if "max lag is 0" in line or time.monotonic() > deadline:
                break
        process.kill()
    assert "max lag is 0" in line
