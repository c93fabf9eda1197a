"""Bad input on ports with TLS, of every wire: before, within and behind the handshake; nobody else is harmed.

One broker with short deadlines, and bystanders on ports without TLS that must never see an error. What speaks
TLS here does so by ``ssl.MemoryBIO``, so that each byte and each record is ours to send, spoil or keep.
"""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
import time
from collections.abc import Iterator

import pytest
from OpenSSL import SSL

from tests.brokers import BrokerProcess
from tests.interop.certificates import Certificates
from tests.interop.conftest import check_log
from tests.interop.secured import addresses, listener
from tests.interop.wires import (
    MEGA_CONSUME,
    Bystanders,
    cursus_request,
    kafka_request,
    mega_request,
    receive_all,
    resident_kib,
    until,
)

pytestmark = pytest.mark.interop

WIRES = ("kafka", "mega", "cursus")
GREETING_SECONDS, PARTIAL_SECONDS = 2, 2
MIB = 1 << 20
LASTING_KIB = 128 * 1024

GOOD = {
    "kafka": (kafka_request(18, 0, b"", 17), struct.pack(">i", 17)),
    "mega": (mega_request(MEGA_CONSUME, "none", bytes(8), 17), struct.pack(">iBB", 17, 0, 4)),
    "cursus": (cursus_request("", b"LIST"), b""),
}
"""A request of each wire that is answered soon, and what its answer holds."""

HUGE = {
    "kafka": struct.pack(">i", 200 * MIB) + b"abc",
    "mega": struct.pack(">ibi", 7, 1, 200 * MIB),
    "cursus": struct.pack(">I", 200 * MIB) + b"abc",
}


class Place:
    """The broker and where its ports with TLS are."""

    def __init__(self, broker: BrokerProcess, certificates: Certificates) -> None:
        self.broker = broker
        self.certificates = certificates
        self.plain: dict[str, int] = {}
        self.tls: dict[str, int] = {}
        for wire in WIRES:
            self.plain[wire], self.tls[wire] = (
                int(address.rpartition(":")[2]) for address in addresses(broker, wire)
            )

    def connect(self, wire: str) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.tls[wire]), 20)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def speak(self, wire: str, **options: ssl.TLSVersion) -> Speaker:
        return Speaker(self.connect(wire), self.certificates, **options)


class Speaker:
    """A client whose TLS is ours byte by byte."""

    def __init__(
        self, connection: socket.socket, certificates: Certificates, newest: ssl.TLSVersion | None = None
    ) -> None:
        self.socket = connection
        context = certificates.context()
        if newest is not None:
            context.maximum_version = newest
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="127.0.0.1")

    def hello(self) -> bytes:
        """Return the first flight."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._out.read()

    def shake(self, piece: int = 1 << 20) -> None:
        """Shake hands, sending so many bytes at a time."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.send(self._out.read(), piece)
                self._in.write(self._more())
            else:
                self.send(self._out.read(), piece)
                return

    def send(self, data: bytes, piece: int = 1 << 20) -> None:
        for start in range(0, len(data), piece):
            self.socket.sendall(data[start : start + piece])

    def _more(self) -> bytes:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("closed")
        return data

    def records(self, data: bytes, piece: int = 1 << 14) -> bytes:
        """Return ``data`` as records of so many bytes."""
        for start in range(0, len(data), piece):
            self.tls.write(data[start : start + piece])
        return self._out.read()

    def read(self) -> bytes:
        """Return some of what comes; nothing when the peer has closed."""
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                try:
                    self._in.write(self._more())
                except ConnectionError:
                    return b""
            except ssl.SSLError:
                return b""

    def asks(self, wire: str, piece: int = 1 << 14) -> None:
        """Ask something, in records of so many bytes, and have it answered."""
        request, answer = GOOD[wire]
        self.send(self.records(request, piece))
        found = self.read()
        assert found, wire
        assert answer in found

    def __enter__(self) -> Speaker:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))
    config = {
        "durability": "os",
        "limits": {"unauthenticated_seconds": GREETING_SECONDS, "partial_frame_seconds": PARTIAL_SECONDS},
        "protocols": {
            wire: {"listeners": [listener("plain"), listener("tls", tls=certificates.tls())]}
            for wire in WIRES
        },
    }
    with BrokerProcess(config) as process:
        made = Place(process, certificates)
        with Bystanders(made.plain) as bystanders:
            yield made
        print(f"\nbystanders: {bystanders.counts}, slowest {bystanders.slowest}")
        assert process.stop() == 0
        check_log(process.log)


@pytest.fixture
def place(broker: Place) -> Iterator[Place]:
    """Afterwards all connections are gone, memory is bounded, and each port still serves."""
    assert broker.broker.process is not None
    pid = broker.broker.process.pid
    before = resident_kib(pid)
    yield broker
    for wire in WIRES:
        with broker.speak(wire) as speaker:
            speaker.shake()
            speaker.asks(wire)
    assert "Traceback" not in broker.broker.log
    until(lambda: resident_kib(pid) - before < LASTING_KIB, 5, "the memory back")


@pytest.mark.parametrize("wire", WIRES)
def test_garbage_in_the_place_of_a_handshake(place: Place, wire: str) -> None:
    rng = random.Random(f"{wire} garbage")
    with place.speak(wire) as speaker:
        hello = speaker.hello()
    for number in range(60):
        kind = number % 4
        if kind == 0:
            data = rng.randbytes(rng.randrange(1, 3000))
        elif kind == 1:  # a record of any type that holds anything
            body = rng.randbytes(rng.randrange(0, 600))
            data = bytes([rng.randrange(20, 25), 3, rng.randrange(5)]) + struct.pack(">H", len(body)) + body
        elif kind == 2:  # a greeting with some bytes spoilt
            spoilt = bytearray(hello)
            for _ in range(rng.randrange(1, 6)):
                spoilt[rng.randrange(5, len(hello))] = rng.randrange(256)
            data = bytes(spoilt)
        else:  # a greeting, and then what is none
            data = hello + rng.randbytes(rng.randrange(1, 3000))
        with place.connect(wire) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            receive_all(connection)


def test_half_a_handshake(place: Place) -> None:
    """Cut anywhere, and then silence: the greeting's deadline ends it, all of them at once."""
    opened = []
    for wire in WIRES:
        with place.speak(wire) as speaker:
            hello = speaker.hello()
        for cut in (*range(12), 40, len(hello) // 2, len(hello) - 1, len(hello)):
            connection = place.connect(wire)
            connection.sendall(hello[:cut])
            opened.append(connection)
    began = time.monotonic()
    for connection in opened:
        receive_all(connection)
        connection.close()
    assert GREETING_SECONDS - 1 < time.monotonic() - began < GREETING_SECONDS + 4


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_records_that_are_split_anywhere(place: Place, wire: str, newest: ssl.TLSVersion) -> None:
    """One byte at a time, and a request in as many records as it has bytes."""
    with place.speak(wire, newest=newest) as speaker:
        speaker.shake(piece=1)
        speaker.asks(wire)
        speaker.asks(wire, piece=1)
        request, answer = GOOD[wire]
        records = speaker.records(request)
        for cut in range(1, len(records)):
            speaker.send(records[:cut])
            time.sleep(0.0005)
            speaker.send(records[cut:])
            found = speaker.read()
            assert answer in found
            records = speaker.records(request)


@pytest.mark.parametrize("wire", WIRES)
def test_a_spoilt_record_ends_its_connection(place: Place, wire: str) -> None:
    rng = random.Random(f"{wire} spoilt")
    for _ in range(20):
        with place.speak(wire) as speaker:
            speaker.shake()
            records = bytearray(speaker.records(GOOD[wire][0]))
            records[rng.randrange(5, len(records))] ^= 1 << rng.randrange(8)
            speaker.send(bytes(records))
            receive_all(speaker.socket)


@pytest.mark.parametrize("wire", WIRES)
def test_a_huge_frame_behind_the_handshake(place: Place, wire: str) -> None:
    with place.speak(wire) as speaker:
        speaker.shake()
        speaker.send(speaker.records(HUGE[wire]))
        began = time.monotonic()
        while speaker.read():
            pass
        assert time.monotonic() - began < PARTIAL_SECONDS


def test_trickles_have_deadlines(place: Place) -> None:
    """A byte of the handshake now and then, and a byte of a frame behind it."""
    began = time.monotonic()
    slow, frames = [], []
    for wire in WIRES:
        with place.speak(wire) as speaker:
            hello = speaker.hello()
        slow.append((place.connect(wire), hello))
        speaker = place.speak(wire)
        speaker.shake()
        frames.append((speaker, cursus_request("t", bytes(1000)) if wire == "cursus" else HUGE[wire][:3]))
    for at in range(40):
        for connection, hello in slow:
            with contextlib.suppress(OSError):
                connection.sendall(hello[at : at + 1])
        for speaker, frame in frames:
            with contextlib.suppress(OSError):
                speaker.send(speaker.records(frame[at : at + 1]))
        time.sleep(0.1)
    for connection in (*(one for one, _ in slow), *(one.socket for one, _ in frames)):
        receive_all(connection)
        connection.close()
    assert time.monotonic() - began < max(GREETING_SECONDS, PARTIAL_SECONDS) + 4


@pytest.mark.parametrize("wire", WIRES)
def test_renegotiation_is_refused(place: Place, wire: str) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    with place.connect(wire) as raw:
        raw.settimeout(None)
        connection = SSL.Connection(context, raw)
        connection.set_connect_state()
        connection.do_handshake()
        assert connection.get_protocol_version_name() == "TLSv1.2"
        handshakes = 0
        with contextlib.suppress(SSL.Error, OSError):
            for _ in range(50):
                connection.renegotiate()
                connection.do_handshake()
                handshakes += connection.total_renegotiations()
        assert not handshakes


def test_many_who_greet_at_once_and_ask_much(place: Place) -> None:
    """A hundred connections, each with hundreds of requests in one go; bystanders go on meanwhile."""
    speakers = []
    for _ in range(100):
        speaker = place.speak("kafka")
        speaker.shake()
        speakers.append(speaker)
    data = kafka_request(18, 0, b"", 17) * 200
    for speaker in speakers:
        speaker.send(speaker.records(data))
    for speaker in speakers:
        size = 0
        first = speaker.read()
        each = 4 + struct.unpack(">i", first[:4])[0]
        size += len(first)
        while size < 200 * each:
            found = speaker.read()
            assert found
            size += len(found)
        assert size == 200 * each
        speaker.socket.close()


def test_the_log_says_what_was_wrong_and_not_too_often(place: Place) -> None:
    for words in (
        "TLS failed: ",
        f"did not complete the TLS handshake within {GREETING_SECONDS} s",
        " more from ",
    ):
        until(lambda words=words: words in place.broker.log, 12, words)
    assert place.broker.log.count("refused: ") < 40
