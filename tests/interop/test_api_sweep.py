"""Every version that Apache Kafka's Java client knows passes, or has a reason for not being offered."""

from __future__ import annotations

from tests.brokers import BrokerProcess
from tests.interop.api_sweep import reasons, report, sweep
from tests.interop.conftest import java_or_skip
from tests.interop.java import TOOLS

_KNOWN_VERSIONS = 278


def test_every_version_offered_passes_and_every_other_has_a_reason(broker: BrokerProcess) -> None:
    """Requests and answers go through the client's own generated classes, and no byte is left over."""
    results = sweep(java_or_skip(TOOLS, "ApiExchange"), broker.kafka)
    print(*report(results), sep="\n")
    assert len(results) == _KNOWN_VERSIONS
    assert [f"{one.known.name} {one.version}: {one.fault}" for one in results if one.fault] == []
    given = reasons()
    missing = {(one.known.key, one.version) for one in results if not one.advertised}
    assert sorted(missing - given.keys()) == []
    offered = {(one.known.key, one.version) for one in results if one.advertised}
    assert sorted(offered & given.keys()) == []
