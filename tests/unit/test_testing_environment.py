"""The variables of Kafka's images, as a configuration of ours."""

from __future__ import annotations

import warnings

import pytest

from megabroker.config.load import parse
from megabroker.errors import ConfigError
from megabroker.plugin import discover
from megabroker.testing.environment import client_environment, config_from_environment
from megabroker.testing.settings import as_text, complete

ONE_NODE = {
    "CLUSTER_ID": "4L6g3nShT-eMCtK--X86sw",
    "HOME": "/root",
    "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://localhost:29092",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "3@localhost:9093",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_HEAP_OPTS": "-Xmx1g",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
    "KAFKA_LISTENERS": "PLAINTEXT://127.0.0.1:0,CONTROLLER://:9093",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "KAFKA_LOG_RETENTION_HOURS": "5",
    "KAFKA_MESSAGE_MAX_BYTES": "2000000",
    "KAFKA_NODE_ID": "3",
    "KAFKA_NUM_PARTITIONS": "7",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
}


def test_the_variables_of_one_node() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = config_from_environment(ONE_NODE)
    assert found == {
        "node": {"id": 3, "cluster_id": "4L6g3nShT-eMCtK--X86sw"},
        "topics": {
            "auto_create": False,
            "default_partitions": 7,
            "max_message_bytes": 2000000,
            "retention_ms": 5 * 3600 * 1000,
        },
        "groups": {"initial_rebalance_delay_ms": 0},
        "protocols": {
            "kafka": {
                "listeners": [
                    {
                        "name": "PLAINTEXT",
                        "endpoint": "tcp:0:interface=127.0.0.1",
                        "advertised_host": "localhost",
                        "advertised_port": 29092,
                    }
                ]
            }
        },
    }
    parse(as_text(complete(found, ["kafka"]), None), "test", discover())


def test_other_prefixes_and_directories() -> None:
    found = config_from_environment(
        {"KAFKA_CFG_BROKER_ID": "4", "KAFKA_CFG_LOG_DIRS": "/a, /b", "KAFKA_VERSION": "4.1"}
    )
    assert found == {
        "node": {"id": 4},
        "storage": "file",
        "data_dir": "/a",
        "more_data_dirs": ["/b"],
    }


@pytest.mark.parametrize(
    ("variable", "warned"),
    [
        (
            "KAFKA_NO_SUCH__THING",
            r"KAFKA_NO_SUCH__THING \(no.such_thing\) has no effect: it is not known here",
        ),
        ("KAFKA_SOME___THING", r"KAFKA_SOME___THING \(some-thing\) has no effect"),
        ("KAFKA_NUM_IO_THREADS", r"KAFKA_NUM_IO_THREADS \(num.io.threads\) has no effect: .*"),
    ],
)
def test_what_nothing_follows_is_named(variable: str, warned: str) -> None:
    with pytest.warns(UserWarning, match=warned):
        assert config_from_environment({variable: "1"}) == {}


def test_what_is_wrong_is_said_by_the_property() -> None:
    with pytest.raises(ConfigError, match="listeners"):
        config_from_environment({"KAFKA_LISTENERS": "nowhere"})


def test_where_programs_look() -> None:
    assert set(client_environment("h:1").values()) == {"h:1"}
    assert "KAFKA_BOOTSTRAP_SERVERS" in client_environment("h:1")
