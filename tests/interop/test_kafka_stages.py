"""The first six stages of a Kafka broker, byte for byte over a socket, for a client written by hand."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from tests.brokers import BrokerProcess

pytestmark = pytest.mark.interop

CLIENT = b"\x00\x09kafka-cli\x00"
SOFTWARE = b"\x0akafka-cli\x040.1\x00"


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    off = {"mega": {"enabled": False}, "cursus": {"enabled": False}}
    with BrokerProcess({"storage": "memory", "protocols": off}) as started:
        yield started


def exchange(broker: BrokerProcess, *requests: bytes) -> list[bytes]:
    """Send framed requests on one connection; return the answers without their sizes."""
    answers = []
    with socket.create_connection(("127.0.0.1", broker.ports["kafka"]), 10) as connection:
        connection.sendall(b"".join(struct.pack(">i", len(one)) + one for one in requests))
        for _ in requests:
            (size,) = struct.unpack(">i", receive(connection, 4))
            answers.append(receive(connection, size))
    return answers


def receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = connection.recv(count - len(data))
        assert chunk, "closed early"
        data += chunk
    return data


def api_versions(version: int, correlation_id: bytes) -> bytes:
    return b"\x00\x12" + struct.pack(">h", version) + correlation_id + CLIENT + SOFTWARE


def test_correlation_ids_come_back_in_order(broker: BrokerProcess) -> None:
    first, second = exchange(
        broker, api_versions(4, b"\x00\x00\x00\x07"), api_versions(4, b"\x6f\x7f\xc6\x61")
    )
    assert first[:4] == b"\x00\x00\x00\x07"
    assert second[:4] == b"\x6f\x7f\xc6\x61"


@pytest.mark.parametrize("version", [5, 32767, -1])
def test_an_unsupported_version_is_error_35_in_the_form_of_version_0(
    broker: BrokerProcess, version: int
) -> None:
    [answer] = exchange(broker, api_versions(version, b"\x67\x89\x0a\xbc"))
    assert answer.hex(" ", -4) == "67890abc 00230000 00010012 00000004"


def test_api_versions_4_lists_what_is_served(broker: BrokerProcess) -> None:
    [answer] = exchange(broker, api_versions(4, b"\x67\x89\x0a\xbc"))
    assert answer[:6] == b"\x67\x89\x0a\xbc\x00\x00"
    count = answer[6] - 1
    rows = [answer[7 + 7 * n : 14 + 7 * n] for n in range(count)]
    assert b"\x00\x12\x00\x00\x00\x04\x00" in rows
    assert b"\x00\x4b\x00\x00\x00\x00\x00" in rows
    assert rows == sorted(rows)
    assert answer[7 + 7 * count :][:4] == b"\x00\x00\x00\x00"


def test_an_unknown_topic_is_described_by_error_3(broker: BrokerProcess) -> None:
    request = b"\x00\x4b\x00\x00\xab\xcd\xef\x12" + CLIENT + b"\x02\x04foo\x00" + b"\x00\x00\x00\x64\xff\x00"
    [answer] = exchange(broker, request)
    expected = (
        b"\xab\xcd\xef\x12\x00"
        b"\x00\x00\x00\x00"
        b"\x02"
        b"\x00\x03"
        b"\x04foo" + bytes(16) + b"\x00"
        b"\x01"
        b"\x00\x00\x00\x00"
        b"\x00"
        b"\xff"
        b"\x00"
    )
    assert answer == expected
    assert len(answer) == 0x29
