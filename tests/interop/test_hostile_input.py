"""Bad input on every port: the documented answer or a clean close, bounded memory, one line, no harm done.

One broker for all of it, with short deadlines. A bystander of each protocol works all the while and must
never see an error; after every test the log must be free of tracebacks and the broker's memory bounded.
"""

from __future__ import annotations

import contextlib
import pathlib
import random
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from megabroker.client.mega import MessageClient
from megabroker.protocols.kafka.dispatch import SERVED
from tests.brokers import BrokerProcess
from tests.interop.wires import (
    MEGA_CONSUME,
    MEGA_CREATE,
    MEGA_PRODUCE,
    Bystanders,
    CursusWire,
    cursus_request,
    kafka_request,
    mega_request,
    receive,
    receive_all,
    resident_kib,
    until,
)

pytestmark = pytest.mark.interop

PARTIAL_SECONDS = 2
MIB = 1 << 20
KIB_PER_MIB = 1024

LIMITS = {
    "partial_frame_seconds": PARTIAL_SECONDS,
    "max_connections_per_address": 700,
    "in_flight_bytes": 100 * MIB,
    "output_buffer_bytes": MIB,
}

# What no test may leave behind, above the memory of a broker that has served each protocol: the decoded
# batches that MEGA and cursus may hold (64 MiB each), and what the allocator keeps of it (32 MiB).
LASTING_MIB = 160


class Scene:
    """The broker, the bystanders, and what was so before the present test."""

    def __init__(self, broker: BrokerProcess, bystanders: Bystanders) -> None:
        self.broker = broker
        self.bystanders = bystanders
        self.first_kib = self.resident_kib
        self._log_read = 0

    @property
    def resident_kib(self) -> int:
        assert self.broker.process is not None
        return resident_kib(self.broker.process.pid)

    def connect(self, protocol: str, timeout: float = 20) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.broker.ports[protocol]), timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def mark(self) -> None:
        self._log_read = len(self.broker.log)

    @property
    def new_log(self) -> str:
        return self.broker.log[self._log_read :]

    def lines(self) -> list[str]:
        return [line for line in self.new_log.splitlines() if " connection from 127.0.0.1:" in line]

    def growth_mib(self, before_kib: int, seconds: float = 0.5) -> float:
        """Watch the memory for a while; return the highest above ``before_kib``."""
        highest = self.resident_kib
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.05)
            highest = max(highest, self.resident_kib)
        return (highest - before_kib) / KIB_PER_MIB


@pytest.fixture(scope="module")
def place() -> Iterator[Scene]:
    with BrokerProcess({"limits": LIMITS}) as broker, Bystanders(broker.ports) as bystanders:
        with MessageClient("127.0.0.1", broker.ports["mega"]) as client:
            client.create_topic("t")
            client.produce("t", "first")
        yield Scene(broker, bystanders)
        print(f"\nbystanders: {bystanders.counts}, slowest {bystanders.slowest}")


@pytest.fixture
def scene(place: Scene) -> Iterator[Scene]:
    place.mark()
    before = dict(place.bystanders.counts)
    yield place
    until(
        lambda: (
            place.bystanders.faults
            or all(place.bystanders.counts[name] > before[name] + 2 for name in before)
        ),
        15,
        "the bystanders going on",
    )
    assert not place.bystanders.faults, place.bystanders.faults
    assert "Traceback" not in place.new_log, place.new_log[-5000:]
    assert "internal error" not in place.new_log
    until(lambda: place.growth_mib(place.first_kib, 0) < LASTING_MIB, 5, f"{LASTING_MIB} MiB more at most")


def mega_error(code: int, correlation_id: int = 1) -> bytes:
    return struct.pack(">iBB", correlation_id, 0, code)


def cursus_error(data: bytes) -> bool:
    """Whether this is exactly one frame that says what was wrong."""
    return len(data) > 4 and struct.unpack(">I", data[:4])[0] == len(data) - 4 and data[4:10] == b"ERROR:"


LONG = 200 * MIB

# protocol, name, what is sent, what comes back before the close, words of the one line in the log
CLOSING: list[tuple[str, str, bytes, bytes | Callable[[bytes], bool], str]] = [
    ("mega", "unknown type", struct.pack(">ib", 7, 99) + bytes(100), mega_error(2, 7), "type 99"),
    ("mega", "topic length negative", struct.pack(">ibi", 7, 1, -1) + bytes(100), mega_error(1, 7), "-1"),
    ("mega", "topic length oversized", struct.pack(">ibi", 7, 1, LONG), mega_error(1, 7), str(LONG)),
    (
        "mega",
        "HTTP",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        lambda data: data[4:] == b"\0\2",
        "how HTTP begins",
    ),
    ("mega", "Kafka", kafka_request(18, 3, b""), lambda data: data[4:] == b"\0\2", "how Kafka"),
    ("cursus", "oversized", struct.pack(">I", LONG) + b"abc", cursus_error, str(LONG)),
    ("cursus", "negative length", struct.pack(">i", -5) + b"abc", cursus_error, "bytes"),
    ("cursus", "HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", cursus_error, "bytes"),
    ("cursus", "topic beyond frame", struct.pack(">IH", 4, 500) + b"ab", cursus_error, "topic field"),
    ("cursus", "frame of one byte", struct.pack(">I", 1) + b"x", cursus_error, "1 byte"),
    ("kafka", "oversized", struct.pack(">i", LONG) + b"abc", b"", str(LONG)),
    ("kafka", "negative length", struct.pack(">i", -1) + b"abc", b"", "-1"),
    ("kafka", "too short", struct.pack(">i", 3) + b"abc", b"", "frame of 3"),
    ("kafka", "HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"", "how HTTP begins"),
    ("kafka", "TLS", bytes.fromhex("160301") + bytes(200), b"", "how TLS begins"),
    ("kafka", "unknown key", kafka_request(999, 0, b""), b"", "API key 999"),
    ("kafka", "negative key", kafka_request(-1, 0, b""), b"", "API key -1"),
    ("kafka", "unknown version", kafka_request(3, 99, b""), b"", "version 99"),
    ("kafka", "negative version", kafka_request(3, -1, b""), b"", "version -1"),
    ("kafka", "body cut short", kafka_request(3, 1, struct.pack(">i", 5)), b"", ""),
    ("kafka", "array of 2**31-1", kafka_request(3, 1, struct.pack(">i", 2**31 - 1)), b"", ""),
    (
        "kafka",
        "name not UTF-8",
        kafka_request(3, 1, struct.pack(">ih", 1, 2) + b"\xff\xfe"),
        b"",
        "",
    ),
]


@pytest.mark.parametrize(
    ("protocol", "data", "answer", "words"),
    [pytest.param(p, d, a, w, id=f"{p}-{name.replace(' ', '-')}") for p, name, d, a, w in CLOSING],
)
def test_answer_then_close(
    scene: Scene, protocol: str, data: bytes, answer: bytes | Callable[[bytes], bool], words: str
) -> None:
    with scene.connect(protocol) as connection:
        port = connection.getsockname()[1]
        connection.sendall(data)
        received = receive_all(connection)
    assert received == answer if isinstance(answer, bytes) else answer(received), received
    mine = until(lambda: [line for line in scene.lines() if f"127.0.0.1:{port} " in line], 5, "a line")
    assert len(mine) == 1, mine
    assert words in mine[0]
    assert f"{protocol} connection from" in mine[0]


def ask(connection: socket.socket, request: bytes, count: int) -> bytes:
    connection.sendall(request)
    return receive(connection, count)


def test_mega_refusals_that_keep_the_connection(scene: Scene) -> None:
    # Name, request, code of the answer.
    refused = [
        (mega_request(MEGA_PRODUCE, "t", struct.pack(">i", -7)), 1),
        (mega_request(MEGA_PRODUCE, "t", struct.pack(">i", 3 * MIB) + bytes(3 * MIB)), 3),
        (mega_request(MEGA_PRODUCE, "bad name", struct.pack(">i", 1) + b"x"), 1),
        (mega_request(MEGA_CREATE, "x" * 256, bytes(4)), 1),
        (mega_request(MEGA_CREATE, "", bytes(4)), 1),
        (struct.pack(">ibi", 1, MEGA_PRODUCE, 2) + b"\xff\xfe" + bytes(8) + struct.pack(">i", 1) + b"x", 1),
        (mega_request(MEGA_CONSUME, "none", bytes(8)), 4),
        (mega_request(MEGA_CONSUME, "t", struct.pack(">ii", -1, 0)), 6),
        (mega_request(MEGA_CONSUME, "t", struct.pack(">ii", 2**31 - 1, 0)), 6),
        (mega_request(MEGA_CREATE, "t", bytes(4)), 5),
    ]
    with scene.connect("mega") as connection:
        for request, code in refused:
            assert ask(connection, request, 6) == mega_error(code), request[:40]
        good = mega_request(MEGA_PRODUCE, "t", struct.pack(">i", 2) + b"ok")
        assert ask(connection, good, 17)[4] == 1
    assert not scene.lines()


def test_cursus_refusals_that_keep_the_connection(scene: Scene) -> None:
    refused = [
        (cursus_request("", b"FOO"), "ERROR: unknown command: FOO"),
        (cursus_request("", b""), "ERROR: empty command"),
        (struct.pack(">I", 0), "ERROR: empty command"),
        (cursus_request("", b"CREATE"), "ERROR: missing topic name"),
        (cursus_request("", b"CREATE x -3"), "ERROR: partitions must be a positive integer"),
        (cursus_request("", b"CREATE x 99999999999999999999"), "ERROR: partitions must be"),
        (cursus_request("", b"CREATE \xff\xfe 1"), "ERROR:"),
        (cursus_request("", b"CREATE ../../etc 1"), "ERROR:"),
        (cursus_request("", b"DELETE nowhere"), "ERROR: topic 'nowhere' not found"),
        (cursus_request("nowhere", b"hello"), "ERROR: topic 'nowhere' does not exist"),
        (cursus_request("t", b"CONSUME"), "ERROR: invalid CONSUME syntax"),
        (cursus_request("", b"PUBLISH t"), "ERROR: invalid PUBLISH syntax"),
        (struct.pack(">IH", 7, 2) + b"\xff\xfe\0\1\2", "ERROR: topic '"),
    ]
    with CursusWire(scene.broker.ports["cursus"]) as wire:
        for request, reply in refused:
            wire.socket.sendall(request)
            got = wire.reply().decode()
            assert got.startswith(reply), (request, got)
        assert wire.ask("PUBLISH t after all that").startswith("📤")
    for arguments, reply in {
        "t x 0": "ERROR: invalid partition ID",
        "t 0 x": "ERROR: invalid offset",
        "t 0 99999999999999999999999": "ERROR: invalid offset",
        "t 77 0": "ERROR: failed to get disk handler: topic t has partitions 0 to 0, not 77",
        "t 0 99999": "",
    }.items():
        with CursusWire(scene.broker.ports["cursus"]) as wire:
            wire.send("", f"CONSUME {arguments}".encode())
            assert receive_all(wire.socket) == (
                struct.pack(">I", len(reply)) + reply.encode() if reply else b""
            )
    assert not scene.lines()


def test_kafka_versions_that_have_an_answer(scene: Scene) -> None:
    with scene.connect("kafka") as connection:
        expected = struct.pack(">iihihhh", 16, 5, 35, 1, 18, 0, 4)
        assert ask(connection, kafka_request(18, 99, b"", 5), 20) == expected
        # Then as clients do: again with a version that both know.
        (size,) = struct.unpack(">i", ask(connection, kafka_request(18, 0, b"", 6), 4))
        assert receive(connection, size)[:6] == struct.pack(">ih", 6, 0)
    assert not scene.lines()


TRUNCATED = {
    "mega": mega_request(MEGA_PRODUCE, "t", struct.pack(">i", 1000) + bytes(500)),
    "cursus": cursus_request("t", bytes(1000))[:500],
    "kafka": kafka_request(3, 1, bytes(1000))[:500],
}


@pytest.mark.parametrize("protocol", list(TRUNCATED))
@pytest.mark.parametrize("cut", [3, 9, 400])
def test_truncated_then_closed(scene: Scene, protocol: str, cut: int) -> None:
    with scene.connect(protocol) as connection:
        port = connection.getsockname()[1]
        connection.sendall(TRUNCATED[protocol][:cut])
        connection.shutdown(socket.SHUT_WR)
        assert receive_all(connection) == b""
    (line,) = until(lambda: [line for line in scene.lines() if f":{port} " in line], 5, "a line")
    assert "in the middle of a frame" in line


def test_truncated_then_silent(scene: Scene) -> None:
    """All at once, so that the deadline is waited for once."""
    opened: list[tuple[str, socket.socket]] = []
    began = time.monotonic()
    for protocol, data in TRUNCATED.items():
        for cut in (1, 3, 7, 9, 400):
            connection = scene.connect(protocol)
            connection.sendall(data[:cut])
            opened.append((protocol, connection))
    for _, connection in opened:
        assert receive_all(connection) == b""
        connection.close()
    took = time.monotonic() - began
    assert PARTIAL_SECONDS - 0.5 < took < PARTIAL_SECONDS + 4, took
    lines = until(lambda: len(scene.lines()) >= len(opened) and scene.lines(), 5, "a line each")
    assert len(lines) == len(opened)
    assert all(f"incomplete for {PARTIAL_SECONDS} s" in line for line in lines)


def test_a_trickle_does_not_outlive_the_deadline(scene: Scene) -> None:
    """One byte now and then is not progress enough."""
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(contextlib.closing(scene.connect(protocol))) for protocol in TRUNCATED]
        began = time.monotonic()
        for at in range(40):
            alive = 0
            for connection, data in zip(opened, TRUNCATED.values(), strict=True):
                with contextlib.suppress(ConnectionError):
                    connection.sendall(data[at : at + 1])
                    alive += 1
            if not alive:
                break
            time.sleep(0.2)
        assert not alive
        assert time.monotonic() - began < PARTIAL_SECONDS + 4


def random_of_kafka(rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 4000))
    body = rng.randbytes(rng.randrange(0, 4000))
    if kind == 1:
        return struct.pack(">i", len(body)) + body
    served = rng.choice(list(SERVED.values()))
    version = rng.randint(served.first_version, served.last_version)
    if kind == 2:
        # Small numbers are more often lengths and counts that are possible.
        body = bytes(rng.choice((0, 0, 0, 1, 2, 3, 255, rng.randrange(256))) for _ in range(300))
    return kafka_request(served.api.key, version, body)


def random_of_mega(rng: random.Random) -> bytes:
    kind = rng.randrange(3)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 4000))
    name = rng.choice((b"t", b"nope", rng.randbytes(5)))
    head = struct.pack(">ibi", rng.randrange(2**31), rng.choice((1, 2, 3, 1, 2, 3, 4)), len(name)) + name
    return head + rng.randbytes(8) + (rng.randbytes(2000) if kind == 1 else bytes(2) + rng.randbytes(60))


def random_of_cursus(rng: random.Random) -> bytes:
    kind = rng.randrange(3)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 4000))
    body = rng.randbytes(rng.randrange(0, 3000))
    if kind == 1:
        return struct.pack(">I", len(body)) + body
    word = rng.choice((b"CONSUME", b"PUBLISH", b"CREATE", b"DELETE", b"SUBSCRIBE", b"LIST", b"HELP"))
    return cursus_request(rng.choice(("", "t", "x")), word + rng.choice((b" ", b"\0", b"")) + body[:200])


@pytest.mark.parametrize("protocol", ["kafka", "mega", "cursus"])
def test_random_frames(scene: Scene, protocol: str) -> None:
    rng = random.Random(f"{protocol} 1")
    make = {"kafka": random_of_kafka, "mega": random_of_mega, "cursus": random_of_cursus}[protocol]
    before_kib = scene.resident_kib
    count = 400
    open_at_once: list[socket.socket] = []
    for _ in range(count):
        connection = scene.connect(protocol)
        connection.settimeout(0.05)
        open_at_once.append(connection)
        with contextlib.suppress(ConnectionError, TimeoutError):
            connection.sendall(make(rng) + make(rng))
            connection.shutdown(socket.SHUT_WR)
        if len(open_at_once) == 40:
            for connection in open_at_once:
                with contextlib.suppress(TimeoutError):
                    receive_all(connection)
                connection.close()
            open_at_once.clear()
    assert scene.growth_mib(before_kib) < 64
    assert len(scene.lines()) <= count
    assert len(scene.new_log.splitlines()) < count + 100


def good_requests() -> dict[str, tuple[bytes, bytes]]:
    """A request of each protocol that changes nothing, and how its answer begins."""
    listed = cursus_request("", b"LIST")
    consume = mega_request(MEGA_CONSUME, "t", struct.pack(">ii", 0, 0), 17)
    versions = kafka_request(18, 0, b"", 17)
    return {
        "mega": (consume, struct.pack(">iB", 17, 1)),
        "cursus": (listed, b"\0\0"),
        "kafka": (versions, b"\0\0"),
    }


@pytest.mark.parametrize("protocol", ["kafka", "mega", "cursus"])
def test_one_byte_at_a_time(scene: Scene, protocol: str) -> None:
    request, answer = good_requests()[protocol]
    with scene.connect(protocol) as connection:
        for _ in range(3):
            for at in range(len(request)):
                connection.sendall(request[at : at + 1])
                if at % 5 == 0:
                    time.sleep(0.001)
            connection.settimeout(10)
            data = connection.recv(65536)
            assert data.startswith(answer), data
    assert not scene.lines()


@pytest.mark.parametrize("protocol", ["kafka", "mega", "cursus"])
def test_half_close_after_requests(scene: Scene, protocol: str) -> None:
    request, answer = good_requests()[protocol]
    with scene.connect(protocol) as connection:
        connection.sendall(request * 50)
        connection.shutdown(socket.SHUT_WR)
        data = receive_all(connection)
    assert data.startswith(answer)
    assert len(data) % 50 == 0
    assert data == data[: len(data) // 50] * 50
    assert not scene.lines()


@pytest.mark.parametrize("protocol", ["kafka", "mega", "cursus"])
def test_peers_that_never_read(scene: Scene, protocol: str) -> None:
    """Ten ask for 1 GB each and read nothing.

    The bound: for each twice the output buffer and three of the largest answers, and 24 MiB.
    """
    topic = f"big-{protocol}"
    with MessageClient("127.0.0.1", scene.broker.ports["mega"]) as client:
        client.create_topic(topic)
        for _ in range(8):
            assert client.produce(topic, random.Random(1).randbytes(1000_000))["success"]
    name = struct.pack(">h", len(topic)) + topic.encode()
    request = {
        "mega": mega_request(MEGA_CONSUME, topic, struct.pack(">ii", 0, 0)),
        "cursus": cursus_request("", f"CONSUME {topic} 0 0".encode()),
        "kafka": kafka_request(
            1,
            4,
            struct.pack(">iiiib", -1, 100, 1, 8 * MIB, 0)
            + struct.pack(">i", 1)
            + name
            + struct.pack(">iiqi", 1, 0, 0, 8 * MIB),
        ),
    }[protocol]
    before_kib = scene.resident_kib
    opened = []
    for _ in range(10):
        connection = scene.connect(protocol)
        connection.settimeout(0.2)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.append(connection)
        with contextlib.suppress(TimeoutError):
            connection.sendall(request * (1 if protocol == "cursus" else 1000))
    grown = scene.growth_mib(before_kib, 1.5)
    print(f"\nten {protocol} peers that never read: {grown:.0f} MiB")
    assert grown < 10 * (2 * LIMITS["output_buffer_bytes"] / MIB + 3) + 24
    for connection in opened:
        connection.close()


def test_connections_opened_and_dropped(scene: Scene) -> None:
    """1,500 over all ports, 500 at a time: none may stay counted, whatever way it went."""
    for protocol in ("kafka", "mega", "cursus"):
        opened = [scene.connect(protocol) for _ in range(500)]
        for at, connection in enumerate(opened):
            if at % 3 == 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif at % 3 == 1:
                connection.sendall(TRUNCATED[protocol][:2] if at % 2 else b"")
            connection.close()
    for protocol, (request, answer) in good_requests().items():
        with scene.connect(protocol) as connection:
            assert ask(connection, request, len(answer)) == answer
    assert "refused" not in scene.new_log
    assert scene.broker.process is not None
    descriptors = pathlib.Path(f"/proc/{scene.broker.process.pid}/fd")
    until(lambda: len(list(descriptors.iterdir())) < 200, 10, "descriptors given back")


@pytest.mark.parametrize("protocol", ["kafka", "cursus", "mega"])
def test_announced_and_not_sent(scene: Scene, protocol: str) -> None:
    """100 connections announce the most their wire takes and send nothing: 64 KiB each, and 16 MiB."""
    announcement = {
        "kafka": struct.pack(">i", 100 * MIB),
        "cursus": struct.pack(">I", 16 * MIB),
        "mega": mega_request(MEGA_PRODUCE, "t", struct.pack(">i", MIB)),
    }[protocol]
    before_kib = scene.resident_kib
    opened = [scene.connect(protocol) for _ in range(100)]
    for connection in opened:
        connection.sendall(announcement)
    grown = scene.growth_mib(before_kib, 1)
    print(f"\n100 {protocol} announcements: {grown:.1f} MiB")
    assert grown < 100 * 64 / KIB_PER_MIB + 16
    for connection in opened:
        assert receive_all(connection) == b""
        connection.close()


def test_announced_and_begun(scene: Scene) -> None:
    """100 times 2 MiB of 100 MiB: the budget of bytes in flight holds, and the deadline gives it back.

    Others wait meanwhile, at most until the deadline; none of them sees an error.
    """
    before_kib = scene.resident_kib
    opened = [scene.connect("kafka") for _ in range(100)]
    part = struct.pack(">i", 100 * MIB) + bytes(2 * MIB)
    for connection in opened:
        connection.settimeout(0.02)
        with contextlib.suppress(TimeoutError, ConnectionError):
            connection.sendall(part)
    grown = scene.growth_mib(before_kib, 1)
    print(f"\n100 frames of 100 MiB begun: {grown:.0f} MiB")
    # The budget, one receive buffer's growth beyond it for each connection, and the allocator's share.
    assert grown < 2 * LIMITS["in_flight_bytes"] / MIB + 32
    for connection in opened:
        connection.settimeout(20)
        assert receive_all(connection) == b""
        connection.close()
    until(lambda: scene.growth_mib(before_kib, 0.1) < 48, 10, "memory given back")


def test_connection_limits() -> None:
    limits = {"max_connections": 6, "max_connections_per_address": 4}
    with BrokerProcess({"limits": limits}) as broker:

        def connect(protocol: str, source: str) -> socket.socket:
            return socket.create_connection(("127.0.0.1", broker.ports[protocol]), 10, (source, 0))

        def works(connection: socket.socket, protocol: str) -> bool:
            request, answer = good_requests()[protocol]
            with contextlib.suppress(ConnectionError):
                connection.sendall(request)
                return receive(connection, 4)[:1] == answer[:1]
            return False

        order = ["kafka", "mega", "cursus", "kafka"]
        good = [(connect(protocol, "127.0.0.1"), protocol) for protocol in order]
        assert all(works(*one) for one in good)
        for _ in range(40):
            with connect("kafka", "127.0.0.1") as refused:
                assert not works(refused, "kafka")
        good += [(connect(protocol, "127.0.0.2"), protocol) for protocol in ("mega", "kafka")]
        assert all(works(*one) for one in good[4:])
        with connect("mega", "127.0.0.3") as refused:
            assert not works(refused, "mega")
        good.pop(0)[0].close()

        def admitted() -> bool:
            with connect("mega", "127.0.0.1") as again:
                return works(again, "mega")

        until(admitted, 5, "room for another")
        assert all(connection.send(b"") == 0 for connection, _ in good)
        assert broker.stop() == 0
        lines = [line for line in broker.log.splitlines() if " refused " in line]
        assert 2 <= len(lines) < 12, lines
        assert "limits.max_connections_per_address is 4" in lines[0]
        assert any("limits.max_connections is 6" in line for line in lines)
        assert re.search(r"from 127\.0\.0\.1 refused \(32 so far\)", broker.log)
        assert "Traceback" not in broker.log
