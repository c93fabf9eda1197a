"""The fixtures in projects of other people: real clients, several processes, what is shown of a failure."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.interop

CONFLUENT = """
    import pytest
    from confluent_kafka import Consumer, Producer
    from confluent_kafka.admin import AdminClient

    seen = set()

    @pytest.mark.parametrize("round", range(3))
    def test_confluent(megabroker_server, round):
        seen.add(megabroker_server.bootstrap)
        where = {"bootstrap.servers": megabroker_server.bootstrap}
        assert AdminClient(where).list_topics(timeout=10).topics == {}
        producer = Producer(where)
        producer.produce("orders", b"value %d" % round)
        assert producer.flush(10) == 0
        consumer = Consumer({**where, "group.id": "g", "auto.offset.reset": "earliest"})
        consumer.subscribe(["orders"])
        message = consumer.poll(10)
        assert (message.offset(), message.value()) == (0, b"value %d" % round)
        consumer.commit(message, asynchronous=False)
        consumer.close()
        assert len(seen) == 1
"""

KAFKA_PYTHON = """
    from kafka import KafkaConsumer, KafkaProducer

    def test_kafka_python(megabroker_server):
        producer = KafkaProducer(bootstrap_servers=megabroker_server.bootstrap)
        assert producer.send("orders", b"one").get(10).offset == 0
        producer.close()
        consumer = KafkaConsumer(
            "orders", bootstrap_servers=megabroker_server.bootstrap, auto_offset_reset="earliest"
        )
        assert next(consumer).value == b"one"
        consumer.close()
"""

AIOKAFKA = """
    import asyncio
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    def test_aiokafka(megabroker_server):
        async def main():
            async with AIOKafkaProducer(bootstrap_servers=megabroker_server.bootstrap) as producer:
                sent = await producer.send_and_wait("orders", b"one")
                assert sent.offset == 0
            consumer = AIOKafkaConsumer(
                "orders", bootstrap_servers=megabroker_server.bootstrap, auto_offset_reset="earliest"
            )
            async with consumer:
                assert (await consumer.getone()).value == b"one"
        asyncio.run(main())
"""


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments, timeout=100)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other plugins: some that are installed here take longer to import than the broker to start."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "megabroker.testing.pytest_plugin,xdist.plugin")


def test_it_is_found_by_itself(pytester: pytest.Pytester) -> None:
    told = run(pytester, "--fixtures").stdout.str()
    assert "\nmegabroker_server -- " in told
    assert "\nmegabroker_server_factory -- " in told


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("process", ["subprocess", "inprocess"])
def test_clients(pytester: pytest.Pytester, process: str) -> None:
    pytester.makepyfile(test_confluent=CONFLUENT, test_kafka_python=KAFKA_PYTHON, test_aiokafka=AIOKAFKA)
    run(pytester, f"--megabroker-process={process}").assert_outcomes(passed=5)


@pytest.mark.usefixtures("alone")
def test_xdist_and_files(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmegabroker_storage = file\n")
    pytester.makepyfile(test_confluent=CONFLUENT)
    result = run(pytester, "-n", "2")
    result.assert_outcomes(passed=3)


MORE = """
    import os
    import pathlib
    import pytest
    from confluent_kafka import KafkaException, Producer
    from confluent_kafka.admin import AdminClient

    @pytest.fixture(scope="session")
    def megabroker_config():
        return {"topics": {"auto_create": False}}

    def test_config_of_the_session(megabroker_server):
        producer = Producer({"bootstrap.servers": megabroker_server.bootstrap, "message.timeout.ms": 500})
        errors = []
        producer.produce("orders", b"", on_delivery=lambda error, _: errors.append(error))
        producer.flush(10)
        assert errors[0] is not None

    def test_several_at_once(megabroker_server, megabroker_server_factory):
        other = megabroker_server_factory(node={"id": 7})
        assert other.bootstrap != megabroker_server.bootstrap
        found = AdminClient({"bootstrap.servers": other.bootstrap}).list_topics(timeout=10)
        assert list(found.brokers) == [7]

    def test_environment(megabroker_server, megabroker_environment):
        assert os.environ["KAFKA_BOOTSTRAP_SERVERS"] == megabroker_server.bootstrap

    def test_that_fails(megabroker_server):
        assert False
"""


@pytest.mark.usefixtures("alone")
def test_more_brokers_and_the_log_of_a_failure(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MORE)
    result = run(pytester)
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*log of the broker at 127.0.0.1:*", "* is ready after * ms: *"])


@pytest.mark.usefixtures("alone")
def test_what_is_wrong_is_said_at_the_start(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmegabroker_storage = disk\n")
    pytester.makepyfile("def test_nothing(): pass")
    result = run(pytester)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*megabroker_storage = disk: expected memory or file*"])


def test_a_session_without_a_broker_imports_none() -> None:
    code = "import sys, megabroker.testing.pytest_plugin; print([m for m in sys.modules if 'twisted' in m])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
