"""Real clients that say who they are by SASL, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import re
import socket
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import aiokafka
import jwt
import kafka
import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from cryptography.hazmat.primitives.asymmetric import ec

from megabroker.protocols.kafka.schema import api_versions, metadata, sasl_authenticate, sasl_handshake
from tests.brokers import BrokerProcess
from tests.interop.conftest import check_log, java_or_skip
from tests.interop.java import TOOLS
from tests.interop.secured import addresses, listener, properties, set_password
from tests.interop.wires import CursusWire, receive_all, resident_kib, until
from tests.unit.test_kafka_quotas import framed

pytestmark = pytest.mark.interop

PASSWORDS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
KEY = ec.generate_private_key(ec.SECP256R1())
SESSION_MS = 1500


class Place:
    """The broker, and where it listens: without SASL, with passwords, with tokens."""

    def __init__(self, broker: BrokerProcess) -> None:
        self.broker = broker
        self.open, self.passwords, self.tokens = addresses(broker)
        self.admin = AdminClient({"bootstrap.servers": self.open})
        set_password(self.admin, "alice", "secret")
        self.admin.create_topics([NewTopic("t", 1)])["t"].result(10)

    def settings(self, mechanism: str, password: str = "secret", **more: Any) -> dict[str, Any]:
        """Return what librdkafka needs."""
        return {
            "bootstrap.servers": self.passwords,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": mechanism,
            "sasl.username": "alice",
            "sasl.password": password,
            **more,
        }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    public = jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
    keys.write_text(json.dumps({"keys": [{**public, "kid": "one"}]}))
    config = {
        "durability": "os",
        "limits": {"unauthenticated_seconds": 2},
        "logging": {"level": "debug"},
        "security": {
            "session_ms": SESSION_MS,
            "tokens": {"keys": str(keys), "issuer": "https://issuer.test", "audiences": ["kafka"]},
        },
        "protocols": {
            "kafka": {
                "listeners": [
                    listener("open"),
                    listener("passwords", sasl=list(PASSWORDS)),
                    listener("tokens", sasl=["OAUTHBEARER"]),
                ]
            },
            "cursus": {"listeners": [listener("passwords", auth="required")]},
        },
    }
    with BrokerProcess(config) as broker:
        yield Place(broker)
        assert broker.stop() == 0, broker.log[-5000:]
        check_log(broker.log)


def token(seconds: float = 60, **claims: Any) -> str:
    said = {"iss": "https://issuer.test", "aud": "kafka", "sub": "alice", "exp": time.time() + seconds}
    return jwt.encode({**said, **claims}, KEY, algorithm="ES256", headers={"kid": "one"})


def errors_of(settings: dict[str, Any], seconds: float = 5) -> list[KafkaError]:
    """Connect; return the errors that a client is told, at most one."""
    errors: list[KafkaError] = []
    producer = Producer({**settings, "error_cb": errors.append, "log_level": 0})
    end = time.monotonic() + seconds
    while not errors and time.monotonic() < end:
        producer.poll(0.05)
    return [error for error in errors if error.code() == KafkaError._AUTHENTICATION][:1]


@pytest.mark.parametrize("mechanism", PASSWORDS)
def test_confluent(place: Place, mechanism: str) -> None:
    settings = place.settings(mechanism)
    producer = Producer(settings)
    value = f"confluent {mechanism}".encode()
    producer.produce("t", value)
    assert producer.flush(10) == 0
    consumer = Consumer({**settings, "group.id": f"g-{mechanism}", "auto.offset.reset": "earliest"})
    consumer.subscribe(["t"])
    until(lambda: (found := consumer.poll(1)) and found.value() == value, 10, "the message")
    consumer.close()


def test_wrong_passwords_are_refused_and_said_once(place: Place) -> None:
    for mechanism in PASSWORDS:
        before = len(place.broker.log)
        (error,) = errors_of(place.settings(mechanism, "wrong", **{"reconnect.backoff.ms": 5000}))
        assert f"invalid credentials with SASL mechanism {mechanism}" in str(error)
        words = f"authentication of 'alice' by {mechanism} failed: wrong"
        until(lambda before=before, words=words: words in place.broker.log[before:], 5, "the reason")
    # A client of the open listener's kind at the one with SASL, and the other way round.
    before = len(place.broker.log)
    plain = Producer({"bootstrap.servers": place.passwords, "log_level": 0, "api.version.request": False})
    plain.poll(0.3)
    until(lambda: "API key 3 before the client authenticated" in place.broker.log[before:], 5, "the reason")
    (error,) = errors_of(place.settings("PLAIN", **{"bootstrap.servers": place.open}))
    assert "SASL" in str(error)


def test_a_user_that_goes_is_a_user_no_more(place: Place) -> None:
    from confluent_kafka.admin import ScramMechanism, UserScramCredentialDeletion

    set_password(place.admin, "guest", "secret", "SCRAM-SHA-256")
    guest = place.settings("PLAIN", **{"sasl.username": "guest"})
    producer = Producer(guest)
    producer.produce("t", b"guest")
    assert producer.flush(10) == 0
    deletion = UserScramCredentialDeletion("guest", ScramMechanism.SCRAM_SHA_256)
    for done in place.admin.alter_user_scram_credentials([deletion]).values():
        done.result(10)
    assert errors_of(guest)


@pytest.mark.parametrize("mechanism", PASSWORDS)
def test_kafka_python(place: Place, mechanism: str) -> None:
    settings = {
        "bootstrap_servers": place.passwords,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": "alice",
        "sasl_plain_password": "secret",
    }
    producer = kafka.KafkaProducer(**settings)
    offset = producer.send("t", b"kafka-python").get(10).offset
    producer.close()
    consumer = kafka.KafkaConsumer(**settings)
    consumer.assign([partition := kafka.TopicPartition("t", 0)])
    consumer.seek(partition, offset)
    assert next(iter(consumer)).value == b"kafka-python"
    consumer.close()


def test_aiokafka(place: Place) -> None:
    async def run() -> None:
        for mechanism in PASSWORDS:
            producer = aiokafka.AIOKafkaProducer(
                bootstrap_servers=place.passwords,
                security_protocol="SASL_PLAINTEXT",
                sasl_mechanism=mechanism,
                sasl_plain_username="alice",
                sasl_plain_password="secret",
            )
            await producer.start()
            try:
                await asyncio.wait_for(producer.send_and_wait("t", b"aiokafka"), 10)
            finally:
                await producer.stop()

    asyncio.run(run())


def test_kcat_with_and_without_headers_around_messages(place: Place, kcat: str) -> None:
    for more in ([], ["-X", "api.version.request=false", "-X", "broker.version.fallback=0.10.0"]):
        command = [kcat, "-b", place.passwords, "-X", "security.protocol=SASL_PLAINTEXT", *more]
        for mechanism in PASSWORDS:
            given = [f"sasl.mechanism={mechanism}", "sasl.username=alice", "sasl.password=secret"]
            options = [word for one in given for word in ("-X", one)]
            done = subprocess.run(
                [*command, *options, "-L", "-t", "t"], capture_output=True, text=True, timeout=20, check=False
            )
            assert done.returncode == 0, done.stderr
            assert 'topic "t" with 1 partitions' in done.stdout


def test_confluent_with_tokens(place: Place) -> None:
    def given(text: str, seconds: float) -> Any:
        return lambda _: (text, time.time() + seconds)

    settings = {
        "bootstrap.servers": place.tokens,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "OAUTHBEARER",
    }
    producer = Producer({**settings, "oauth_cb": given(token(), 60)})
    producer.poll(0.2)
    producer.produce("t", b"by a token")
    assert producer.flush(10) == 0
    for bad, why in ((token(aud="other"), "udience"), (token(-60), "expired")):
        before = len(place.broker.log)
        assert errors_of({**settings, "oauth_cb": given(bad, 60), "reconnect.backoff.ms": 5000})
        words = f"authentication by OAUTHBEARER failed: .*{why}"
        until(lambda before=before, words=words: re.search(words, place.broker.log[before:]), 5, "the reason")


def test_confluent_authenticates_anew(place: Place) -> None:
    """Over several sessions on one connection, without a message lost or a connection dropped."""
    errors: list[KafkaError] = []
    before = len(place.broker.log)
    producer = Producer(place.settings("SCRAM-SHA-256", error_cb=errors.append))
    end = time.monotonic() + 2.5 * SESSION_MS / 1000
    while time.monotonic() < end:
        producer.produce("t", b"on and on")
        assert producer.flush(10) == 0
        time.sleep(0.02)
    assert not errors
    assert "session of" not in place.broker.log[before:]


def test_the_same_users_on_the_other_wire(place: Place) -> None:
    before = len(place.broker.log)
    with CursusWire(place.broker.ports["cursus"]) as wire:
        assert wire.ask("LIST") == "ERROR: authentication required"
        assert wire.ask("AUTH alice secret") == "✅ Authenticated as 'alice'"
        assert wire.ask("LIST") == "t"
    with CursusWire(place.broker.ports["cursus"]) as wire:
        assert wire.ask("AUTH alice wrong") == "ERROR: authentication failed"
        assert receive_all(wire.socket) == b""
    words = " closed: authentication of 'alice' by AUTH failed"
    until(lambda: place.broker.log[before:].count(words) == 1, 5, "the reason")
    assert "refused: cursus client from 127.0.0.1: authentication of 'alice' by AUTH" in place.broker.log


def test_java(place: Place, tmp_path: pathlib.Path) -> None:
    """All mechanisms, and several sessions on one connection."""
    modules = {"PLAIN": "plain.PlainLoginModule", "SCRAM": "scram.ScramLoginModule"}
    arguments = ["t"]
    for mechanism in (*PASSWORDS, "wrong"):
        module = modules.get(mechanism[:5], modules["PLAIN"])
        password = "wrong" if mechanism == "wrong" else "secret"
        values = {
            "bootstrap.servers": place.passwords,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN" if mechanism == "wrong" else mechanism,
            "sasl.jaas.config": f"org.apache.kafka.common.security.{module} required "
            f'username="alice" password="{password}";',
        }
        arguments += [properties(tmp_path / mechanism, values), "0"]
    text = tmp_path / "token"
    text.write_text(token())
    package = "org.apache.kafka.common.security.oauthbearer"
    values = {
        "bootstrap.servers": place.tokens,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.jaas.config": f"{package}.OAuthBearerLoginModule required;",
        "sasl.login.callback.handler.class": f"{package}.OAuthBearerLoginCallbackHandler",
        "sasl.oauthbearer.jwt.retriever.class": f"{package}.FileJwtRetriever",
        "sasl.oauthbearer.token.endpoint.url": text.as_uri(),
    }
    arguments += [properties(tmp_path / "OAUTHBEARER", values), "0"]
    arguments[arguments.index(str(tmp_path / "SCRAM-SHA-512")) + 1] = str(int(2.5 * SESSION_MS))
    allowed = {"org.apache.kafka.sasl.oauthbearer.allowed.urls": text.as_uri()}
    allowed["org.apache.kafka.sasl.oauthbearer.allowed.files"] = str(text)
    done = java_or_skip(TOOLS, "Secured").run("Secured", *arguments, seconds=60, properties=allowed)
    rows = {row[0]: row[1:] for row in (line.split("\t") for line in done.stdout.splitlines())}
    assert rows["PLAIN"][0] == rows["SCRAM-SHA-256"][0] == rows["SCRAM-SHA-512"][0] == "ok", (
        rows,
        done.stderr,
    )
    assert rows["OAUTHBEARER"][0] == "ok", (rows, done.stderr)
    assert int(rows["SCRAM-SHA-512"][2]) >= 2
    assert rows["wrong"][0].startswith(
        "SaslAuthenticationException Authentication failed: invalid credentials"
    )


def test_bad_manners_harm_nobody(place: Place) -> None:
    """Those that sit there, with huge frames, half of them, in the wrong order; others go on working."""
    assert place.broker.process is not None
    pid, port = place.broker.process.pid, int(place.passwords.rpartition(":")[2])
    handshake = framed(sasl_handshake.Request(mechanism="PLAIN"), 17, 1)
    proof = framed(sasl_authenticate.Request(auth_bytes=b"\0alice\0secret"), 36, 1)
    kinds = {
        "silent": b"",
        "half a frame of 60 KB": struct.pack(">i", 60_000) + bytes(50_000),
        "a frame of 65537 bytes": struct.pack(">i", 65_537) + bytes(1000),
        "2 GiB": struct.pack(">i", 2**31 - 1) + bytes(1000),
        "TLS": bytes.fromhex("16030102000100") + bytes(500),
        "metadata": framed(metadata.Request(topics=[]), 3, 1),
        "proof first": proof,
        "two handshakes": handshake * 2,
        "a huge proof": handshake + framed(sasl_authenticate.Request(auth_bytes=bytes(60_000)), 36, 1),
        "ApiVersions for ever": framed(api_versions.Request(), 18, 0) * 5000,
        "a request behind a wrong proof": handshake
        + framed(sasl_authenticate.Request(auth_bytes=b"\0alice\0x"), 36, 1)
        + framed(metadata.Request(topics=[]), 3, 1),
    }
    before, kib = len(place.broker.log), resident_kib(pid)
    good = Producer(place.settings("SCRAM-SHA-512"))
    good.produce("t", b"first")
    assert good.flush(10) == 0
    opened: dict[int, str] = {}
    sockets = []
    for kind, data in kinds.items():
        for _ in range(20):
            connection = socket.create_connection(("127.0.0.1", port), 20)
            sockets.append(connection)
            opened[connection.getsockname()[1]] = kind
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
    slowest = 0.0
    for _ in range(20):
        began = time.monotonic()
        good.produce("t", b"in between")
        assert good.flush(10) == 0
        slowest = max(slowest, time.monotonic() - began)
    for connection in sockets:
        receive_all(connection)
        connection.close()
    assert slowest < 2
    assert resident_kib(pid) - kib < 32 * 1024

    def lines() -> Counter[str]:
        found = re.findall(r"connection from 127\.0\.0\.1:(\d+) closed", place.broker.log[before:])
        return Counter(opened[int(one)] for one in found if int(one) in opened)

    until(lambda: lines() == dict.fromkeys(kinds, 20), 5, "one line of each")
