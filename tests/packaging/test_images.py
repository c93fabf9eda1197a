"""The image and the Kubernetes example fit the broker: their configuration, ports, probes and files."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import yaml

from megabroker import __version__
from megabroker.config.load import load
from megabroker.config.schema import Config
from megabroker.plugin import discover

ROOT = pathlib.Path(__file__).parents[2]
DOCKERFILE = (ROOT / "packaging/docker/Dockerfile").read_text(encoding="utf-8")
IMAGE = load(ROOT / "packaging/docker/broker.yaml", discover())
PARTS: list[dict[str, Any]] = list(
    yaml.safe_load_all((ROOT / "packaging/kubernetes/megabroker.yaml").read_text(encoding="utf-8"))
)


def _ports(config: Config) -> set[int]:
    listeners = (one for protocol in config.protocols.values() for one in protocol.listeners)
    endpoints = [one.endpoint for one in listeners] + [config.http.endpoint]
    return {int(re.findall(r"\d+", endpoint)[0]) for endpoint in map(str, endpoints)}


def _part(kind: str, name: str = "megabroker") -> dict[str, Any]:
    [found] = [one for one in PARTS if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def test_the_image_has_what_its_configuration_says() -> None:
    [exposed] = re.findall(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)
    assert set(map(int, exposed.split())) == _ports(IMAGE)
    assert str(IMAGE.data_dir) in re.findall(r"^VOLUME (.*)$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["10001"]
    assert "http://127.0.0.1:8090/livez" in DOCKERFILE
    assert IMAGE.http.endpoint == "tcp:8090"


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [line.split()[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ")]
    for path in (one for row in copied for one in row if not one.startswith(("--from", "/"))):
        assert (ROOT / path).exists(), path
        assert path in let_in, path
    assert all((ROOT / path).exists() for path in let_in)
    for stage in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE):
        assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", stage)


def test_the_kubernetes_example(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "broker.yaml"
    file.write_text(_part("ConfigMap")["data"]["broker.yaml"])
    config = load(file, discover())
    workload = _part("StatefulSet")["spec"]
    pod = workload["template"]["spec"]
    [broker] = pod["containers"]
    ports = {one["name"]: one["containerPort"] for one in broker["ports"]}
    assert set(ports.values()) == _ports(config)
    assert workload["replicas"] == 1
    assert broker["image"] == f"megabroker:{__version__}"
    for probe, path in (("startup", "/livez"), ("liveness", "/livez"), ("readiness", "/readyz")):
        asked = broker[f"{probe}Probe"]["httpGet"]
        assert (asked["path"], ports[asked["port"]]) == (path, 8090)
    mounts = {one["name"]: one["mountPath"] for one in broker["volumeMounts"]}
    volumes = {one["name"] for one in pod["volumes"]}
    claims = {one["metadata"]["name"] for one in workload["volumeClaimTemplates"]}
    assert mounts.keys() == volumes | claims
    assert mounts["data"] == str(config.data_dir)
    assert pod["securityContext"]["runAsUser"] == 10001
    assert broker["securityContext"]["readOnlyRootFilesystem"] is True
    headless = _part("Service", workload["serviceName"])
    assert headless["spec"]["clusterIP"] == "None"
    [listener] = config.protocols["kafka"].listeners
    assert listener.advertised_host == f"megabroker-0.{workload['serviceName']}"
    labels = workload["template"]["metadata"]["labels"]
    for one in (headless, _part("Service")):
        assert one["spec"]["selector"] == labels
        assert all(port["targetPort"] in ports for port in one["spec"]["ports"])
    assert _part("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
