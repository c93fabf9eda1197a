"""The configuration of each of several workers, and what several cannot have."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from megabroker.config.load import parse
from megabroker.config.schema import Config
from megabroker.config.workers import own_ports, shifted, worker_config
from megabroker.errors import ConfigError
from megabroker.plugin import discover

PLUGINS = discover()


def read(**keys: Any) -> Config:
    return parse(yaml.safe_dump(keys), "broker.yaml", PLUGINS)


def refused(**keys: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read(**keys)
    return str(caught.value)


def kafka(*endpoints: str, **listener: Any) -> dict[str, Any]:
    listeners = [{"name": f"l{i}", "endpoint": one, **listener} for i, one in enumerate(endpoints)]
    return {"kafka": {"listeners": listeners}}


@pytest.mark.parametrize(
    ("endpoint", "moved"),
    [
        ("tcp:9092", "tcp:port=9094"),
        ("tcp:0:interface=127.0.0.1", "tcp:0:interface=127.0.0.1"),
        ("tcp:port=9092:interface=\\:\\:1:backlog=5", "tcp:port=9094:interface=\\:\\:1:backlog=5"),
    ],
)
def test_a_port_is_moved_and_the_rest_stays(endpoint: str, moved: str) -> None:
    assert shifted(endpoint, 2) == moved
    assert shifted(endpoint, 0) == endpoint


def test_each_is_a_node_of_its_own_and_only_kafka_has_ports_of_its_own() -> None:
    assert own_ports(PLUGINS) >= {"kafka"}
    assert not own_ports(PLUGINS) & {"mega", "cursus"}
    protocols = {**kafka("tcp:9092", advertised_port=19092), "mega": {}}
    config = read(workers=3, node={"id": 7}, protocols=protocols)
    each = [worker_config(config, index, own_ports(PLUGINS)) for index in range(3)]
    assert [one.node.id for one in each] == [7, 8, 9]
    listeners = [one.protocols["kafka"].listeners[0] for one in each]
    assert [one.endpoint for one in listeners] == ["tcp:9092", "tcp:port=9093", "tcp:port=9094"]
    assert [one.advertised_port for one in listeners] == [19092, 19093, 19094]
    assert len({one.protocols["mega"].listeners for one in each}) == 1


def test_what_processes_cannot_share_is_refused() -> None:
    assert "workers: 2: expected 1, as storage is memory" in refused(workers=2, storage="memory")
    assert "workers" in refused(workers=0)
    assert "node.id" in refused(workers=2, node={"id": 2147483647})
    unix = refused(workers=2, protocols=kafka("unix:/tmp/kafka.sock"))
    assert "protocols.kafka.listeners[0].endpoint" in unix
    assert "an endpoint of type tcp or ssl, as workers is 2" in unix
    read(workers=1, protocols=kafka("unix:/tmp/kafka.sock"))


def test_ports_that_meet_are_named() -> None:
    text = refused(workers=2, protocols=kafka("tcp:9092", "tcp:9093"))
    assert "a port that protocols.kafka.listeners[1].endpoint does not take (worker 2 of 2)" in text
    text = refused(
        workers=3, protocols={**kafka("tcp:9092"), "mega": {"listeners": [{"endpoint": "tcp:9094"}]}}
    )
    assert "a port that protocols.mega.listeners[0].endpoint does not take (worker 3 of 3)" in text
    read(workers=2, protocols={**kafka("tcp:9092"), "mega": {"listeners": [{"endpoint": "tcp:9094"}]}})


def test_ports_end_somewhere() -> None:
    text = refused(workers=4, protocols=kafka("tcp:65533"))
    assert "expected a port up to 65532: each of 4 workers takes the next one" in text
    assert "advertised_port" in refused(workers=4, protocols=kafka("tcp:9092", advertised_port=65535))
    read(workers=3, protocols=kafka("tcp:65533"))
