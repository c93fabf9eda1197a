"""Configurations as Kafka's own classes define them: the same names and types are told here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from tests.brokers import BrokerProcess
from tests.interop.conftest import java_or_skip
from tests.interop.java import TOOLS
from tests.interop.sweep.exchange import Exchange

_TYPES = {
    1: "BOOLEAN",
    2: "STRING",
    3: "INT",
    4: "SHORT",
    5: "LONG",
    6: "DOUBLE",
    7: "LIST",
    8: "CLASS",
    9: "PASSWORD",
}
_RESOURCES = {"topic": 2, "broker": 4, "group": 32}
_ONLY_HERE = {"broker": {"inter.broker.protocol.version": "STRING"}}
"""What consoles still ask for and Kafka 4 no longer has."""


@pytest.fixture(scope="module")
def defined() -> dict[str, dict[str, str]]:
    """By kind of resource, the types of what Kafka documents."""
    done = java_or_skip(TOOLS, "ConfigNames").run("ConfigNames")
    assert done.returncode == 0, done.stderr
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for line in done.stdout.splitlines():
        kind, name, type_name, internal = line.split("\t")
        if internal == "false":
            found[kind][name] = type_name
    return dict(found)


@pytest.fixture(scope="module")
def told(os_broker: BrokerProcess) -> Callable[[str, str], dict[str, dict[str, object]]]:
    """Ask the broker for all configurations of a resource."""

    def ask(kind: str, name: str) -> dict[str, dict[str, object]]:
        resource = {"resourceType": _RESOURCES[kind], "resourceName": name, "configurationKeys": None}
        body = {"resources": [resource], "includeSynonyms": True, "includeDocumentation": True}
        with Exchange(java_or_skip(TOOLS, "ApiExchange"), os_broker.kafka) as exchange:
            [answer] = exchange.ask(32, 4, body)["results"]
        assert answer["errorCode"] == 0
        return {one["name"]: one for one in answer["configs"]}

    return ask


@pytest.mark.parametrize("kind", ["topic", "broker", "group"])
def test_names_and_types(
    kind: str,
    defined: dict[str, dict[str, str]],
    told: Callable[[str, str], dict[str, dict[str, object]]],
    new_topic: Callable[..., str],
) -> None:
    names = {"topic": new_topic(1), "broker": "1", "group": "any"}
    found = told(kind, names[kind])
    types = {name: _TYPES[int(str(one["configType"]))] for name, one in found.items()}
    assert types == {**defined[kind], **_ONLY_HERE.get(kind, {})}
    for name, one in found.items():
        assert one["documentation"], name
        assert one["isSensitive"] == (types[name] == "PASSWORD"), name


def test_what_is_told_can_be_read_by_other_clients(kafka: str) -> None:
    """Values that are not set are null, which librdkafka takes too."""
    resource = ConfigResource(ResourceType.BROKER, "1")
    admin = AdminClient({"bootstrap.servers": kafka})
    found = admin.describe_configs([resource])[resource].result(10)
    assert found["node.id"].value == "1"
    assert found["ssl.keystore.location"].value is None
