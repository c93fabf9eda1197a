"""AUTH on a cursus connection: what is taken before it, what is bounded, who is let in."""

from __future__ import annotations

import gzip
import struct
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import maybeDeferred
from twisted.internet.testing import StringTransport

from megabroker.config.protocol import ListenerSettings
from megabroker.core.authentication import Authentication
from megabroker.core.authentication.scram import new_credential
from megabroker.model import HostPort, Listener, Principal, ScramChange
from megabroker.protocols.cursus.protocol import CursusConnection, CursusFactory
from megabroker.protocols.cursus.settings import CursusSettings
from tests.unit.test_kafka_produce import ProduceCase

REQUIRED = "ERROR: authentication required"


def text(words: str) -> bytes:
    data = words.encode()
    return struct.pack(">I", len(data)) + data


class AuthCase(ProduceCase):
    compression = "none"

    def setUp(self) -> None:
        super().setUp()
        broker = self.service.broker
        broker.authentication = Authentication(
            broker.credentials,
            lambda: 100,
            self.clock,
            maybeDeferred,  # type: ignore[arg-type]
        )
        kept = new_credential("sha256", "a secret ö")
        self.done(broker.credentials.change([ScramChange("alice", "SCRAM-SHA-256", kept)]))
        wanted = ListenerSettings(endpoint="tcp:0", auth="required")
        settings = CursusSettings(listeners=(wanted,), compression=self.compression, max_frame_bytes=1 << 20)
        listener = Listener("cursus", "default", HostPort("localhost", 1))
        self.factory: Any = CursusFactory(broker, settings, listener)
        self.factory.doStart()
        self.connection = self.connect()

    def tearDown(self) -> None:
        for connection in list(self.factory.connections):
            connection.connectionLost()
        self.done(self.factory.drain(0))
        super().tearDown()

    def ask(self, *words: str, seconds: float = 0.2) -> list[str]:
        data = self.exchange(*map(text, words))
        self.clock.advance(seconds)
        data += self.exchange()
        found = []
        while data:
            (size,) = struct.unpack_from(">I", data)
            found.append(data[4 : 4 + size].decode())
            data = data[4 + size :]
        return found

    @property
    def is_closed(self) -> bool:
        return bool(self.connection.transport.disconnecting or self.connection.transport.disconnected)


class AuthTests(AuthCase):
    def test_nothing_is_carried_out_before(self) -> None:
        for words in (
            "LIST",
            "CREATE x",
            "PUBLISH t hello",
            "CONSUME t 0 0",
            "SUBSCRIBE t",
            "DELETE t",
            "",
        ):
            self.assertEqual(self.ask(words), [REQUIRED], words)
        self.exchange(text("\0\1t a message"))
        self.assertIn("AUTH <user> <password>", self.ask("HELP")[-1])
        self.assertEqual(self.stored(), [])
        self.assertEqual(self.stored(1), [])
        self.assertIsNotNone(self.service.topics.get("t"))
        self.assertIsNone(self.service.topics.get("x"))

    def test_who_says_who_it_is(self) -> None:
        answers = self.ask("auth alice a secret ö\n", "LIST", "PUBLISH t hello")
        self.assertEqual(answers, ["✅ Authenticated as 'alice'", "t", "📤 Published to 't'"])
        self.assertEqual(self.connection.principal, Principal("User", "alice"))
        self.assertNotIn("handle", vars(self.connection))
        self.assertEqual(self.connection.reader.max_bytes, 1 << 20)
        self.assertEqual(self.ask("AUTH alice x"), ["ERROR: already authenticated as 'alice'"])
        # Also as the payload of an envelope, so that no password becomes a message.
        data = b"\0\1tAUTH alice a secret"
        self.assertIn(b"already", self.exchange(struct.pack(">I", len(data)) + data))
        self.assertEqual(self.stored() + self.stored(1), [b"hello"])

    def test_who_is_not_who_it_says(self) -> None:
        for words in ("AUTH alice wrong", "AUTH alice  a secret ö", "AUTH mallory a secret ö"):
            self.connection = self.connect()
            self.assertEqual(self.ask(words, "LIST", seconds=0.09), [])
            self.assertEqual(self.ask(seconds=0.02), ["ERROR: authentication failed"])
            self.assertTrue(self.is_closed)
            self.assertIn("by AUTH failed: wrong name or password", self.connection._why)
            self.assertNotIn("secret", self.connection._why)
        self.connection = self.connect()
        for words in ("AUTH", "AUTH alice", "AUTH  ", "AUTH alice " + "x" * 4096):
            self.assertEqual(self.ask(words), ["ERROR: invalid AUTH syntax: expected AUTH <user> <password>"])
        self.assertFalse(self.is_closed)
        self.exchange(struct.pack(">I", 14) + b"AUTH alice \xff\xfe\xfd")
        self.assertEqual(self.ask("AUTH alice a secret ö"), ["✅ Authenticated as 'alice'"])

    def test_a_client_that_leaves(self) -> None:
        self.exchange(text("AUTH alice wrong"))
        self.connection.connectionLost()
        self.clock.advance(1)
        self.connection = self.connect()
        self.assertEqual(self.ask("EXIT"), [])
        self.assertTrue(self.is_closed)

    def test_bounds(self) -> None:
        self.exchange(struct.pack(">I", 65537) + b"x")
        self.assertIn("expected 0 to 65536 bytes", self.connection._why)
        self.connection = self.connect()
        self.exchange(text("LIST" + " " * 60_000), text("LIST" + " " * 6000))
        self.assertIn("bytes before the client said who it is", self.connection._why)
        self.connection = self.connect()
        for _ in range(12):
            self.clock.advance(1)
        self.assertIn("did not say who it is within 10 s", self.connection._why)

    def test_elsewhere_the_word_is_no_command(self) -> None:
        listener = Listener("cursus", "default", HostPort("localhost", 1))
        factory: Any = CursusFactory(self.service.broker, CursusSettings(), listener)
        connection: Any = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 9))
        self.assertIs(type(connection), CursusConnection)
        connection.makeConnection(StringTransport())
        data = b"\0\1tAUTH alice of a message"
        self.assertIn(b"OK", self.exchange(struct.pack(">I", len(data)) + data, connection=connection))
        self.assertEqual(self.stored() + self.stored(1), [b"AUTH alice of a message"])
        connection.connectionLost()


class GzipAuthTests(AuthCase):
    compression = "gzip"

    def test_what_expands_is_bounded(self) -> None:
        good = gzip.compress("AUTH alice a secret ö".encode())
        self.exchange(struct.pack(">I", len(good)) + good)
        self.assertEqual(self.connection.principal.name, "alice")
        self.connection = self.connect()
        bomb = gzip.compress(bytes(10 << 20))
        self.exchange(struct.pack(">I", len(bomb)) + bomb)
        self.assertTrue(self.is_closed)
        self.assertEqual(self.connection.principal.name, "ANONYMOUS")
