"""Apache Kafka's command-line tools against this broker."""

from __future__ import annotations

from tests.brokers import BrokerProcess
from tests.interop.java import Java


def test_broker_api_versions(broker: BrokerProcess, java_tools: Java) -> None:
    """The tool decodes ApiVersions and finds no request that it does not know."""
    done = java_tools.run(
        "org.apache.kafka.tools.BrokerApiVersionsCommand", "--bootstrap-server", broker.kafka
    )
    assert done.returncode == 0, done.stderr
    assert "Produce(0): 0 to 13" in done.stdout
    assert "UNKNOWN" not in done.stdout
