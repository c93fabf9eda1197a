"""TLS on every listener: real clients, certificates of clients, certificates that change, and bad manners."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import pathlib
import signal
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from typing import Any

import aiokafka
import kafka
import pytest
import trustme
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from megabroker.client.mega import BadResponse, ConnectFailed, ConnectionLost, MessageClient
from megabroker.protocols.kafka.schema import create_delegation_token
from tests.brokers import BrokerProcess
from tests.interop.certificates import Certificates
from tests.interop.conftest import check_log, java_or_skip
from tests.interop.java import CLIENTS
from tests.interop.secured import addresses, listener, properties, set_password
from tests.interop.wires import (
    Bystanders,
    cursus_request,
    kafka_request,
    receive,
    receive_all,
    resident_kib,
    until,
)
from tests.workers import WorkersProcess

pytestmark = pytest.mark.interop

RULES = r"RULE:^.*CN=([^,+]+).*$/$1/L,DEFAULT"
SECONDS = 1


class Place:
    """The broker, its certificates, and where it listens.

    Attributes:
        kafka: addresses of its Kafka listeners by their names.
    """

    def __init__(self, broker: BrokerProcess, certificates: Certificates) -> None:
        self.broker = broker
        self.certificates = certificates
        self.kafka = dict(zip(("plain", "tls", "mutual", "sasl"), addresses(broker), strict=True))
        self.ports = {name: int(address.rpartition(":")[2]) for name, address in self.kafka.items()}
        for protocol in ("mega", "cursus"):
            plain, mutual = addresses(broker, protocol)
            self.ports[f"{protocol}-plain"] = int(plain.rpartition(":")[2])
            self.ports[protocol] = int(mutual.rpartition(":")[2])
        self.alice = certificates.client("Alice")
        admin = AdminClient({"bootstrap.servers": self.kafka["plain"]})
        set_password(admin, "bob", "secret")
        admin.create_topics([NewTopic("t", 1)])["t"].result(10)

    def settings(self, name: str, **more: Any) -> dict[str, Any]:
        """Return what librdkafka needs for a listener."""
        own = {"ssl.certificate.location": str(self.alice), "ssl.key.location": str(self.alice)}
        return {
            "bootstrap.servers": self.kafka[name],
            "security.protocol": "sasl_ssl" if name == "sasl" else "ssl",
            "ssl.ca.location": str(self.certificates.trusted),
            **(own if name == "mutual" else {}),
            **more,
        }

    def connect(self, name: str, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", self.ports[name]), 10)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return (context or self.certificates.context()).wrap_socket(raw, server_hostname="127.0.0.1")

    def lines(self, since: int, port: int) -> list[str]:
        """Return what the log says of one connection."""
        return [line for line in self.broker.log[since:].splitlines() if f"127.0.0.1:{port} " in line]

    def the_line(self, since: int, port: int) -> str:
        """Return the one line that there must be."""
        (line,) = until(lambda: self.lines(since, port), 5, "a line")
        return line


def config(certificates: Certificates) -> dict[str, Any]:
    mutual = certificates.tls(
        client_auth="required", client_ca=str(certificates.trusted), principal_rules=RULES
    )
    return {
        "durability": "os",
        "limits": {"unauthenticated_seconds": SECONDS},
        "logging": {"level": "debug"},
        "protocols": {
            "kafka": {
                "listeners": [
                    listener("plain"),
                    listener("tls", tls=certificates.tls()),
                    listener("mutual", tls=mutual),
                    listener("sasl", tls=certificates.tls(), sasl=["SCRAM-SHA-256"]),
                ]
            },
            **{
                protocol: {"listeners": [listener("plain"), listener("mutual", tls=mutual)]}
                for protocol in ("mega", "cursus")
            },
        },
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))
    with BrokerProcess(config(certificates)) as broker:
        yield Place(broker, certificates)
        assert broker.stop() == 0, broker.log[-5000:]
        check_log(broker.log)


def send_and_find(settings: dict[str, Any], value: bytes) -> None:
    """Produce a message to the topic t and consume it."""
    found: list[int] = []
    producer = Producer(settings)
    producer.produce("t", value, callback=lambda error, message: found.append(message.offset()))
    assert producer.flush(15) == 0
    consumer = Consumer({**settings, "group.id": "g", "enable.auto.commit": False})
    consumer.assign([TopicPartition("t", 0, found[0])])
    message = until(lambda: consumer.poll(1), 15, "the message")
    assert (message.error(), message.value()) == (None, value)
    consumer.close()


def test_confluent(place: Place) -> None:
    send_and_find(place.settings("tls"), b"tls")
    send_and_find(place.settings("mutual"), b"mutual")
    secret = {"sasl.mechanism": "SCRAM-SHA-256", "sasl.username": "bob", "sasl.password": "secret"}
    send_and_find(place.settings("sasl", **secret), b"sasl")


def test_clients_of_python(place: Place) -> None:
    context = place.certificates.context(place.alice)
    producer = kafka.KafkaProducer(
        bootstrap_servers=place.kafka["mutual"], security_protocol="SSL", ssl_context=context
    )
    assert producer.send("t", b"kafka-python").get(10).offset >= 0
    producer.close()

    async def run() -> None:
        producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=place.kafka["mutual"], security_protocol="SSL", ssl_context=context
        )
        await producer.start()
        try:
            await asyncio.wait_for(producer.send_and_wait("t", b"aiokafka"), 10)
        finally:
            await producer.stop()

    asyncio.run(run())


def test_java(place: Place, tmp_path: pathlib.Path) -> None:
    trust = {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(place.certificates.trusted)}
    own = {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(place.alice)}
    module = "org.apache.kafka.common.security.scram.ScramLoginModule"
    secret = {
        "sasl.mechanism": "SCRAM-SHA-256",
        "sasl.jaas.config": f'{module} required username="bob" password="secret";',
    }
    arguments = ["t"]
    for name, protocol, more in (
        ("tls", "SSL", {"ssl.enabled.protocols": "TLSv1.2"}),
        ("mutual", "SSL", own),
        ("sasl", "SASL_SSL", secret),
    ):
        values = {"bootstrap.servers": place.kafka[name], "security.protocol": protocol, **trust, **more}
        arguments += [properties(tmp_path / name, values), "0"]
    done = java_or_skip(CLIENTS, "Secured").run("Secured", *arguments, seconds=60)
    assert [line.split("\t")[:2] for line in done.stdout.splitlines()] == [
        ["tls", "ok"],
        ["mutual", "ok"],
        ["sasl", "ok"],
    ], done.stderr


def test_much_data(place: Place) -> None:
    """What lies in files goes out through TLS whole and in order."""
    settings = place.settings("tls", **{"message.max.bytes": 2_000_000})
    admin = AdminClient(place.settings("tls"))
    admin.create_topics([NewTopic("much", 1)])["much"].result(10)
    producer, sent = Producer(settings), hashlib.sha256()
    for number in range(24):
        value = bytes([number]) * 1_000_000
        sent.update(value)
        producer.produce("much", value)
    assert producer.flush(30) == 0
    consumer = Consumer({**settings, "group.id": "much", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition("much", 0, 0)])
    got = hashlib.sha256()
    for _ in range(24):
        message = until(lambda: consumer.poll(1), 15, "the message")
        got.update(message.value())
    consumer.close()
    assert got.digest() == sent.digest()


def who(connection: ssl.SSLSocket) -> str:
    """Ask Kafka's wire who we are; a token that is refused is refused to somebody."""
    body = b"\0" + create_delegation_token.Request().encode(3)  # tagged fields of the header
    connection.sendall(kafka_request(38, 3, body))
    answer = receive(connection, struct.unpack(">i", receive(connection, 4))[0])
    return create_delegation_token.Response.decode(answer, 3, 5)[0].token_requester_principal_name


def test_who_a_certificate_names(place: Place) -> None:
    certificates = place.certificates
    with place.connect("mutual", certificates.context(place.alice)) as connection:
        assert who(connection) == "alice"
    with place.connect("mutual", certificates.context(certificates.client("Bob Smith"))) as connection:
        assert who(connection) == "bob smith"
    with place.connect("tls", certificates.context(place.alice)) as connection:
        assert who(connection) == "ANONYMOUS"


def test_other_wires(place: Place) -> None:
    context = place.certificates.context(place.alice)
    before = len(place.broker.log)
    with MessageClient("127.0.0.1", place.ports["mega"], tls=context) as client:
        client.create_topic("by-mega")
        assert client.produce("by-mega", "hello")["offset"] == 0
        assert client.consume("by-mega", 0)["payload"] in ("hello", b"hello")
    with place.connect("cursus", context) as connection:
        connection.sendall(cursus_request("", b"LIST"))
        assert b"by-mega" in receive(connection, struct.unpack(">I", receive(connection, 4))[0])
    for protocol in ("mega", "cursus"):
        assert f"{protocol} connection from 127.0.0.1" in place.broker.log[before:]
    assert place.broker.log[before:].count("is User:alice's") == 2


def refused(place: Place, name: str, context: ssl.SSLContext) -> str:
    """Connect as it must not be done; return what the log says, once."""
    before = len(place.broker.log)
    raw = socket.create_connection(("127.0.0.1", place.ports[name]), 10)
    port = raw.getsockname()[1]
    with raw, contextlib.suppress(ssl.SSLError, ConnectionError):
        connection = context.wrap_socket(raw, server_hostname="127.0.0.1")
        # With TLS 1.3 a client is through before the broker has looked at its certificate.
        connection.sendall(kafka_request(18, 0, b""))
        assert not connection.recv(1)
    return place.the_line(before, port)


def test_certificates_that_are_not_good(place: Place) -> None:
    certificates = place.certificates
    for name in ("mutual", "mega", "cursus"):
        assert "sent no certificate" in refused(place, name, certificates.context())
    stranger = certificates.context(certificates.client("stranger", trustme.CA()))
    assert "certificate is not good" in refused(place, "mutual", stranger)
    nobody = ssl.create_default_context(cafile=str(trustme_file(certificates.place)))
    assert "does not trust the issuer of the broker" in refused(place, "tls", nobody)


def trustme_file(place: pathlib.Path) -> pathlib.Path:
    found = place / "other.pem"
    trustme.CA().cert_pem.write_to_path(found)
    return found


def test_versions_and_ciphers(place: Place) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = place.certificates.context()
        context.minimum_version = context.maximum_version = version
        with place.connect("tls", context) as connection:
            name = connection.cipher()[0]  # type: ignore[index]
            assert "GCM" in name or "CHACHA20" in name
            assert who(connection) == "ANONYMOUS"
    old = place.certificates.context()
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    assert "no TLS version from 1.2 on" in refused(place, "tls", old)
    weak = place.certificates.context()
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("AES128-SHA:ECDHE-RSA-AES128-SHA:AES128-GCM-SHA256:ECDHE-ECDSA-AES256-SHA")
    assert "none of the ciphers" in refused(place, "tls", weak)


BAD = {
    "kafka": kafka_request(18, 0, b""),
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "zeros": bytes(200),
    "ones": b"\xff" * 5000,
    "broken hello": bytes.fromhex("16030100100100000c0303") + bytes(10),
    "ssl 2": bytes.fromhex("802e0100020015000000100100800200800300800400800500800600400700c0") + bytes(16),
}


@pytest.mark.parametrize("kind", list(BAD))
def test_what_is_no_tls_on_a_port_with_tls(place: Place, kind: str) -> None:
    before = len(place.broker.log)
    with socket.create_connection(("127.0.0.1", place.ports["tls"]), 10) as connection:
        port = connection.getsockname()[1]
        connection.sendall(BAD[kind])
        receive_all(connection)
    assert "TLS failed: " in place.the_line(before, port)


def test_tls_on_a_port_without(place: Place) -> None:
    for name in ("plain", "cursus-plain", "mega-plain"):
        before = len(place.broker.log)
        raw = socket.create_connection(("127.0.0.1", place.ports[name]), 10)
        port = raw.getsockname()[1]
        with raw, pytest.raises((ssl.SSLError, ConnectionError)):
            place.certificates.context().wrap_socket(raw, server_hostname="127.0.0.1")
        assert "how TLS begins" in place.the_line(before, port)


def test_who_never_begins_is_closed_in_time_and_harms_nobody(place: Place) -> None:
    """Silence, half a greeting, one byte now and then; on ports with TLS and with SASL over it."""
    assert place.broker.process is not None
    pid = place.broker.process.pid
    before, kib = len(place.broker.log), resident_kib(pid)
    with Bystanders(
        place.broker.ports
        | {
            "kafka": place.ports["plain"],
            "mega": place.ports["mega-plain"],
            "cursus": place.ports["cursus-plain"],
        }
    ) as bystanders:
        began = time.monotonic()
        silent = [socket.create_connection(("127.0.0.1", place.ports["tls"]), 20) for _ in range(200)]
        half = [socket.create_connection(("127.0.0.1", place.ports["mega"]), 20) for _ in range(20)]
        for one in half:
            one.sendall(bytes.fromhex("1603010200010001fc0303"))
        shaken = [place.connect("sasl") for _ in range(20)]
        every = [*silent, *half, *shaken]
        while time.monotonic() - began < SECONDS:
            half[0].send(b"\0")
            time.sleep(0.2)
        for connection in every:
            receive_all(connection)
            connection.close()
        took = time.monotonic() - began
    assert SECONDS < took < SECONDS + 5
    assert not bystanders.faults
    log = place.broker.log[before:]
    for words, count in (("complete the TLS handshake", 220), ("authenticate", 20)):
        ends = [line for line in log.splitlines() if f"the peer did not {words} within {SECONDS} s" in line]
        assert sum(" connection from " in line for line in ends) == count
        assert sum(" client from " in line for line in ends) <= 2, "one for each cause"
    assert resident_kib(pid) - kib < 64 * 1024


def test_a_connection_is_closed_soon_whatever_the_peer_does(place: Place) -> None:
    """The answer and the end of TLS come at once; who does not answer that is not waited for long."""
    for goes_on in (False, True):
        before = len(place.broker.log)
        with place.connect("sasl") as connection:
            port = connection.getsockname()[1]
            connection.sendall(kafka_request(17, 1, struct.pack(">h", 5) + b"PLAIN"))
            answer = receive(connection, struct.unpack(">i", receive(connection, 4))[0])
            assert answer[4:6] == struct.pack(">h", 33)
            if goes_on:
                with contextlib.suppress(OSError):
                    connection.sendall(bytes(1 << 20))
            else:
                assert connection.recv(1) == b""
        assert "'PLAIN' is not a SASL mechanism of this listener" in place.the_line(before, port)


def serial(connection: ssl.SSLSocket) -> str:
    return str(connection.getpeercert()["serialNumber"])  # type: ignore[index]


def test_certificates_change_and_connections_stay(place: Place) -> None:
    process = place.broker.process
    assert process is not None

    def reload(words: str) -> None:
        before = len(place.broker.log)
        process.send_signal(signal.SIGHUP)
        until(lambda: words in place.broker.log[before:], 10, words)

    with place.connect("tls") as old:
        first = serial(old)
        assert who(old) == "ANONYMOUS"
        place.certificates.renew()
        with place.connect("tls") as unaware:
            assert serial(unaware) == first
        reload("configuration reloaded")
        with place.connect("tls") as new:
            second = serial(new)
            assert second != first
        assert who(old) == "ANONYMOUS"
        good = place.certificates.keys.read_bytes()
        place.certificates.keys.write_text("no certificate")
        reload("the configuration is not reloaded")
        assert "tls.certificate_chain" in place.broker.log
        with place.connect("tls") as still:
            assert serial(still) == second
        place.certificates.keys.write_bytes(good)
        assert who(old) == "ANONYMOUS"
    send_and_find(place.settings("mutual"), b"after all that")


def test_every_worker_has_it(tmp_path: pathlib.Path) -> None:
    certificates = Certificates(tmp_path)
    secured = listener("secured", tls=certificates.tls(), sasl=["SCRAM-SHA-256"], advertised_host="127.0.0.1")
    protocols = {"kafka": {"listeners": [listener("plain"), secured]}}
    with WorkersProcess(2, {"durability": "os", "protocols": protocols}) as broker:
        plain, with_tls = broker.nodes[::2], broker.nodes[1::2]
        admin = AdminClient({"bootstrap.servers": plain[1]})  # it passes the password on to the first
        set_password(admin, "bob", "secret")
        admin.create_topics([NewTopic("t", 4)])["t"].result(10)
        settings = {
            "security.protocol": "sasl_ssl",
            "ssl.ca.location": str(certificates.trusted),
            "sasl.mechanism": "SCRAM-SHA-256",
            "sasl.username": "bob",
            "sasl.password": "secret",
        }
        for node in with_tls:
            producer = Producer({**settings, "bootstrap.servers": node})
            for partition in range(4):
                producer.produce("t", b"x", partition=partition)
            assert producer.flush(15) == 0
        context = certificates.context()

        def serials() -> set[str]:
            found = set()
            for node in with_tls:
                host, _, port = node.rpartition(":")
                with socket.create_connection((host, int(port)), 10) as raw:
                    found.add(serial(context.wrap_socket(raw, server_hostname="127.0.0.1")))
            return found

        first = serials()
        assert len(first) == 1
        certificates.renew()
        assert broker.process is not None
        broker.process.send_signal(signal.SIGHUP)
        until(lambda: len(now := serials()) == 1 and now != first, 10, "the new certificate everywhere")
        began = time.monotonic()
        assert broker.stop() == 0
        assert time.monotonic() - began < 6, "it waited for clients that had been told"
        check_log(broker.log)


def test_a_mega_client_that_does_not_trust_the_broker(place: Place) -> None:
    client = MessageClient(
        "127.0.0.1", place.ports["mega"], tls=ssl.create_default_context(), connect_attempts=1
    )
    with pytest.raises(ConnectFailed, match="certificate verify failed"):
        client.connect()
    with (
        pytest.raises((ConnectFailed, ConnectionLost)),
        MessageClient(
            "127.0.0.1", place.ports["mega"], tls=place.certificates.context(), connect_attempts=1
        ) as one,
    ):
        one.create_topic("without-a-certificate")


def test_a_mega_client_at_the_wrong_port(place: Place) -> None:
    def asks(port: str, **more: Any) -> str:
        client = MessageClient("127.0.0.1", place.ports[port], connect_attempts=1, **more)
        with pytest.raises((ConnectFailed, ConnectionLost, BadResponse)) as caught, client:
            client.produce("t", "x")
        return str(caught.value)

    for port in ("mega", "tls", "plain"):  # of MEGA, and of Kafka with and without
        address = f"127.0.0.1:{place.ports[port]}"
        assert f"({address}: is that a MEGA port? One with TLS needs an ssl.SSLContext as tls)" in asks(port)
    context = place.certificates.context(place.alice)
    assert "is that a port with TLS?" in asks("mega-plain", tls=context)
    assert "is that a MEGA port, and is your certificate" in asks("tls", tls=context)
