"""What commands read and print: formats, places, separators, client files, percentiles. All pure."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
import time

import click
import pytest
from click.shell_completion import ShellComplete
from hypothesis import given
from hypothesis import strategies as st

from megabroker.cli.bench import percentile
from megabroker.cli.client_file import read_client_file
from megabroker.cli.main import commands, run
from megabroker.cli.membership import ranged
from megabroker.cli.moments import Place, read_moment_ms, read_place
from megabroker.cli.output import human_bytes, printable, progress
from megabroker.cli.record_forms import as_json, form_named, json_input, pretty
from megabroker.model import Header, Record

NOW_MS = 1_795_265_170_250
SCRIPT = pathlib.Path(sys.executable).with_name("megabroker")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("start", Place(after_start=0)),
        ("beginning", Place(after_start=0)),
        ("end", Place(before_end=0)),
        ("7", Place(offset=7)),
        ("-10", Place(before_end=10)),
        ("+3", Place(after_start=3)),
        ("@1000", Place(timestamp_ms=1000)),
        ("@-1h", Place(timestamp_ms=NOW_MS - 3_600_000)),
        ("@-250ms", Place(timestamp_ms=NOW_MS - 250)),
        ("@now", Place(timestamp_ms=NOW_MS)),
        ("@2026-11-21T12:00:00+00:00", Place(timestamp_ms=1_795_262_400_000)),
    ],
)
def test_places(text: str, expected: Place) -> None:
    assert read_place(text, NOW_MS) == expected


@pytest.mark.parametrize(
    "text", ["", "x", "@", "@-1y", "@x", "1.5", "--1", "@2026-13-01", "@" + "9" * 30, "٣"]
)
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        read_place(text, NOW_MS)


@given(st.text(max_size=20))
def test_no_text_of_a_time_does_worse_than_be_refused(text: str) -> None:
    try:
        found = read_moment_ms(text, NOW_MS)
    except ValueError as error:
        found = len(str(error))
    assert found >= 0


RECORD = Record(7, NOW_MS, b"k", b"v\x1b[31m", (Header("h", b"x"), Header("n", None)))


def test_formats_are_those_of_kcat() -> None:
    form = form_named(r"%t/%p@%o %T %k(%K) %s(%S) [%h] 100%%\t\x41\n")
    assert form("t", 3, RECORD) == b"t/3@7 %d k(1) v\x1b[31m(6) [h=x,n=] 100%%\tA\n" % NOW_MS
    tombstone = Record(0, 0, None, None)
    assert form_named("%k%K%s%S")("t", 0, tombstone) == b"-1-1"


@pytest.mark.parametrize("text", ["%", "%q", "%s\\", "%s\\q", "xml", "%s\\x4"])
def test_formats_that_mean_nothing(text: str) -> None:
    with pytest.raises(ValueError, match=r"means nothing|expected"):
        form_named(text)


def test_nothing_in_a_record_controls_a_terminal() -> None:
    record = Record(0, 0, b"\x1b]0;title\x07", '{"a":"\u202e\x1b[2J"}'.encode(), (Header("\x1b[H", b"\x9b"),))
    shown = pretty("t", 0, record)
    assert b"\x1b" not in shown
    assert b"\x07" not in shown
    assert printable("a\x1b\u202e\tb") == "a\\x1b\\u202e\\tb"


records = st.builds(
    lambda key, value, headers: Record(0, 5, key, value, tuple(Header(*one) for one in headers)),
    st.none() | st.binary(max_size=20) | st.text(max_size=20).map(str.encode),
    st.none() | st.binary(max_size=50) | st.text(max_size=50).map(str.encode),
    st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=10)), max_size=3),
)


@given(records)
def test_json_that_was_printed_is_read_as_the_same_record(record: Record) -> None:
    line = as_json("t", 1, record)
    assert line.count(b"\n") == 1
    key, value, headers, partition, timestamp = json_input(line)
    assert (key, value, partition, timestamp) == (record.key, record.value, 1, 5)
    assert headers == [tuple(one) for one in record.headers]


def test_json_by_hand_is_read_as_it_is_meant() -> None:
    assert json_input(b'{"value": {"id": 7}, "headers": {"a": "b"}}') == (
        *(None, b'{"id":7}', [("a", b"b")], None, None),
    )
    assert json_input(b'{"key": 5, "value": null}')[:2] == (b"5", None)


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"",
            b"[]",
            b"{}",
            b'{"value":1,"x":1}',
            b'{"value":1,"headers":[1]}',
            b'{"value":1,"partition":"1"}',
        ),
        *(
            b'{"value":1,"partition":-1}',
            b'{"value_base64":"*"}',
            b'{"value":1,"headers":[["a",1]]}',
            b"[" * 99999,
        ),
        *(b'{"value":1,"timestamp":true}', b'{"value_base64":5}', b"\xff", b'{"value":1,"headers":5}'),
    ],
)
def test_json_that_is_no_record_is_refused_with_what_is_expected(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"expected|means nothing"):
        json_input(line)


def test_ranges_differ_by_one_and_leave_nothing_out() -> None:
    wanted = {"m1": ["a", "b"], "m2": ["a"], "m3": ["a", "c"]}
    assert ranged(wanted, {"a": 4, "b": 2, "c": 0}) == {
        "m1": {"a": [0, 1], "b": [0, 1]},
        "m2": {"a": [2]},
        "m3": {"a": [3]},
    }


def test_percentiles_are_values_that_there_were() -> None:
    values = [float(number) for number in range(1, 201)]
    assert [percentile(values, share) for share in (50, 95, 99, 100)] == [100, 190, 198, 200]
    assert percentile([3.0], 50) == 3.0


def test_sizes_are_told_as_people_read_them() -> None:
    assert [human_bytes(size) for size in (0, 1023, 1536, 5 << 40)] == ["0 B", "1023 B", "1.5 KiB", "5.0 TiB"]


def test_both_spellings_of_a_client_file_are_read(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text(
        "# a comment\nbootstrap.servers = a:1,b:2\nsecurity.protocol=sasl_ssl\n"
        "sasl.mechanisms=SCRAM-SHA-512\nsasl.username=alice\nsasl.password=se=cret\nssl.ca.location=/ca.pem\nacks=all\n"
    )
    found = read_client_file(file)
    assert (found.brokers, found.tls, found.user, found.password) == ("a:1,b:2", True, "alice", "se=cret")
    assert (found.mechanism, found.ca) == ("SCRAM-SHA-512", pathlib.Path("/ca.pem"))
    assert "se=cret" not in repr(found)
    file.write_text(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config="
        "org.apache.kafka.common.security.plain.PlainLoginModule required \\\n"
        "  username=\"bob\" password='p w';\n"
    )
    found = read_client_file(file)
    assert (found.tls, found.user, found.password, found.mechanism) == (False, "bob", "p w", "PLAIN")
    for text in ("security.protocol=odd", "nonsense", "ssl.truststore.location=/x.jks"):
        file.write_text(text)
        with pytest.raises(click.UsageError, match="expected"):
            read_client_file(file)


# --- the command line as a whole ------------------------------------------------------------------


def _all_commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    context = click.Context(group)
    found: list[tuple[str, ...]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        found.append((*path, name))
        if isinstance(command, click.Group):
            found += _all_commands(command, (*path, name))
    return found


def test_every_command_has_help_and_says_what_each_option_is(capsys: pytest.CaptureFixture[str]) -> None:
    found = _all_commands(commands)
    assert ("topic", "create") in found
    for path in found:
        assert run([*path, "--help"]) == 0
        assert f"Usage: megabroker {' '.join(path)}" in capsys.readouterr().out


WITHOUT_JSON = {
    ("start",): "it becomes the broker, whose log is JSON by `logging.format`",
    ("completion",): "what it prints is a script for a shell",
    ("plugin", "restore"): "hidden: the scripts of the system's package call it",
}
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "cli.md"


def test_all_commands_tell_what_they_did_in_json_too_as_the_page_says() -> None:
    with_json = set()
    for path in _all_commands(commands):
        command: click.Command = commands
        for name in path:
            assert isinstance(command, click.Group)
            found = command.get_command(click.Context(command), name)
            assert found is not None
            command = found
        if any("--json" in option.opts for option in command.params):
            with_json.add(" ".join(path))
        else:
            assert isinstance(command, click.Group) or path in WITHOUT_JSON, path
    assert not with_json & {" ".join(path) for path in WITHOUT_JSON}
    section = PAGE.read_text(encoding="utf-8").partition("\n## JSON output\n")[2].partition("\n## ")[0]
    told = [name for row in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE) for name in row.split(", ")]
    assert sorted(told) == sorted(f"`{name}`" for name in with_json)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert "_MEGABROKER_COMPLETE" in capsys.readouterr().out


def test_commands_and_options_are_completed() -> None:
    complete = ShellComplete(commands, {}, "megabroker", "_MEGABROKER_COMPLETE")
    assert {one.value for one in complete.get_completions([], "to")} == {"topic"}
    assert {one.value for one in complete.get_completions(["topic"], "de")} == {"describe", "delete"}
    assert "--partitions" in {one.value for one in complete.get_completions(["topic", "create"], "--p")}


def test_help_is_there_at_once_and_imports_no_command() -> None:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(SCRIPT), "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    took = time.perf_counter() - began
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "megabroker.cli.command_groups" in imported
    for name in ("twisted", "rich", "attrs", "megabroker.cli.topic", "megabroker.protocols", "yaml", "ssl"):
        assert name not in imported
    assert took < 2, "it takes less than a tenth of a second on a machine that has nothing else to do"


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\0"), max_size=8), max_size=4))
def test_no_words_make_more_than_a_line_of_refusal(words: list[str]) -> None:
    """Whatever stands behind a command, it ends with 2 before it does anything."""
    for path in (["topic", "alter"], ["group", "reset"], ["config", "show"]):
        code = run([*path, "--no-such-option", *words])
        assert code == 2


def test_json_is_plain_text_without_escapes_of_letters(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plugin", "list", "--json"]) == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out)} >= {"kafka", "mega", "cursus"}


def test_a_file_is_begun_and_told_in_json(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "new.yaml")
    assert run(["config", "init", "--json", file]) == 0
    assert json.loads(capsys.readouterr().out) == {"written": file}
    assert run(["config", "init", "--json", "-"]) == 2
    assert "expected the name of a file" in capsys.readouterr().err


def test_long_work_tells_how_far_it_is_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("reading", 2, lines="read ") as tell:
        tell(1, "too soon")
        monkeypatch.setattr("megabroker.cli.output._LINES_SECONDS", 0)
        tell(2, "2 of 2")
    for unwanted in (progress("reading", 2, lines="read ", wanted=False), progress("reading", 2)):
        with unwanted as tell:
            tell(2, "nobody wants that")
    assert capsys.readouterr().err == "read 2 of 2\n"
