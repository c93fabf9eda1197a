"""The command ``megabroker`` as a process of its own, and what it must do with any cluster."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

from megabroker.cli.main import run

__all__ = [
    "Command",
    "group_is_read_by_two",
    "groups_go_on_elsewhere",
    "records_come_back",
    "topics_are_kept",
]

SCRIPT = str(pathlib.Path(sys.executable).with_name("megabroker"))


class Command:
    """Runs the command against a cluster.

    Args:
        brokers: what MEGABROKER_BROKERS is to say.
    """

    def __init__(self, brokers: str, environment: Mapping[str, str] | None = None) -> None:
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("MEGABROKER_")},
            "MEGABROKER_BROKERS": brokers,
            **(environment or {}),
        }

    def run(self, *arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run it to its end; in this process if it reads nothing, which saves the time to start another.

        What went wrong must be said, and never by a traceback.
        """
        if data or arguments[0] == "start":
            done = self._run_apart(arguments, data)
        else:
            done = self._run_here(arguments)
        assert b"Traceback" not in done.stderr + done.stdout, done.stderr
        assert b"a fault of the command itself" not in done.stderr, done.stderr
        return done

    def _run_apart(self, arguments: Sequence[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [SCRIPT, *arguments],
            input=data,
            env=self._environment,
            capture_output=True,
            timeout=60,
            check=False,
        )

    def _run_here(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        printed, said = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
        with (
            mock.patch.dict(os.environ, self._environment, clear=True),
            open(os.devnull) as nothing,
            mock.patch.object(sys, "stdin", nothing),
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(printed),
        ):
            code = run([*arguments])
        for stream in (printed, said):
            stream.flush()
        return subprocess.CompletedProcess(
            arguments,
            code,
            printed.buffer.getvalue(),
            said.buffer.getvalue(),  # type: ignore[attr-defined]
        )

    def shell(self, line: str) -> subprocess.CompletedProcess[bytes]:
        """Run it as a shell does, with what is behind its name."""
        return subprocess.run(
            f"exec {SCRIPT} {line}",
            shell=True,
            env=self._environment,
            capture_output=True,
            timeout=60,
            check=False,
        )

    def start(
        self, *arguments: str, stdout: Any = subprocess.PIPE, stderr: Any = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        """Start it."""
        return subprocess.Popen(
            [SCRIPT, *arguments],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
        )

    def text(self, *arguments: str, data: bytes = b"") -> str:
        """Run it, expect it to be done, and return what it printed."""
        done = self.run(*arguments, data=data)
        assert done.returncode == 0, (arguments, done.stderr.decode())
        return done.stdout.decode()

    def json(self, *arguments: str, data: bytes = b"") -> Any:
        """Run it with --json, and return what that says."""
        return json.loads(self.text(*arguments, "--json", data=data))

    def refused(self, *arguments: str, code: int = 1, data: bytes = b"") -> str:
        """Run it, expect it to be refused, and return the one line that says why."""
        done = self.run(*arguments, data=data)
        said = done.stderr.decode()
        assert done.returncode == code, (arguments, done.returncode, said)
        [line] = said.splitlines()
        assert line.startswith("megabroker: ")
        return line


# --- what holds for any cluster -------------------------------------------------------------------


def topics_are_kept(command: Command, name: str) -> None:
    made = command.json("topic", "create", name, "-p", "2", "-r", "1", "-c", "retention.ms=3600000")
    assert made == [{"topic": name, "created": True, "partitions": 2}]
    assert "exists" in command.refused("topic", "create", name)
    assert "exists already" in command.text("topic", "create", name, "--if-not-exists")
    assert command.json("topic", "list", f"{name[:-1]}.") == [{"topic": name, "partitions": 2}]
    assert command.json("topic", "list", "nothing-like.*") == []
    command.text("topic", "alter", name, "-p", "3", "-c", "max.message.bytes=2000", "--reset", "retention.ms")
    [told] = command.json("topic", "describe", name)
    assert [row["partition"] for row in told["partitions"]] == [0, 1, 2]
    assert told["configs"] == {"max.message.bytes": {"value": "2000", "set_here": True}}
    plain = command.text("topic", "describe", name)
    assert f"{name}: 3 partitions, 0 offsets" in plain
    assert "PARTITION  LEADER" in plain
    refused = command.refused("topic", "alter", name, "-p", "1")
    assert name in refused or "partitions" in refused
    assert "no.such" in command.refused("topic", "alter", name, "-c", "no.such=1")
    assert "--yes" in command.refused("topic", "delete", name, code=2)
    other = f"{name}-other"
    some = command.run("topic", "create", name, other, "-p", "1", "-r", "1", "--json")
    assert (some.returncode, [one["topic"] for one in json.loads(some.stdout)]) == (1, [other])
    assert f"topic {name}" in some.stderr.decode() or "exists" in some.stderr.decode()
    some = command.run("topic", "delete", "no-such", other, "--yes", "--json")
    assert (some.returncode, json.loads(some.stdout)) == (1, {"deleted": [other]})
    assert command.json("topic", "delete", name, "--yes") == {"deleted": [name]}
    assert command.json("topic", "delete", name, "--yes", "--if-exists") == {"deleted": []}
    assert name in command.refused("topic", "delete", name, "--yes")


def records_come_back(command: Command, name: str) -> None:
    """Every form of input is read back as it was; places, counts and compressions do what they say."""
    command.text("topic", "create", name, "-p", "1", "-r", "1")
    before_ms = time.time_ns() // 1_000_000
    told = command.json("produce", name, "-K", ":", "-H", "from=test", data=b"a:1\nb:2\nc:3:4")
    assert (told["messages"], told["partitions"]) == (3, {"0": 3})
    command.text("produce", name, "-i", "whole", "-k", "raw", "-z", "zstd", data=b"\x80\n\x00")
    command.text("produce", name, "--tombstone", "-k", "a", "--acks", "1")
    command.text("produce", name, "-Z", "--base64", "-z", "lz4", data=b"aGk=\n\n")
    printed = command.text("consume", name, "--json")
    rows = [json.loads(line) for line in printed.splitlines()]
    contents = [(row["key"], row.get("value"), row.get("value_base64")) for row in rows]
    assert contents == [
        *(("a", "1", None), ("b", "2", None), ("c", "3:4", None)),
        *(("raw", None, "gAoA"), ("a", None, None), (None, "hi", None), (None, None, None)),
    ]
    assert rows[0]["headers"] == [["from", "test"]]
    assert [row["offset"] for row in rows] == list(range(7))

    command.text("produce", name, "-i", "json", "-z", "gzip", data=printed.encode())
    again = [json.loads(line) for line in command.text("consume", name, "-o", "7", "--json").splitlines()]
    assert [{**row, "offset": row["offset"] - 7} for row in again] == rows

    assert command.text("consume", name, "-o", "-13", "-n", "2", "-f", "%t %p %o %k %K %s %S %h %%\\n") == (
        f"{name} 0 1 b 1 2 1 from=test %\n{name} 0 2 c 1 3:4 3 from=test %\n"
    )
    assert command.text("consume", name, "-o", "+5", "-n", "1") == "hi\n"
    assert command.text("consume", name, "-o", f"@{before_ms}", "-n", "1") == "1\n"
    assert command.text("consume", name, "-o", "@-1h", "--until", "@-30m") == ""
    assert command.text("consume", name, "-o", "end") == ""
    assert "value   0x800a00" in command.text("consume", name, "-f", "pretty")

    big = command.json("produce", name, data=b"".join(b"%d\n" % number for number in range(20_000)))
    assert big["messages"] == 20_000
    counted = command.text("consume", name, "-o", "14").splitlines()
    assert counted == [str(number) for number in range(20_000)]
    assert " bytes" in command.refused("produce", name, data=b"x" * 3_000_000)


def groups_go_on_elsewhere(command: Command, name: str) -> None:
    command.text("topic", "create", name, "-p", "1", "-r", "1")
    command.text("produce", name, data=b"one\ntwo\nthree\n")
    group = f"{name}-group"
    assert command.text("consume", name, "-g", group, "-n", "2") == "one\ntwo\n"
    [told] = command.json("group", "describe", group)
    assert (told["state"], told["lag"], told["members"]) == ("Empty", 1, [])
    [row] = told["partitions"]
    assert (row["offset"], row["end_offset"], row["lag"]) == (2, 3, 1)
    assert command.text("consume", name, "-g", group) == "three\n"
    assert command.text("consume", name, "-g", group) == ""
    listed = {one["group"]: one for one in command.json("group", "list")}
    assert listed[group]["state"] == "Empty"
    dry = command.json("group", "reset", group, "--to-earliest", "--dry-run")
    assert dry["partitions"] == [{"topic": name, "partition": 0, "from": 3, "to": 0}]
    for options, first in (
        (["--shift-by", "-1"], "three"),
        (["--to-offset", "1"], "two"),
        (["--to-datetime", "-1h"], "one"),
        (["--to-earliest", "--topic", f"{name}:0"], "one"),
    ):
        command.text("group", "reset", group, *options, "--yes")
        assert command.text("consume", name, "-g", group).splitlines()[0] == first
    new = f"{group}-new"
    command.text("group", "reset", new, "--to-latest", "--topic", name, "--yes")
    assert command.json("group", "describe", new)[0]["lag"] == 0
    assert command.json("group", "delete", group, new, "--yes") == {"deleted": [group, new]}
    assert "does not exist" in command.refused("group", "delete", group, "--yes")
    assert group in command.refused("group", "describe", group)


def group_is_read_by_two(command: Command, name: str, directory: pathlib.Path) -> None:
    """Two members share the partitions; each message is printed once; interrupted, they leave in order."""
    command.text("topic", "create", name, "-p", "4", "-r", "1")
    group = f"{name}-group"
    members = []
    try:
        for number in range(2):
            with open(directory / f"{number}", "wb") as out:
                members.append(command.start("consume", name, "-g", group, "--follow", stdout=out))
        deadline = time.monotonic() + 40
        while True:
            told = command.run("group", "describe", group, "--json")
            [known] = json.loads(told.stdout) if told.returncode == 0 else [{"members": []}]
            if sorted(len(one["partitions"]) for one in known["members"]) == [2, 2]:
                break
            assert time.monotonic() < deadline, known
        assert "members" in command.refused("group", "reset", group, "--to-latest", "--topic", name, "--yes")
        for partition in range(4):
            command.text("produce", name, "-p", str(partition), data=b"%d\n" % partition * 100)
        while True:
            printed = b"".join((directory / f"{number}").read_bytes() for number in range(2))
            if printed.count(b"\n") >= 400:
                break
            assert time.monotonic() < deadline, printed.count(b"\n")
            time.sleep(0.05)
    finally:
        for one in members:
            one.send_signal(signal.SIGINT)
        ended = [(one.communicate(timeout=20)[1].strip(), one.returncode) for one in members]
    assert ended == [(b"", 130), (b"", 130)]
    assert sorted(printed.split()) == sorted(b"%d" % partition for partition in range(4) for _ in range(100))
    [told] = command.json("group", "describe", group)
    assert (told["state"], told["lag"]) == ("Empty", 0)
