"""SASL on a Kafka connection: what may be asked when, what is bounded, and when a session ends."""

from __future__ import annotations

import struct
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import maybeDeferred
from twisted.internet.testing import StringTransport

from megabroker.codec.batch import build_single
from megabroker.config.protocol import ListenerSettings
from megabroker.core.authentication import Authentication
from megabroker.core.authentication.scram import DIGESTS, new_credential
from megabroker.model import HostPort, Listener, Principal, QuotaChange, ScramChange
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.protocol import KafkaConnection, make_factory
from megabroker.protocols.kafka.schema import (
    api_versions,
    create_delegation_token,
    metadata,
    sasl_authenticate,
    sasl_handshake,
)
from megabroker.protocols.kafka.schema.registry import response_header_version
from megabroker.protocols.kafka.settings import KafkaSettings
from tests.unit.scram_client import ScramClient
from tests.unit.test_kafka_produce import ProduceCase, frame, request
from tests.unit.test_kafka_quotas import framed

HANDSHAKE, API_VERSIONS, AUTHENTICATE, METADATA, TOKEN = 17, 18, 36, 3, 38
ILLEGAL, UNSUPPORTED, FAILED = (
    int(error)
    for error in (
        KafkaError.ILLEGAL_SASL_STATE,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.SASL_AUTHENTICATION_FAILED,
    )
)
MECHANISMS = ("PLAIN", *DIGESTS)
ALICE, BOB = b"\0alice\0secret", b"\0bob\0secret"


class SaslCase(ProduceCase):
    def setUp(self) -> None:
        super().setUp()
        broker = self.service.broker
        broker.authentication = Authentication(
            broker.credentials,
            lambda: 100,
            self.clock,
            maybeDeferred,  # type: ignore[arg-type]
        )
        changes = [
            ScramChange(user, name, new_credential(digest, "secret"))
            for user in ("alice", "bob")
            for name, digest in DIGESTS.items()
        ]
        self.done(broker.credentials.change(changes))
        wanted = ListenerSettings(endpoint="tcp:0", sasl=MECHANISMS)
        settings = KafkaSettings(listeners=(wanted,))
        self.factory = make_factory(broker, settings, Listener("kafka", "default", HostPort("localhost", 1)))
        self.factory.doStart()
        self.connection = self.connect()

    def tearDown(self) -> None:
        for connection in list(self.factory.connections):
            connection.connectionLost()
        self.done(self.factory.drain(0))
        super().tearDown()

    def set(self, section: str, **values: Any) -> None:
        """Configure the broker anew."""
        config = self.service.config
        changed = attrs.evolve(getattr(config, section), **values)
        self.service.config = attrs.evolve(config, **{section: changed})
        self.service.broker.settings = self.service.config

    def told(self, data: bytes, key: int, version: int, kind: Any) -> Any:
        """Return the one answer in some bytes."""
        (size,) = struct.unpack_from(">i", data)
        self.assertEqual(len(data), 4 + size)
        return kind.Response.decode(data[4:], version, 4 + response_header_version(key, version))[0]

    def choose(self, mechanism: str, version: int = 1) -> Any:
        sent = framed(sasl_handshake.Request(mechanism=mechanism), HANDSHAKE, version)
        return self.told(self.exchange(sent), HANDSHAKE, version, sasl_handshake)

    def prove(self, message: bytes, version: int = 2) -> Any:
        sent = framed(sasl_authenticate.Request(auth_bytes=message), AUTHENTICATE, version)
        data = self.exchange(sent)
        if not data:
            self.clock.advance(0.2)
            data = self.exchange()
        return self.told(data, AUTHENTICATE, version, sasl_authenticate)

    def let_in(self, message: bytes = ALICE) -> Any:
        self.assertEqual(self.choose("PLAIN").error_code, 0)
        answer = self.prove(message)
        self.assertEqual((answer.error_code, bytes(answer.auth_bytes)), (0, b""))
        return answer

    def is_served(self) -> bool:
        """Whether a request that needs no rights is answered."""
        return bool(self.exchange(framed(metadata.Request(topics=[]), METADATA, 1)))

    def produce(self) -> bytes:
        return self.exchange(frame(request(build_single(None, b"x", 5), 9), 9, 1))

    @property
    def why(self) -> str:
        """Why the connection was closed."""
        return str(self.connection._why)

    def assert_closed(self, *words: str) -> None:
        self.clock.advance(0)
        self.assertTrue(self.connection.transport.disconnecting or self.connection.transport.disconnected)
        for word in words:
            self.assertIn(word, self.why)


class FirstTests(SaslCase):
    def test_every_mechanism_and_version(self) -> None:
        for version in range(3):
            for mechanism, digest in DIGESTS.items():
                self.connection = self.connect()
                self.assertEqual(self.choose(mechanism).mechanisms, list(MECHANISMS))
                client = ScramClient("alice", "secret", digest)
                said = self.prove(client.first(), version)
                self.assertEqual(self.connection.principal.name, "ANONYMOUS")
                last = self.prove(client.final(bytes(said.auth_bytes)), version)
                self.assertEqual((last.error_code, bytes(last.auth_bytes)), (0, client.expected))
                self.assertEqual(self.connection.principal, Principal("User", "alice"))
                self.assertTrue(self.is_served())
            self.connection = self.connect()
            self.choose("PLAIN")
            self.assertEqual(self.prove(ALICE, version).error_code, 0)

    def test_messages_without_a_header(self) -> None:
        def bare(message: bytes) -> bytes:
            data = self.exchange(struct.pack(">i", len(message)) + message)
            self.assertEqual(struct.unpack_from(">i", data)[0], len(data) - 4)
            return data[4:]

        self.assertEqual(self.choose("PLAIN", version=0).error_code, 0)
        self.assertEqual(bare(ALICE), b"")
        self.assertTrue(self.is_served())
        self.assertEqual(self.connection.reader.min_bytes, 8)
        self.connection = self.connect()
        self.choose("SCRAM-SHA-512", version=0)
        client = ScramClient("bob", "secret", "sha512")
        self.assertEqual(bare(client.final(bare(client.first()))), client.expected)
        self.assertTrue(self.is_served())
        self.connection = self.connect()
        self.choose("PLAIN", version=0)
        self.assertEqual(self.exchange(struct.pack(">i", 4) + b"\0a\0b"), b"")
        self.clock.advance(0.2)
        self.assertEqual(self.exchange(), b"")
        self.assert_closed("authentication of 'a' by PLAIN failed: wrong name or password")

    def test_versions_may_be_asked_for_first(self) -> None:
        for version in (0, 2, 99):
            sent = framed(api_versions.Request(), API_VERSIONS, min(version, 2))
            sent = sent[:6] + struct.pack(">h", version) + sent[8:]
            self.assertTrue(self.exchange(sent), (version, self.why))
        self.let_in()

    def test_nothing_else_is_taken_before(self) -> None:
        for version in (0, 1, 12):
            self.connection = self.connect()
            self.assertEqual(self.exchange(framed(metadata.Request(), METADATA, version)), b"")
            self.assert_closed("API key 3 before")
        self.connection = self.connect()
        self.assertEqual(self.produce(), b"")
        self.assert_closed("API key 0 before")
        self.assertEqual(self.stored(), [])
        for at_once in (b"", framed(sasl_handshake.Request(mechanism="PLAIN"), HANDSHAKE, 1)):
            self.connection = self.connect()
            self.exchange(at_once + framed(metadata.Request(), METADATA, 1))
            self.assert_closed("API key 3 before")

    def test_what_is_sent_behind_the_proof_waits_for_it(self) -> None:
        sent = [
            framed(sasl_handshake.Request(mechanism="PLAIN"), HANDSHAKE, 1, correlation_id=1),
            framed(sasl_authenticate.Request(auth_bytes=ALICE), AUTHENTICATE, 1, correlation_id=2),
            framed(metadata.Request(topics=[]), METADATA, 1, correlation_id=3),
        ]
        data, found = self.exchange(*sent), []
        while data:
            size, correlation_id = struct.unpack_from(">ii", data)
            found.append(correlation_id)
            data = data[4 + size :]
        self.assertEqual(found, [1, 2, 3])
        self.connection = self.connect()
        sent[1] = framed(sasl_authenticate.Request(auth_bytes=b"\0alice\0wrong"), AUTHENTICATE, 1)
        self.exchange(*sent)
        self.clock.advance(0.2)
        self.told(self.exchange(), AUTHENTICATE, 1, sasl_authenticate)
        self.assert_closed("failed")

    def test_refusals(self) -> None:
        answer = self.choose("GSSAPI")
        self.assertEqual((answer.error_code, answer.mechanisms), (UNSUPPORTED, list(MECHANISMS)))
        self.assert_closed("'GSSAPI' is not a SASL mechanism of this listener")
        texts = set()
        for message in (b"\0alice\0wrong", b"\0mallory\0secret", b"", b"\xff" * 100):
            self.connection = self.connect()
            self.choose("PLAIN")
            answer = self.prove(message)
            self.assertEqual(answer.error_code, FAILED)
            texts.add((answer.error_message, bytes(answer.auth_bytes)))
            self.assert_closed("by PLAIN failed")
        self.assertEqual(len(texts), 1)
        self.connection = self.connect()
        self.assertEqual(self.prove(ALICE).error_code, ILLEGAL)
        self.assert_closed("did not choose")
        self.connection = self.connect()
        self.choose("PLAIN")
        self.assertEqual(self.choose("PLAIN").error_code, ILLEGAL)
        self.assert_closed("again")

    def test_a_refusal_is_in_no_hurry(self) -> None:
        self.choose("PLAIN")
        sent = framed(sasl_authenticate.Request(auth_bytes=b"\0alice\0x"), AUTHENTICATE, 1)
        self.assertEqual(self.exchange(sent), b"")
        self.clock.advance(0.09)
        self.assertEqual(self.exchange(), b"")
        self.clock.advance(0.02)
        self.assertTrue(self.exchange())

    def test_a_peer_that_goes_while_it_is_refused(self) -> None:
        self.choose("PLAIN")
        self.exchange(framed(sasl_authenticate.Request(auth_bytes=b"\0alice\0x"), AUTHENTICATE, 1))
        self.connection.connectionLost()
        self.clock.advance(1)

    def test_what_is_sent_before_is_bounded(self) -> None:
        self.assertEqual(self.exchange(struct.pack(">i", 65537) + b"x"), b"")
        self.assert_closed("expected 8 to 65536 bytes")
        self.connection = self.connect()
        asked = framed(api_versions.Request(), API_VERSIONS, 0)
        self.exchange(asked * 16)
        self.assertFalse(self.connection.transport.disconnecting)
        self.exchange(asked)
        self.assert_closed("more than 16 requests before the client authenticated")
        self.connection = self.connect()
        asked = framed(api_versions.Request(), API_VERSIONS, 0, client=b"x" * 30_000)
        self.exchange(asked * 2)
        self.assertFalse(self.connection.transport.disconnecting)
        self.exchange(asked)
        self.assert_closed("bytes before the client authenticated")
        self.connection = self.connect()
        self.let_in()
        self.assertEqual(self.connection.reader.max_bytes, 100 << 20)

    def test_the_time_it_takes_is_bounded(self) -> None:
        idle, busy, known = self.connection, self.connect(), self.connect()
        self.connection = known
        self.let_in()
        for _ in range(9):
            self.clock.advance(1)
            self.exchange(framed(api_versions.Request(), API_VERSIONS, 0), connection=busy)
        self.assertFalse(idle.transport.disconnected or busy.transport.disconnected)
        self.clock.pump([1, 1])
        for one in (idle, busy):
            self.assertIn("did not authenticate within 10 s", one._why)
            self.assertTrue(one.transport.disconnected or one.transport.disconnecting)
        self.assertTrue(self.is_served())


class SessionTests(SaslCase):
    def test_nothing_is_left_on_the_way_of_requests(self) -> None:
        self.let_in()
        self.assertNotIn("handle", vars(self.connection))
        self.assertTrue(self.produce())
        self.assertIsNotNone(self.connection.template)
        self.assertTrue(self.produce())
        self.assertEqual(self.stored(), [b"x", b"x"])

    def test_the_principal_is_known_to_quotas_and_requests(self) -> None:
        self.let_in()
        answer = self.told(
            self.exchange(framed(create_delegation_token.Request(), TOKEN, 3)),
            TOKEN,
            3,
            create_delegation_token,
        )
        self.assertEqual(answer.token_requester_principal_name, "alice")
        quota = QuotaChange((("user", "alice"),), {"producer_byte_rate": 1.0})
        self.done(self.service.broker.quotas.change([quota]))
        self.produce()
        self.assertEqual(self.connection.transport.producerState, "paused")

    def test_a_session_without_an_end_is_not_begun_anew(self) -> None:
        self.assertEqual(self.let_in().session_lifetime_ms, 0)
        self.clock.advance(5)
        self.assertEqual(self.choose("PLAIN").error_code, ILLEGAL)
        self.assertEqual(self.prove(ALICE).error_code, ILLEGAL)
        self.assertTrue(self.is_served())

    def test_a_session_goes_on_for_who_authenticates_anew(self) -> None:
        self.set("security", session_ms=10_000)
        self.assertEqual(self.let_in().session_lifetime_ms, 10_000)
        self.assertEqual(self.choose("PLAIN").error_code, ILLEGAL)  # not twice in a second
        for _ in range(4):
            self.clock.advance(8)
            self.assertTrue(self.is_served())
            self.let_in()
        self.assertTrue(self.produce())

    def test_a_session_that_is_over(self) -> None:
        self.set("security", session_ms=10_000)
        self.let_in()
        self.produce()
        self.assertIsNotNone(self.connection.template)
        self.clock.advance(10.1)
        self.assertIsNone(self.connection.template)
        self.let_in()  # late, and yet
        self.assertNotIn("handle", vars(self.connection))
        self.assertTrue(self.produce())
        self.clock.advance(10.1)
        self.assertEqual(self.produce(), b"")
        self.assert_closed("API key 0 although the session of User:alice is over")

    def test_nobody_becomes_another(self) -> None:
        self.set("security", session_ms=10_000)
        for mechanism, message, words in (
            ("PLAIN", BOB, "another user than User:alice"),
            ("SCRAM-SHA-256", None, "a mechanism other than PLAIN"),
            ("PLAIN", b"\0alice\0wrong", "wrong name or password"),
        ):
            self.connection = self.connect()
            self.let_in()
            self.clock.advance(5)
            self.assertEqual(self.choose(mechanism).error_code, 0)
            if message is None:
                client = ScramClient("alice", "secret", "sha256")
                message = client.final(bytes(self.prove(client.first()).auth_bytes))
            answer = self.prove(message)
            self.assertEqual(answer.error_code, FAILED)
            self.assert_closed(words)

    def test_a_listener_without_sasl_is_as_it_was(self) -> None:
        listener = Listener("kafka", "default", HostPort("localhost", 1))
        factory = make_factory(self.service.broker, KafkaSettings(), listener)
        connection: Any = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 9))
        connection.makeConnection(StringTransport())
        self.assertIs(type(connection), KafkaConnection)
        self.assertNotIn("handle", vars(connection))
        sent = framed(metadata.Request(topics=[]), METADATA, 1)
        self.assertTrue(self.exchange(sent, connection=connection))
