"""Brokers and topics for tests with third-party Kafka clients.

Every test gets a running broker that others used before it, and topics and groups of names of its own. After
each test the part of the broker's log written meanwhile must be free of tracebacks.
"""

from __future__ import annotations

import pathlib
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.brokers import BrokerProcess
from tests.interop.apache_kafka import ApacheKafka
from tests.interop.java import CLIENTS, TOOLS, Java, Unavailable

BAD_LOG = ("Traceback (most recent call last)", "Unhandled", "critical")
_CACHE = pathlib.Path(__file__).resolve().parents[2] / ".cache"
_NPM_SECONDS = 120


def check_log(text: str) -> None:
    """Fail if the broker reported a fault of its own."""
    for bad in BAD_LOG:
        where = text.find(bad)
        assert where < 0, f"the broker logged:\n{text[max(0, where - 500) : where + 5000]}"


@pytest.fixture(scope="session")
def os_broker() -> Iterator[BrokerProcess]:
    """One broker for all tests that neither stop it nor need its settings changed."""
    with BrokerProcess({"durability": "os", "topics": {"default_partitions": 3}}) as broker:
        yield broker
        assert broker.stop() == 0, broker.log[-5000:]
        check_log(broker.log)


@pytest.fixture
def broker(os_broker: BrokerProcess) -> Iterator[BrokerProcess]:
    """The shared broker, with a look into its log afterwards."""
    before = len(os_broker.log)
    yield os_broker
    check_log(os_broker.log[before:])


@pytest.fixture
def kafka(broker: BrokerProcess) -> str:
    """Bootstrap address of the shared broker."""
    return broker.kafka


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Makes names nobody used before."""
    return lambda name: f"{name}-{secrets.token_hex(4)}"


def create_topic(bootstrap: str, name: str, partitions: int = 1, config: dict[str, str] | None = None) -> str:
    """Create a topic with librdkafka and return its name."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config or {})
    admin.create_topics([new], request_timeout=10)[name].result(10)
    return name


@pytest.fixture
def new_topic(kafka: str, unique: Callable[[str], str]) -> Callable[..., str]:
    """Creates topics on the shared broker: partitions and configuration to their names."""

    def create(partitions: int = 1, config: dict[str, str] | None = None) -> str:
        return create_topic(kafka, unique("topic"), partitions, config)

    return create


@pytest.fixture(scope="session")
def kcat() -> str:
    """Path of kcat; skips without it."""
    found = shutil.which("kcat") or shutil.which("kafkacat")
    if found is None:
        pytest.skip("kcat is not installed (Debian: apt-get install kcat)")
    return found


@pytest.fixture(scope="session")
def apache_kafka() -> Iterator[ApacheKafka]:
    """A running Apache Kafka to compare with; skips where Java or Maven cannot be had."""
    try:
        apache = ApacheKafka()
    except Unavailable as missing:
        pytest.skip(str(missing))
    with apache:
        yield apache


def _npm_package(package: str, version: str) -> pathlib.Path:
    """Return a directory whose node_modules has the package, filled by npm at first use; skips without."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    place = _CACHE / package.partition("/")[0].strip("@")
    if not (place / "node_modules" / package).is_dir():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip(f"npm is not installed and {package} is not in {place}")
        place.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(place)]
        command.append(f"{package}@{version}")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_NPM_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm install {package} took longer than {_NPM_SECONDS} s")
        if done.returncode:
            pytest.skip(f"npm install {package} failed: {done.stderr.strip()[-300:]}")
    return place


@pytest.fixture(scope="session")
def kafkajs() -> pathlib.Path:
    """Directory with node_modules/kafkajs."""
    return _npm_package("kafkajs", "2")


@pytest.fixture(scope="session")
def platformatic() -> pathlib.Path:
    """Directory with node_modules/@platformatic/kafka."""
    return _npm_package("@platformatic/kafka", "2")


def java_or_skip(artifacts: Sequence[str], *sources: str) -> Java:
    """Return Java with the artifacts and our compiled sources; skips, naming what is missing."""
    try:
        java = Java.of(artifacts)
        return java.compiled(*sources) if sources else java
    except Unavailable as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def java_clients() -> Java:
    """Apache Kafka's Java clients."""
    return java_or_skip(CLIENTS)


@pytest.fixture(scope="session")
def java_tools() -> Java:
    """Apache Kafka's command-line tools, and the broker they come with."""
    return java_or_skip(TOOLS)
