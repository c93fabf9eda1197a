"""MEGA bytes as written down by the protocol document and seen from the original client."""

from __future__ import annotations

import pytest

from megabroker.protocols.mega.codec import (
    Consume,
    CreateTopic,
    Dialect,
    MegaError,
    Produce,
    Request,
    RequestParser,
    encode_consumed,
    encode_created,
    encode_error,
    encode_produced,
)

REQUESTS: list[tuple[Dialect, str, Request]] = [
    (
        Dialect.DOCUMENTED,
        "00000005 03 00000003 616263 000000000000007b",
        CreateTopic(5, "abc", 123),
    ),
    (
        Dialect.ORIGINAL,
        "00000005 03 00000003 616263 000000000000007b 00000000",
        CreateTopic(5, "abc", 123),
    ),
    (
        Dialect.AUTO,
        "00000001 01 0000000a 746573742d746f706963 0000019a3e4d5c6b 0000000c 48656c6c6f2c204d45474121",
        Produce(1, "test-topic", 0x19A3E4D5C6B, b"Hello, MEGA!"),
    ),
    (
        Dialect.DOCUMENTED,
        "ffffffff 02 00000001 78 ffffffffffffffff 7fffffff",
        Consume(-1, "x", -1, 2**31 - 1),
    ),
    (
        Dialect.ORIGINAL,
        "00000002 02 00000001 78 0000000000000001 00000000 00000000",
        Consume(2, "x", 1, 0),
    ),
]


@pytest.mark.parametrize(("dialect", "wire", "expected"), REQUESTS)
def test_request(dialect: Dialect, wire: str, expected: Request) -> None:
    assert RequestParser(dialect=dialect).receive(bytes.fromhex(wire)) == [expected]
    assert RequestParser().receive(bytes.fromhex(wire)) == [expected]


def test_created() -> None:
    assert encode_created(5, 123, "abc") == bytes.fromhex("00000005 01 000000000000007b 0003 616263")


def test_produced() -> None:
    assert encode_produced(5, 123, 9) == bytes.fromhex("00000005 01 000000000000007b 00000009")


def test_consumed() -> None:
    assert encode_consumed(5, 123, 10, b"hi") == bytes.fromhex(
        "00000005 01 000000000000007b 0000000a 00000002 6869"
    )
    assert encode_consumed(-5, 123, 10, memoryview(b"")) == bytes.fromhex(
        "fffffffb 01 000000000000007b 0000000a 00000000"
    )


def test_error() -> None:
    assert encode_error(5, MegaError.TOPIC_NOT_FOUND) == bytes.fromhex("00000005 00 04")
    assert [int(code) for code in MegaError] == list(range(1, 10))
