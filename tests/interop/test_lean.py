"""A broker imports what its configuration has a use for: its start and its memory depend on that."""

from __future__ import annotations

import pathlib
import re
import signal
from typing import Any

import pytest
import trustme
import yaml
from confluent_kafka import Consumer, Producer

from tests.brokers import BrokerProcess
from tests.interop.wires import resident_kib, until

pytestmark = pytest.mark.interop

_IMPORTED = re.compile(r"^import time: +\d+ \| +\d+ \| +([\w.]+)$", re.MULTILINE)
_NEEDLESS = {
    *("cryptography", "idna", "service_identity"),  # for TLS; the log names OpenSSL, whose import was refused
    *("backports.zstd", "cramjam", "lz4", "click", "rich", "uvloop", "jinja2", "markupsafe"),
    *("twisted.conch", "twisted.mail", "twisted.names", "twisted.web"),
    *("megabroker.cli", "megabroker.client", "megabroker.kafkadir"),
    *("megabroker.http.site", "megabroker.http.channel", "megabroker.http.api"),
}
"""Packages of no use before somebody asks for what they do."""
_MOST_MIB = 55


def _imported(log: str) -> set[str]:
    return set(_IMPORTED.findall(log))


def _within(names: set[str], packages: set[str]) -> set[str]:
    return {name for name in names if any(f"{name}.".startswith(f"{one}.") for one in packages)}


def test_an_idle_broker_has_imported_what_it_needs_only() -> None:
    broker = BrokerProcess()
    with broker:
        assert broker.stop() == 0
        broker.start({"PYTHONPROFILEIMPORTTIME": "1"})
        assert broker.process is not None
        imported = _imported(broker.log)
        assert "megabroker.protocols.kafka.protocol" in imported
        assert "twisted.internet.tcp" in imported
        assert not _within(imported, _NEEDLESS)
        assert resident_kib(broker.process.pid) <= _MOST_MIB * 1024


def _with_tls(directory: pathlib.Path) -> tuple[trustme.CA, dict[str, Any]]:
    authority, keys = trustme.CA(), directory / "keys.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(keys)
    endpoint = f"ssl:0:privateKey={keys}:certKey={keys}:interface=127.0.0.1"
    return authority, {"endpoint": endpoint, "advertised_host": "localhost"}


def test_tls_is_there_for_who_has_an_endpoint_with_it(tmp_path: pathlib.Path) -> None:
    authority, listener = _with_tls(tmp_path)
    with BrokerProcess({"protocols": {"kafka": {"listeners": [listener]}}}) as broker:
        common = {
            "bootstrap.servers": f"localhost:{broker.ports['kafka']}",
            "broker.address.family": "v4",
            "security.protocol": "ssl",
            "ssl.ca.pem": authority.cert_pem.bytes().decode(),
        }
        producer = Producer(common)
        producer.produce("secret", b"over TLS")
        assert producer.flush(20) == 0
        consumer = Consumer({**common, "group.id": "g", "auto.offset.reset": "earliest"})
        consumer.subscribe(["secret"])
        message = consumer.poll(20)
        consumer.close()
        assert message is not None
        assert message.error() is None
        assert message.value() == b"over TLS"


def test_an_endpoint_with_tls_needs_a_restart(tmp_path: pathlib.Path) -> None:
    _, listener = _with_tls(tmp_path)
    with BrokerProcess() as broker:
        assert broker.process is not None
        config = {**broker.config, "protocols": {"kafka": {"listeners": [listener]}}}
        (broker.directory / "broker.yaml").write_text(yaml.safe_dump(config))
        broker.process.send_signal(signal.SIGHUP)
        until(lambda: "this process was started without TLS" in broker.log, 5, "the reason in the log")
        assert "the configuration is not reloaded" in broker.log
        assert "Traceback" not in broker.log
