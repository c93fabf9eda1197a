"""What TLS costs: the same requests over a port with it and one without, round by round.

    python -m bench.tls --seconds 3 --rounds 3

One connection of Python's blocking sockets, a few requests ahead, against a broker of its own process, both
kinds in the same run. The client encrypts too; what counts is the broker's processor time. Batches are sent
to one partition with acks 1, and read again from the page cache.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import socket
import ssl
import statistics
import struct
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from bench.processes import cpu_seconds
from megabroker.client.mega import MessageClient
from megabroker.codec.batch import build
from megabroker.protocols.kafka.schema import fetch, produce
from megabroker.protocols.kafka.schema.fields import Message
from tests.brokers import BrokerProcess
from tests.interop.certificates import Certificates

__all__ = ["Cost", "main", "measured"]

_AHEAD = 4
_MIB = 1 << 20
_SIZES = {"16 KB": 16_000, "1 MB": 1_000_000}


class Cost(NamedTuple):
    """What some requests of one kind took.

    Attributes:
        mb_per_second: payload.
        mb_per_cpu_second: payload by the broker's processor time.
    """

    mb_per_second: float
    mb_per_cpu_second: float


def main() -> None:
    """Run what the command line asks for, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.tls", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3, help="for each kind of request, each round")
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    print("| | plain, MB/s; MB by CPU s | TLS, MB/s; MB by CPU s | CPU of TLS to plain |\n|--|--|--|--|")
    for name, (plain, tls) in measured(wanted.seconds, wanted.rounds).items():
        ratio = statistics.median(
            one.mb_per_cpu_second / other.mb_per_cpu_second for one, other in zip(plain, tls, strict=True)
        )
        print(f"| {name} | {_medians(plain)} | {_medians(tls)} | {ratio:.2f} |")


def measured(seconds: float, rounds: int) -> dict[str, tuple[list[Cost], list[Cost]]]:
    """Return by kind of request what it cost in each round, without TLS and with."""
    found: dict[str, tuple[list[Cost], list[Cost]]] = {}
    with tempfile.TemporaryDirectory(prefix="megabroker-bench-tls-") as place:
        certificates = Certificates(pathlib.Path(place))
        listeners = [
            {"name": "plain", "endpoint": "tcp:0:interface=127.0.0.1"},
            {"name": "tls", "endpoint": "tcp:0:interface=127.0.0.1", "tls": certificates.tls()},
        ]
        config = {"durability": "os", "protocols": {"kafka": {"listeners": listeners}}}
        with BrokerProcess(config) as broker:
            plain, tls = (int(port) for port in re.findall(r"kafka at 127\.0\.0\.1:(\d+)", broker.log))
            with MessageClient("127.0.0.1", broker.ports["mega"]) as client:
                for number in range(len(_SIZES)):
                    client.create_topic(f"t{number}")
            assert broker.process is not None
            for _ in range(rounds):
                for kind, port in enumerate((plain, tls)):
                    context = certificates.context() if port == tls else None
                    for name, cost in _round(port, context, broker.process.pid, seconds):
                        found.setdefault(name, ([], []))[kind].append(cost)
    return found


def _round(port: int, context: ssl.SSLContext | None, pid: int, seconds: float) -> Iterator[tuple[str, Cost]]:
    for number, (name, size) in enumerate(_SIZES.items()):
        batch = bytes(build([(None, bytes(size), [], 1_700_000_000_000)]))
        rows = [produce.Request.Topic.Partition(index=0, records=batch)]
        topics: list[Any] = [produce.Request.Topic(name=f"t{number}", partition_data=rows)]
        request = _framed(produce.Request(acks=1, timeout_ms=30_000, topic_data=topics), 0, 7)
        with _connected(port, context) as connection:
            yield f"produce, batches of {name}", _asked(connection, request, size, pid, seconds)
        wanted = fetch.Request.Topic.Partition(partition=0, fetch_offset=0, partition_max_bytes=size)
        reads = fetch.Request(
            max_wait_ms=1000,
            min_bytes=1,
            max_bytes=size,
            session_epoch=-1,
            topics=[fetch.Request.Topic(topic=f"t{number}", partitions=[wanted])],
        )
        with _connected(port, context) as connection:
            yield f"fetch, answers of {name}", _asked(connection, _framed(reads, 1, 11), size, pid, seconds)


def _framed(request: Message, key: int, version: int) -> bytes:
    data = struct.pack(">hhih", key, version, 1, 0) + bytes(request.encode(version))
    return struct.pack(">i", len(data)) + data


def _connected(port: int, context: ssl.SSLContext | None) -> socket.socket:
    raw = socket.create_connection(("127.0.0.1", port), 20)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return raw if context is None else context.wrap_socket(raw, server_hostname="127.0.0.1")


def _asked(connection: socket.socket, request: bytes, size: int, pid: int, seconds: float) -> Cost:
    buffer = memoryview(bytearray(2 * _MIB))
    for _ in range(_AHEAD):
        connection.sendall(request)
    _answer(connection, buffer)  # which also imports what serves it
    connection.sendall(request)
    began, cpu, count = time.monotonic(), cpu_seconds(pid), 0
    while time.monotonic() - began < seconds:
        _answer(connection, buffer)
        connection.sendall(request)
        count += 1
    took, cpu = time.monotonic() - began, cpu_seconds(pid) - cpu
    for _ in range(_AHEAD):
        _answer(connection, buffer)
    return Cost(count * size / took / 1e6, count * size / cpu / 1e6)


def _answer(connection: socket.socket, buffer: memoryview) -> None:
    _receive(connection, buffer[:4])
    (size,) = struct.unpack(">i", buffer[:4])
    _receive(connection, buffer[:size])


def _receive(connection: socket.socket, into: memoryview) -> None:
    while into:
        count = connection.recv_into(into)
        assert count, "the broker closed the connection"
        into = into[count:]


def _medians(costs: list[Cost]) -> str:
    speed = statistics.median(one.mb_per_second for one in costs)
    return f"{speed:,.0f}; {statistics.median(one.mb_per_cpu_second for one in costs):,.0f}"


if __name__ == "__main__":
    main()
