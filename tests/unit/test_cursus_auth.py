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
from megabroker.protocols.cursus.factory import CursusFactory
from megabroker.protocols.cursus.later.batch import BatchMessage, encode_batch
from megabroker.protocols.cursus.protocol import CursusConnection
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
        self.assertIsNotNone(self.service.core.topics.get("t"))
        self.assertIsNone(self.service.core.topics.get("x"))

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
        self.assertIn("bytes before the client authenticated", self.connection._why)
        self.connection = self.connect()
        for _ in range(12):
            self.clock.advance(1)
        self.assertIn("did not authenticate within 10 s", self.connection._why)

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


class LaterAuthTests(AuthCase):
    """The same in the later dialect."""

    def test_nothing_is_carried_out_before(self) -> None:
        for words in (
            "DESCRIBE topic=t",
            "PUBLISH topic=t producerId=p message=m",
            "LIST_GROUPS",
            "METADATA",
        ):
            reply = f"ERROR: authentication_required command={words.split()[0]}"
            self.assertEqual(self.ask(words), [reply])
        batch = encode_batch("t", 0, [BatchMessage(0, 1, b"m")])
        self.assertIn(b"authentication_required command=BATCH", self.exchange(framed(batch)))
        self.assertEqual(self.stored(), [])
        self.assertEqual(self.ask("NEGOTIATE version=1 features=*")[0].partition(" ")[0], "OK")
        (told,) = self.ask("AUTH principal=alice")
        self.assertTrue(told.startswith("ERROR: invalid_auth class=validation retryable=false command=AUTH"))

    def test_who_says_who_it_is(self) -> None:
        answers = self.ask("AUTH principal=alice token=wrong-secret")
        self.assertEqual(answers, ["ERROR: authentication_failed mechanism=PLAIN"])
        self.assertTrue(self.is_closed)

    def test_by_a_command(self) -> None:
        kept = new_credential("sha256", "token")
        broker = self.service.broker
        self.done(broker.credentials.change([ScramChange("bob", "SCRAM-SHA-256", kept)]))
        told = self.ask("LIST_OFFSETS principal=bob auth_token=token topic=t partition=0", "LIST_GROUPS")
        self.assertEqual(told[0].partition(" offsets=")[0], "OK topic=t partitions=1")
        self.assertEqual(told[1], "OK count=0 groups=")
        self.assertEqual(self.connection.principal, Principal("User", "bob"))
        self.assertEqual(self.ask("AUTH principal=bob token=x"), ["OK principal=bob authenticated=true"])
        self.assertIn("authentication_failed", self.ask("AUTH principal=alice token=x")[0])
        self.assertFalse(self.is_closed)

    def test_by_a_command_with_the_wrong_one(self) -> None:
        told = self.ask("LIST_OFFSETS principal=bob auth_token=token topic=t")
        self.assertEqual(told, ["ERROR: authentication_failed mechanism=PLAIN"])
        self.assertTrue(self.is_closed)

    def test_what_cannot_be_read(self) -> None:
        for words in (
            b"CREATE topic=a b",
            b"AUTH principal=\xff token=\xff",
            b"CREATE topic=" + b"x " * 40_000,
        ):
            self.assertIn(b"ERROR: ", self.exchange(framed(words))[4:])
            self.clock.advance(0.2)


def framed(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
