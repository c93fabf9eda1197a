"""Pieces of the console that need no broker: sessions, tokens of forms, what is shown of bytes, samples."""

from __future__ import annotations

import hashlib
import pathlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

import megabroker.http.console
from megabroker.http.console.history import MOST_SAMPLES, Histories, History, rates
from megabroker.http.console.measuring import COUNTS, latency_quantile
from megabroker.http.console.sessions import FormTokens, Sessions
from megabroker.http.console.text import grouped, moment, parse_moment, shown, size, visible
from megabroker.http.console.view import local_path
from megabroker.model import Principal

_STATIC = pathlib.Path(megabroker.http.console.__file__).parent / "static"
ALICE, BOB = Principal("User", "alice"), Principal("User", "bob")


class Time:
    """A clock that is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class SessionTests(SynchronousTestCase):
    """Log-ins are bounded, end in time, and with the password they were begun with."""

    def setUp(self) -> None:
        self.time = Time()
        self.credentials = {"alice": {"SCRAM-SHA-256": "one"}, "bob": {}}
        self.sessions = Sessions(self.time, lambda name: self.credentials.get(name, {}))

    def test_found_while_it_is_used(self) -> None:
        token = self.sessions.begin(ALICE, 100, 10).token
        for _ in range(5):
            self.time.now += 99
            found = self.sessions.find(token, 100)
            assert found is not None
            assert found.principal == ALICE
        self.time.now += 100
        assert self.sessions.find(token, 100) is None
        assert len(self.sessions) == 0

    def test_ends_with_the_password(self) -> None:
        alice, bob = self.sessions.begin(ALICE, 100, 10), self.sessions.begin(BOB, 100, 10)
        self.credentials["alice"] = {"SCRAM-SHA-256": "another"}
        assert self.sessions.find(alice.token, 100) is None
        assert self.sessions.find(bob.token, 100) is not None

    def test_ends_with_the_user(self) -> None:
        token = self.sessions.begin(ALICE, 100, 10).token
        del self.credentials["alice"]
        assert self.sessions.find(token, 100) is None

    def test_the_one_used_longest_ago_goes(self) -> None:
        users = [Principal("User", name) for name in ("alice", "carl", "dora")]
        tokens = [self.sessions.begin(user, 100, 3).token for user in users]
        self.sessions.find(tokens[0], 100)
        self.sessions.begin(BOB, 100, 3)
        assert len(self.sessions) == 3
        assert self.sessions.find(tokens[1], 100) is None
        assert self.sessions.find(tokens[0], 100) is not None

    def test_one_user_does_not_end_the_sessions_of_others(self) -> None:
        bob = self.sessions.begin(BOB, 100, 30).token
        alices = [self.sessions.begin(ALICE, 100, 30).token for _ in range(50)]
        assert len(self.sessions) == 4
        assert self.sessions.find(bob, 100) is not None
        assert [token for token in alices if self.sessions.find(token, 100) is not None] == alices[-3:]

    def test_those_that_have_ended_make_room_first(self) -> None:
        for _ in range(50):
            self.sessions.begin(ALICE, 100, 1000)
        assert len(self.sessions) == 50
        self.time.now += 100
        self.sessions.begin(ALICE, 100, 1000)
        assert len(self.sessions) == 1

    def test_tokens_differ_and_none_is_guessed(self) -> None:
        tokens = {self.sessions.begin(ALICE, 100, 1000).token for _ in range(50)}
        assert len(tokens) == 50
        assert min(map(len, tokens)) >= 43
        for wrong in ("", "x", next(iter(tokens))[:-1]):
            assert self.sessions.find(wrong, 100) is None


class FormTokenTests(SynchronousTestCase):
    """A form's token holds for whom it was made, for a time."""

    def test_holds_for_one(self) -> None:
        time = Time()
        tokens = FormTokens(time)
        token = tokens.make("alice")
        assert tokens.holds(token, "alice")
        assert not tokens.holds(token, "bob")
        assert not FormTokens(time).holds(token, "alice")
        time.now += 12 * 3600
        assert not tokens.holds(token, "alice")

    def test_a_later_end_does_not_hold(self) -> None:
        tokens = FormTokens(Time())
        ends, mac = tokens.make("alice").split(".")
        assert not tokens.holds(f"{int(ends) + 1}.{mac}", "alice")


@given(st.text(max_size=60))
def test_no_token_that_is_made_up_holds(text: str) -> None:
    """Whatever is sent."""
    assert not FormTokens(Time()).holds(text, "alice")


def test_what_acts_on_text_is_shown_as_signs() -> None:
    """Control characters, those that turn the direction round, those of no width."""
    assert visible("a\x00b\x1b[31m\x7f") == "a\u2400b\u241b[31m\u2421"
    assert visible("a\u202eb\u2066c\u200bd\ufeff") == (
        "a\u27e8U+202E\u27e9b\u27e8U+2066\u27e9c\u27e8U+200B\u27e9d\u27e8U+FEFF\u27e9"
    )
    assert visible("a\tb\nשלום") == "a\tb\nשלום"
    assert visible("\ud800") == "?"


@given(st.binary(max_size=3000), st.sampled_from(["auto", "text", "json", "hex"]), st.integers(16, 2000))
def test_any_bytes_are_shown(data: bytes, reading: str, most_bytes: int) -> None:
    """None is refused, little is made of each, and nothing invisible is left."""
    found = shown(data, reading, most_bytes)
    assert found.size_bytes == len(data)
    assert found.reading in ("text", "json", "hex")
    assert len(found.text) <= 12 * most_bytes + 100
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", found.text)
    if reading == "hex":
        assert found.reading == "hex"


@pytest.mark.parametrize(
    ("data", "reading", "expected"),
    [
        (b'{"a":[1]}', "auto", ("json", '{\n  "a": [\n    1\n  ]\n}')),
        (b"42", "auto", ("text", "42")),
        (b"42", "json", ("json", "42")),
        (b"{broken", "json", ("text", "{broken")),
        (b"[" * 3000, "json", ("text", "[" * 3000)),
        (b"\xff\x00A", "auto", ("hex", "00000000  ff 00 41" + " " * 40 + " \u00b7\u00b7A")),
        (b"<script>", "auto", ("text", "<script>")),
    ],
)
def test_readings(data: bytes, reading: str, expected: tuple[str, str]) -> None:
    """JSON is laid out, what is none is text, what is no text is hex; escaping is for the templates."""
    found = shown(data, reading)
    assert (found.reading, found.text) == expected


def test_null_is_not_empty() -> None:
    """A value that is not there differs from one of no bytes."""
    assert shown(None).reading == "null"
    assert shown(b"").reading == "text"


def test_text_cut_within_a_character_is_text() -> None:
    """And says that there is more."""
    found = shown("ä".encode() * 100, "auto", 21)
    assert (found.reading, found.text, found.is_cut) == ("text", "ä" * 10, True)


def test_numbers() -> None:
    """As people read them."""
    assert [size(one) for one in (0, 1023, 1024, 5 << 20, 1 << 50, None)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "5.0 MiB",
        "1024 TiB",
        "\u2013",
    ]
    assert grouped(1234567) == "1\u202f234\u202f567"
    assert grouped(0.25) == "0.2"


@given(st.integers(0, 253_402_300_799_999))
def test_times_are_read_as_they_are_written(time_ms: int) -> None:
    """To the millisecond, in UTC."""
    assert parse_moment(moment(time_ms)) == time_ms


@given(st.text(max_size=40))
def test_any_time_is_read_or_not(text: str) -> None:
    """Nothing is raised."""
    found = parse_moment(text)
    assert found is None or found >= 0


def test_times_that_are_none() -> None:
    """Before 1970, after 9999, or not there."""
    assert [moment(one) for one in (-1, None, 1 << 62)] == ["\u2013"] * 3
    assert parse_moment("2026-01-31T12:00+01:00") == 1769857200000


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/console",
        "//evil.example/console",
        "/\\evil.example",
        "/console\\..",
        "/consoleX",
        "/v1/topics",
        "javascript:alert(1)",
        "/console/\r\nSet-Cookie: a=b",
        "http://[",
        "/console/login?next=/console",
        "",
    ],
)
def test_nobody_is_sent_elsewhere(elsewhere: str) -> None:
    """After logging in one comes to a page of the console."""
    assert local_path(elsewhere) == "/console"
    assert local_path("/console/topics?prefix=a%20b") == "/console/topics?prefix=a%20b"


class HistoryTests(SynchronousTestCase):
    """Samples are taken when somebody looks, and not more often than makes sense."""

    def setUp(self) -> None:
        self.time = Time()
        self.history = History(self.time)
        self.taken = 0

    async def take(self) -> dict[str, float]:
        """Return a sample."""
        self.taken += 1
        return {"count": self.taken * 10, "level": self.taken}

    def look(self) -> list[tuple[float, dict[str, float]]]:
        """Return what there is."""
        return self.successResultOf(Deferred.fromCoroutine(self.history.look(self.take)))

    def test_many_who_look_take_one_sample(self) -> None:
        for _ in range(5):
            assert len(self.look()) == 1
        self.time.now += 2
        assert len(self.look()) == 2
        assert self.taken == 2

    def test_bounded(self) -> None:
        for _ in range(MOST_SAMPLES + 20):
            self.time.now += 2
            samples = self.look()
        assert len(samples) == MOST_SAMPLES

    def test_who_looks_while_one_is_taken_takes_another_only_if_there_is_none(self) -> None:
        sample: Deferred[dict[str, float]] = Deferred()

        async def slowly() -> dict[str, float]:
            return await sample

        first = Deferred.fromCoroutine(self.history.look(slowly))
        assert len(self.look()) == 1
        self.time.now += 2
        second = Deferred.fromCoroutine(self.history.look(slowly))
        assert len(self.look()) == 1
        assert self.taken == 1
        sample.callback({"count": 1})
        assert len(self.successResultOf(first)) == 2
        assert len(self.successResultOf(second)) == 3

    def test_a_fault_is_not_for_ever(self) -> None:
        async def fails() -> dict[str, float]:
            raise ValueError

        self.failureResultOf(Deferred.fromCoroutine(self.history.look(fails)), ValueError)
        assert len(self.look()) == 1


def test_rates_are_of_counts_only() -> None:
    """What grows is told by the second, everything else as it is; what begins anew is not less than none."""
    samples = [
        (10.0, {"n": 5.0, "level": 1.0}),
        (12.0, {"n": 25.0, "level": 2.0}),
        (14.0, {"n": 0.0, "level": 3.0}),
    ]
    assert rates(samples, ("n",)) == [
        {"level": 2.0, "at": 12.0, "n": 10.0},
        {"level": 3.0, "at": 14.0, "n": 0.0},
    ]


def test_quantiles_lie_within_their_buckets() -> None:
    """By Prometheus's way: evenly within a bucket."""
    row = dict.fromkeys(COUNTS, 0.0)
    assert latency_quantile(row, 0.5) is None
    row["bucket0"] = 10.0
    assert latency_quantile(row, 0.5) == pytest.approx(0.25)
    row["bucket14"] = 90.0
    assert latency_quantile(row, 0.99) == 10_000


def test_histories_are_bounded() -> None:
    """The one looked at longest ago goes."""
    kept: Histories[list[int]] = Histories(list, 2)
    kept.of("a").append(1)
    kept.of("b")
    kept.of("a")
    kept.of("c")
    assert len(kept) == 2
    assert kept.of("a") == [1]


def test_files_of_others_are_those_that_the_table_names() -> None:
    """Each with its checksum, and its licence beside it."""
    table = dict(
        re.findall(r"\| `([^`]+)` \| `.*\| `([0-9a-f]{64})` \|", (_STATIC / "README.md").read_text())
    )
    theirs = {path.name for path in _STATIC.iterdir() if ".min." in path.name}
    assert set(table) == theirs
    for name, checksum in table.items():
        assert hashlib.sha256((_STATIC / name).read_bytes()).hexdigest() == checksum
    assert {"htmx.LICENSE", "uPlot.LICENSE"} <= {path.name for path in _STATIC.iterdir()}


def test_templates_hold_no_script_and_no_style() -> None:
    """What the content security policy would refuse is not there; nor is anything marked as safe."""
    for path in (_STATIC.parent / "templates").iterdir():
        text = path.read_text()
        for wrong in (
            r"<style",
            r"\sstyle=",
            r"\son[a-z]+=",
            r"<script(?! src=)",
            r"javascript:",
            r"\|\s*safe",
        ):
            assert not re.search(wrong, text), (path.name, wrong)
        for form in re.findall(r'<form[^>]*method="post".*?</form>', text, re.DOTALL):
            assert "token(view)" in form, (path.name, form[:100])
