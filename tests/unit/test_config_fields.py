"""Kinds of keys: what each accepts, and what it says when it does not."""

from __future__ import annotations

import enum
import pathlib
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megabroker.config import fields
from megabroker.config.endpoint import parse_endpoint
from megabroker.config.kinds import (
    INVALID,
    Choice,
    DurationMs,
    Endpoint,
    Flag,
    Integer,
    Kind,
    Number,
    Optional,
    Path,
    SizeBytes,
    Text,
)
from megabroker.config.structure import keys, structure
from megabroker.errors import Fault


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


ACCEPTED: list[tuple[Kind, object, object]] = [
    (Integer(0, 10), 0, 0),
    (Integer(0, 10), 10, 10),
    (Integer(1, 10, unlimited=True), -1, -1),
    (Number(0, 1), 1, 1.0),
    (Flag(), False, False),
    (Text(), "x", "x"),
    (Text(empty=True), "", ""),
    (Text("[a-z]+"), "abc", "abc"),
    (Choice.of(["0", "1", "all"]), 1, "1"),
    (Choice.of(["0", "1", "all"]), "all", "all"),
    (Choice.of(Colour), "blue", Colour.BLUE),
    (DurationMs(), 1500, 1500),
    (DurationMs(), "1500ms", 1500),
    (DurationMs(), "30 s", 30_000),
    (DurationMs(), "30m", 1_800_000),
    (DurationMs(), "12h", 43_200_000),
    (DurationMs(), "7d", 604_800_000),
    (DurationMs(unlimited=True), "-1", -1),
    (SizeBytes(), 4096, 4096),
    (SizeBytes(), "4096", 4096),
    (SizeBytes(), "64KiB", 65_536),
    (SizeBytes(), "64MiB", 67_108_864),
    (SizeBytes(), "1GiB", 1 << 30),
    (SizeBytes(), "10MB", 10_000_000),
    (SizeBytes(unlimited=True), -1, -1),
    (Path(), "/var/lib/x", pathlib.Path("/var/lib/x")),
    (Endpoint(), "tcp:9092:interface=127.0.0.1", "tcp:9092:interface=127.0.0.1"),
    (Endpoint(), "unix:/run/x.sock:mode=660", "unix:/run/x.sock:mode=660"),
    (Optional(Integer(1)), None, None),
    (Optional(Integer(1)), 1, 1),
]

REFUSED: list[tuple[Kind, object]] = [
    (Integer(0, 10), -1),
    (Integer(0, 10), 11),
    (Integer(), True),
    (Integer(), 1.0),
    (Integer(), "1"),
    (Integer(), None),
    (Integer(1, 10, unlimited=True), -2),
    (Integer(1, 10, unlimited=True), 0),
    (Number(), float("nan")),
    (Number(), float("inf")),
    (Number(), False),
    (Flag(), 0),
    (Flag(), "true"),
    (Text(), ""),
    (Text(), 5),
    (Text("[a-z]+"), "abc\n"),
    (Choice.of(["0", "1"]), False),
    (Choice.of(["0", "1"]), 2),
    (Choice.of(Colour), "RED"),
    (Choice.of(Colour), ["red"]),
    (DurationMs(), "30M"),
    (DurationMs(), "1.5s"),
    (DurationMs(), "s"),
    (DurationMs(), "-1"),
    (DurationMs(), True),
    (DurationMs(maximum=1000), "2s"),
    (DurationMs(), "9" * 5000 + "s"),
    (SizeBytes(), "64 mib"),
    (SizeBytes(), "64MiB "),
    (SizeBytes(minimum=10), 9),
    (SizeBytes(), 1.5),
    (Path(), ""),
    (Path(), "a\0b"),
    (Endpoint(), 9092),
    (Endpoint(), ""),
    (Optional(Integer(1)), 0),
    (Optional(Text()), 3),
]


@pytest.mark.parametrize(("kind", "value", "expected"), ACCEPTED)
def test_accepts(kind: Kind, value: object, expected: object) -> None:
    faults: list[Fault] = []
    assert kind.read(value, "k", faults) == expected
    assert faults == []


@pytest.mark.parametrize(("kind", "value"), REFUSED)
def test_refuses(kind: Kind, value: object) -> None:
    faults: list[Fault] = []
    assert kind.read(value, "a.b", faults) is INVALID
    assert len(faults) == 1
    assert faults[0].path == "a.b"
    assert faults[0].expected
    assert len(str(faults[0])) < 600


@given(st.integers(min_value=0, max_value=1 << 50))
@settings(max_examples=100)
def test_what_is_shown_reads_back(value: int) -> None:
    for kind in (SizeBytes(), DurationMs()):
        assert kind.convert(kind.show(value)) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("tcp", "the port"),
        ("tcp:", "the port"),
        ("tcp:x", "the port"),
        ("tcp:65536", "the port"),
        ("tcp:-1", "the port"),
        ("tcp:1:interface=::1", "interface is given twice"),
        ("tcp:1:host=x", "no option 'host'"),
        ("tcp:1:backlog=many", "backlog"),
        ("tcp:1:port=2:port=3", "given twice"),
        ("unix:", "names a file"),
        ("unix:/a:mode=999", "octal"),
        ("tpc:9092", "Unknown endpoint type"),
        (":9092", "begins with a type"),
        ("ssl:9093:privateKey=/does/not/exist.pem", "No such file"),
    ],
)
def test_endpoint_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_endpoint(text)


def test_endpoint_parts() -> None:
    found = parse_endpoint(r"tcp:port=0:interface=\:\:1:backlog=10")
    assert (found.type, found.port, found.interface) == ("tcp", 0, "::1")
    assert parse_endpoint("tcp:9092").interface == ""
    assert parse_endpoint(r"unix:/run/a\:b").address == "/run/a:b"
    assert parse_endpoint("unix:/run/a").port is None


@given(st.text(max_size=40).map(lambda tail: "tcp:" + tail))
@settings(max_examples=100)
def test_endpoint_raises_only_value_error(text: str) -> None:
    try:
        found = parse_endpoint(text)
    except ValueError:
        return
    assert found.port is not None
    assert 0 <= found.port <= 65535


@attrs.frozen(kw_only=True)
class Inner:
    size: int = fields.size_bytes(1024, minimum=1, doc="A size.", reloadable=True)
    name: str = fields.text(doc="A name.")


@attrs.frozen(kw_only=True)
class Outer:
    inner: tuple[Inner, ...] = fields.listing(of=Inner, maximum=2, doc="Inner ones.")
    limits: dict[str, int] = fields.mapping({"a": 1}, of=Integer(0, 9), doc="Limits by name.")
    words: tuple[str, ...] = fields.listing(["x"], of=Text(), doc="Words.")
    low: int = fields.integer(1, minimum=0, doc="Low.")
    high: int = fields.integer(2, minimum=0, doc="High.")

    def faults(self) -> Any:
        if self.low > self.high:
            yield Fault("low", self.low, "no more than high")


def test_structure_builds_nested_values() -> None:
    faults: list[Fault] = []
    value = {"inner": [{"name": "n", "size": "2KiB"}], "limits": {"b": 3}, "words": ["p", "q"]}
    built = structure(Outer, value, "", faults)
    assert faults == []
    assert built == Outer(inner=(Inner(name="n", size=2048),), limits={"b": 3}, words=("p", "q"))


def test_structure_finds_every_fault() -> None:
    faults: list[Fault] = []
    value = {
        "inner": [{"size": 0, "naem": "x"}, 5],
        "limits": {"a": 10, 3: 1},
        "words": "p",
        "hihg": 4,
        "limits.a.b": 4,
        "node.id": 4,
    }
    assert structure(Outer, value, "top", faults) is INVALID
    found = {fault.path: fault.expected for fault in faults}
    assert set(found) == {
        "top.inner[0].size",
        "top.inner[0].naem",
        "top.inner[0].name",
        "top.inner[1]",
        "top.limits.a",
        "top.limits.3",
        "top.words",
        "top.hihg",
        "top.limits.a.b",
        "top.node.id",
    }
    assert "did you mean name?" in found["top.inner[0].naem"]
    assert "required" in found["top.inner[0].name"]
    assert "did you mean high?" in found["top.hihg"]
    assert found["top.limits.a.b"] == "it nested: limits:, below that a:, below that b:"
    assert "nested" not in found["top.node.id"]


def test_structure_checks_across_keys() -> None:
    faults: list[Fault] = []
    assert structure(Outer, {"low": 5}, "top", faults) is INVALID
    assert faults == [Fault("top.low", 5, "no more than high")]


def test_too_long_a_list_is_refused_before_its_entries_are_read() -> None:
    faults: list[Fault] = []
    assert structure(Outer, {"inner": [{}] * 3}, "", faults) is INVALID
    assert [fault.path for fault in faults] == ["inner"]
    assert repr(faults[0].value) == "a list of 3"


def test_default_mapping_is_not_shared() -> None:
    first, second = Outer(), Outer()
    assert first.limits == {"a": 1}
    assert first.limits is not second.limits


def test_keys_describe_the_schema() -> None:
    described = {key.path: key.note for key in keys(Outer)}
    assert described["inner[].size"] == "bytes, 1 to any; default 1KiB; reloadable"
    assert described["inner[].name"] == "required; restart"
    assert described["limits"] == "default {a: 1}; restart"
