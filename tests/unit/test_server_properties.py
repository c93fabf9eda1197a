"""Kafka's server.properties as a configuration: what is followed, what is not and why, faults by name."""

from __future__ import annotations

import pathlib

import pytest
import trustme

from megabroker.core.topic_configs import TopicConfigs
from megabroker.errors import ConfigError
from megabroker.kafkadir import server_properties
from megabroker.kafkadir.server_properties import ServerProperties, read_server_properties
from megabroker.model import TimestampType
from megabroker.plugin import discover
from tests.interop.certificates import Certificates

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "from-kafka.md").read_text(encoding="utf-8")


def read(tmp_path: pathlib.Path, text: str) -> ServerProperties:
    file = tmp_path / "server.properties"
    file.write_text("process.roles=broker,controller\n" + text)
    return read_server_properties(str(file), discover(), "/srv")


def faults(tmp_path: pathlib.Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    return [str(fault) for fault in caught.value.faults]


def test_a_whole_file(tmp_path: pathlib.Path) -> None:
    keys = tmp_path / "a:b.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(keys)
    found = read(
        tmp_path,
        """
        node.id=7
        broker.rack=here
        log.dirs=/a/one, two
        metadata.log.dir=/m
        listeners=PLAINTEXT://0.0.0.0:9092,TLS://[::1]:9093,CONTROLLER://:9094
        advertised.listeners=PLAINTEXT://broker.example.org:19092
        controller.listener.names=CONTROLLER
        listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,TLS:SSL
        ssl.keystore.type=PEM
        ssl.keystore.location=KEYS
        num.partitions=3
        auto.create.topics.enable=FALSE
        log.retention.hours=2
        log.retention.minutes=5
        log.retention.bytes=-1
        log.roll.hours=1
        log.message.timestamp.type=LogAppendTime
        max.connections=2147483647
        connections.max.idle.ms=90000
        log.cleaner.io.max.bytes.per.second=1.7976931348623157E308
        num.network.threads=3
        whatever=1
        """.replace("KEYS", str(keys)),
    )
    config = found.config
    assert (config.node.id, config.node.rack) == (7, "here")
    assert (str(config.data_dir), [str(one) for one in config.more_data_dirs]) == ("/a/one", ["/srv/two"])
    assert [str(one) for one in found.directories] == ["/a/one", "/srv/two", "/m"]
    plain, tls = config.protocols["kafka"].listeners
    assert (plain.name, plain.endpoint) == ("PLAINTEXT", "tcp:9092:interface=0.0.0.0")
    assert (plain.advertised_host, plain.advertised_port) == ("broker.example.org", 19092)
    assert tls.endpoint == r"tcp:9093:interface=\:\:1"
    assert tls.tls is not None
    assert (tls.tls.certificate_chain, tls.tls.private_key, tls.tls.client_auth) == (keys, keys, "none")
    topics = config.topics
    assert (topics.default_partitions, topics.auto_create) == (3, False)
    assert (topics.retention_ms, topics.retention_bytes, topics.segment_ms) == (300_000, -1, 3_600_000)
    assert topics.message_timestamp_type is TimestampType.LOG_APPEND_TIME
    assert (config.limits.max_connections, config.limits.idle_seconds) == (1_000_000, 90)
    assert config.cleaner.max_bytes_per_second == -1
    assert found.followed["log.retention.minutes"] == "topics.retention_ms"
    assert found.passed_over["num.network.threads"] == "threads, queues and buffers are of another kind here"
    assert found.passed_over["whatever"] == "it is not known here"


def test_what_kafkas_tools_can_set_here_is_said_to_be_so(tmp_path: pathlib.Path) -> None:
    found = read(tmp_path, "compression.type=lz4\nlog.cleaner.threads=2\nlog.dir.failure.timeout.ms=1\n")
    assert found.passed_over == {
        "compression.type": "only kafka-configs --entity-type brokers sets it here",
        "log.cleaner.threads": "cleaning has a pace of its own",
        "log.dir.failure.timeout.ms": "it has no counterpart",
    }


def test_kafkas_defaults_where_nothing_is_said(tmp_path: pathlib.Path) -> None:
    config = read(tmp_path, "").config
    assert str(config.data_dir) == "/tmp/kafka-logs"
    (listener,) = config.protocols["kafka"].listeners
    assert listener.endpoint == "tcp:9092"
    assert config.topics.default_partitions == 1
    assert (config.groups.min_session_timeout_ms, config.groups.initial_rebalance_delay_ms) == (6000, 3000)


def test_what_the_broker_keeps_of_topics_that_do_not_say_is_kept_here(tmp_path: pathlib.Path) -> None:
    text = (
        "log.cleanup.policy=delete, compact\n"
        "log.cleaner.delete.retention.ms=172800000\nlog.cleaner.min.compaction.lag.ms=3600000"
    )
    configs = TopicConfigs(read(tmp_path, text).config.topics.topic_configs())
    settings = configs.policy({}).log
    assert settings.compact
    assert (settings.delete_retention_ms, settings.min_compaction_lag_ms) == (172_800_000, 3_600_000)
    configs = TopicConfigs(read(tmp_path, "log.cleanup.policy=compact").config.topics.topic_configs())
    assert configs.policy({}).log.retention_ms == -1


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("process.roles=controller", "process.roles: 'controller': expected broker"),
        ("num.partitions=many", "num.partitions: 'many': expected an integer"),
        ("log.cleanup.policy=keep", "log.cleanup.policy: 'keep': expected one of delete, compact"),
        ("log.segment.bytes=1", "log.segment.bytes: 1: expected"),
        ("log.dirs=/a,/a", "log.dirs: '/a,/a': expected directories, each once"),
        ("listeners=PLAINTEXT:9092", "listeners: 'PLAINTEXT:9092': expected NAME://HOST:PORT"),
        ("listeners=SASL_SSL://:1", "sasl.enabled.mechanisms: 'GSSAPI': expected for SASL_SSL://:1 some of"),
        (
            "listeners=SASL_SSL://:1\nsasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN",
            "sasl.enabled.mechanisms: 'SCRAM-SHA-512,PLAIN': expected for SASL_SSL://:1 some of",
        ),
        (
            "listeners=SASL_SSL://:1\nsasl.enabled.mechanisms=SCRAM-SHA-512",
            "ssl.keystore.location: '': expected for SASL_SSL://:1 a PEM file",
        ),
        (
            "listeners=SSL://:1\nssl.keystore.type=PEM\nssl.keystore.location=/k\nssl.client.auth=required",
            "ssl.truststore.location: '': expected for SSL://:1 a file of certificates in PEM",
        ),
        ("listeners=SSL://:9092", "ssl.keystore.location: '': expected for SSL://:9092 a PEM file"),
        ("listeners=C://:1\ncontroller.listener.names=C", "expected a listener that is not the controller's"),
        ("listeners=A://:1\nlistener.security.protocol.map=A:TLS", "listener.security.protocol.map: 'A:TLS'"),
        ("authorizer.class.name=x", "authorizer.class.name: 'x': expected org.apache.kafka.metadata."),
        ("remote.log.storage.system.enable=true", "remote.log.storage.system.enable: 'true': expected false"),
        ("connections.max.idle.ms=long", "connections.max.idle.ms: 'long': expected"),
    ],
)
def test_faults_by_name(tmp_path: pathlib.Path, text: str, fault: str) -> None:
    assert any(fault in one for one in faults(tmp_path, text)), faults(tmp_path, text)


def test_every_fault_at_once(tmp_path: pathlib.Path) -> None:
    found = faults(tmp_path, "num.partitions=x\nlog.retention.ms=y\nauthorizer.class.name=z")
    assert len(found) == 3


def test_no_such_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="a readable file"):
        read_server_properties(str(tmp_path / "none"), discover(), "/")


def test_the_page_names_what_is_followed() -> None:
    for name in (*server_properties._FOLLOWED, *server_properties._READ_APART):
        assert f"`{name}`" in PAGE, name


def test_a_listener_that_cannot_be_is_one_fault(tmp_path: pathlib.Path) -> None:
    [fault] = faults(tmp_path, "listeners=SASL_PLAINTEXT://:9092\n")
    assert fault.startswith("sasl.enabled.mechanisms: 'GSSAPI': ")


def test_listeners_that_ask_who_clients_are(tmp_path: pathlib.Path) -> None:
    certificates = Certificates(tmp_path)
    found = read(
        tmp_path,
        """
        listeners=A://:9092,B://:9093
        listener.security.protocol.map=A:SASL_PLAINTEXT,B:SSL
        listener.name.a.sasl.enabled.mechanisms=SCRAM-SHA-256, SCRAM-SHA-512
        ssl.keystore.type=PEM
        ssl.keystore.location=KEYS
        listener.name.b.ssl.client.auth=required
        ssl.truststore.type=PEM
        ssl.truststore.location=TRUSTED
        ssl.principal.mapping.rules=RULE:^CN=(.*?),.*$/$1/L,DEFAULT
        """.replace("KEYS", str(certificates.keys)).replace("TRUSTED", str(certificates.trusted)),
    )
    one, other = found.config.protocols["kafka"].listeners
    assert (one.sasl, one.tls, other.sasl) == (("SCRAM-SHA-256", "SCRAM-SHA-512"), None, ())
    assert other.tls is not None
    assert (other.tls.client_auth, other.tls.client_ca) == ("required", certificates.trusted)
    assert other.tls.principal_rules == "RULE:^CN=(.*?),.*$/$1/L,DEFAULT"
    assert "ssl.client.auth" not in found.passed_over


def test_kafkas_authorizer_and_its_super_users(tmp_path: pathlib.Path) -> None:
    text = (
        "process.roles=broker\nnode.id=1\nlisteners=PLAINTEXT://:9092\n"
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
        "super.users=User:admin;User:CN=broker,O=Example\nallow.everyone.if.no.acl.found=true\n"
    )
    (tmp_path / "server.properties").write_text(text)
    found = read_server_properties(str(tmp_path / "server.properties"), discover(), "/")
    security = found.config.security
    assert security.authorizer.value == "acls"
    assert security.super_users == ("User:admin", "User:CN=broker,O=Example")
    assert security.allow_everyone_if_no_acl_found
