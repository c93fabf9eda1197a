"""The command ``megabroker`` against a broker: what it prints, and how it ends whatever goes wrong."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, ShareConsumer

from megabroker.cli.membership import ClassicMember
from tests.brokers import BrokerProcess
from tests.interop.certificates import Certificates
from tests.interop.command import (
    SCRIPT,
    Command,
    group_is_read_by_two,
    groups_go_on_elsewhere,
    records_come_back,
    topics_are_kept,
)
from tests.interop.secured import addresses, listener
from tests.interop.wires import until
from tests.workers import WorkersProcess

pytestmark = pytest.mark.interop

Unique = Callable[[str], str]


@pytest.fixture
def command(kafka: str) -> Command:
    return Command(kafka)


def test_topics_are_made_told_changed_and_deleted(command: Command, unique: Unique) -> None:
    topics_are_kept(command, unique("topic"))


def test_records_come_back_as_they_were(command: Command, unique: Unique) -> None:
    records_come_back(command, unique("records"))


def test_groups_are_told_and_go_on_elsewhere(command: Command, unique: Unique) -> None:
    groups_go_on_elsewhere(command, unique("places"))


@pytest.mark.parametrize(("kind", "consumer"), [("share", ShareConsumer), ("classic", Consumer)])
def test_groups_of_other_clients_are_told_and_reset(
    command: Command, kafka: str, unique: Unique, kind: str, consumer: Callable[..., Any]
) -> None:
    name, group = unique(kind), unique("group")
    command.text("topic", "create", name, "-p", "1")
    command.text("produce", name, data=b"a\nb\nc\n")
    member = consumer({"bootstrap.servers": kafka, "group.id": group})
    member.subscribe([name])
    try:
        deadline = time.monotonic() + 20
        # A share group without any offset is forgotten with its last member.
        known = f'"offset":{"3" if kind == "share" else "null"}'.encode()
        while known not in command.run("group", "describe", group, "--json").stdout:
            member.poll(0.2)
            assert time.monotonic() < deadline
        [told] = command.json("group", "describe", group)
        assert told["type"] == kind
        assert told["members"][0]["partitions"] == [{"topic": name, "partition": 0}]
        assert told["partitions"][0]["member"] == "rdkafka"
        where = ["--topic", name, "--yes"]
        assert "it has 1 members" in command.refused("group", "reset", group, "--to-earliest", *where)
    finally:
        member.close()
    for option, offset, lag in (("--to-earliest", 0, 3), ("--to-latest", 3, 0)):
        command.text("group", "reset", group, option, *where)
        [told] = command.json("group", "describe", group)
        [row] = told["partitions"]
        assert (told["type"], row["offset"], row["lag"], row["member"]) == (kind, offset, lag, None)
    command.text("group", "delete", group, "--yes")


def test_two_members_share_a_topic(command: Command, unique: Unique, tmp_path: pathlib.Path) -> None:
    group_is_read_by_two(command, unique("shared"), tmp_path)


def test_only_what_is_committed_is_read_unless_all_is_wanted(
    command: Command, kafka: str, unique: Unique
) -> None:
    name = unique("transactions")
    command.text("topic", "create", name, "-p", "1")
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": name})
    producer.init_transactions()
    for word in ("aborted", "committed", "aborted", "open"):
        producer.begin_transaction()
        producer.produce(name, word, partition=0)
        producer.flush()
        if word != "open":
            producer.commit_transaction() if word == "committed" else producer.abort_transaction()
    assert command.text("consume", name) == "committed\n"
    everything = command.text("consume", name, "--isolation", "uncommitted").split()
    assert everything == ["aborted", "committed", "aborted", "open"]
    producer.abort_transaction()


def test_lines_are_there_as_soon_as_they_are_typed(command: Command, unique: Unique) -> None:
    name = unique("typed")
    command.text("topic", "create", name, "-p", "1")
    reading = command.start("consume", name, "--follow")
    writing = command.start("produce", name)
    assert reading.stdout is not None
    assert writing.stdin is not None
    try:
        for line in (b"first\n", b"second\n"):
            writing.stdin.write(line)
            writing.stdin.flush()
            assert reading.stdout.readline() == line
    finally:
        writing.stdin.close()
        assert writing.wait(20) == 0
        reading.send_signal(signal.SIGINT)
        assert reading.wait(20) == 130


def test_output_that_nobody_reads_ends_it_and_commits_nothing(command: Command, unique: Unique) -> None:
    name = unique("unread")
    command.text("topic", "create", name, "-p", "1")
    command.text("produce", name, data=b"a line of some length\n" * 20_000)
    for more in ([], ["-g", unique("group")]):
        reading = command.start("consume", name, *more)
        assert reading.stdout is not None
        assert reading.stdout.readline() == b"a line of some length\n"
        reading.stdout.close()
        assert reading.wait(30) == 141
        assert reading.stderr is not None
        assert reading.stderr.read() == b""
    for partition in command.json("group", "describe", more[1])[0]["partitions"]:
        assert partition["offset"] < 20_000


def test_mistakes_are_one_line_each(command: Command, unique: Unique, tmp_path: pathlib.Path) -> None:
    name = unique("mistakes")
    command.text("topic", "create", name, "-p", "1")
    (tmp_path / "odd.properties").write_text("security.protocol=ODD\n")
    for code, words, arguments in (
        (2, "did you mean topic?", ["topik"]),
        (2, "did you mean list?", ["topic", "lst"]),
        (2, "expected one of create, list", ["topic", "xyz"]),
        (2, "expected NAME=VALUE", ["topic", "create", "x", "-c", "y"]),
        (1, "expected 1 to 249 of", ["topic", "create", "a b"]),
        (2, "expected start, end, an offset", ["consume", name, "-o", "x"]),
        (2, "%z means nothing: expected one of %t", ["consume", name, "-f", "%z"]),
        (2, "expected value, json, pretty, or a format", ["consume", name, "-f", "xml"]),
        (1, "has no partition 9: expected 0 to 0", ["consume", name, "-p", "9"]),
        (1, "has no partition 9: expected 0 to 0", ["produce", name, "-p", "9", "x"]),
        (1, "it does not exist: megabroker topic list", ["consume", "absent"]),
        (1, "no topic matches abs.*", ["consume", "--regex", "abs.*"]),
        (2, "expected a regular expression", ["topic", "list", "["]),
        (
            2,
            "expected messages or --file, not both",
            ["produce", name, "x", "-f", str(tmp_path / "odd.properties")],
        ),
        (2, "requires --key", ["produce", name, "--tombstone"]),
        (2, "requires --acks all", ["produce", name, "x", "--acks", "1", "--idempotent"]),
        (2, "expected one of --to-earliest", ["group", "reset", "g", "--topic", name]),
        (2, "expected HOST:PORT", ["topic", "list", "-b", "nowhere"]),
        (
            2,
            "expected one of plaintext",
            ["topic", "list", "--client-config", str(tmp_path / "odd.properties")],
        ),
        (2, "expected your password in MEGABROKER_PASSWORD", ["topic", "list", "--as", "x"]),
        (3, "127.0.0.1:1: nothing listens there: expected", ["status", "-b", "127.0.0.1:1"]),
        (1, "did you mean retention.ms?", ["topic", "alter", name, "--reset", "retention.m"]),
        (1, "expected an offset to begin from", ["group", "reset", "g", "-t", name, "--shift-by", "1", "-y"]),
        (2, "expected one of", ["start", "--reactor", "nope"]),
        (1, "expected a file, and there is none", ["dump-log", str(tmp_path / "absent.log")]),
        (1, "expected a file, and that is a directory", ["dump-log", str(tmp_path)]),
        (
            1,
            "odd.properties/x.yaml: Not a directory",
            ["config", "init", f"{tmp_path}/odd.properties/x.yaml"],
        ),
        (1, "is a file: expected a directory that", ["backup", str(tmp_path), f"{tmp_path}/odd.properties"]),
        (3, "127.0.0.1:1: ", ["topic", "list", "-b", "127.0.0.1:1,127.0.0.1:1"]),
    ):
        assert words in command.refused(*arguments, code=code), arguments
    for words, more, data in (
        ("line 2: expected an object of JSON", ["-i", "json"], b'{"value":1}\nx'),
        ("line 1: 'vaule' means nothing", ["-i", "json"], b'{"vaule":1}'),
        ("line 1: expected a key and ':'", ["-K", ":"], b"novalue"),
        ("expected base64", ["--base64"], b"*"),
    ):
        assert words in command.refused("produce", name, *more, data=data)


def test_streams_that_the_shell_has_closed_are_as_if_nobody_was_there(
    command: Command, unique: Unique
) -> None:
    name = unique("closed")
    command.text("topic", "create", name, "-p", "1")
    for line in (f"produce {name} <&-", "topic list >&-", "topic list <&- >&- 2>&-", f"consume {name} >&-"):
        done = command.shell(line)
        assert (done.returncode, done.stderr) == (0, b""), line
    full = command.shell("topic list > /dev/full")
    assert (full.returncode, full.stderr) == (1, b"megabroker: No space left on device\n")


def test_whatever_answers_is_told_in_one_line(command: Command) -> None:
    """A port that says nothing of Kafka's, or closes, or something else altogether."""
    for answer in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\4\0\0\0\x07", b"\xff" * 64):
        with socket.create_server(("127.0.0.1", 0)) as server:

            def serve(answer: bytes = answer, server: socket.socket = server) -> None:
                connection, _ = server.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(answer)

            thread = threading.Thread(target=serve)
            thread.start()
            address = f"127.0.0.1:{server.getsockname()[1]}"
            assert address in command.refused("topic", "list", "-b", address, code=3)
            thread.join()


def test_the_first_broker_that_answers_will_do(command: Command, kafka: str) -> None:
    assert command.run("topic", "list", "-b", f"127.0.0.1:1,{kafka}").returncode == 0


def test_a_client_file_of_other_tools_is_read(kafka: str, unique: Unique, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text(f"# kcat -F\nbootstrap.servers={kafka}\nsecurity.protocol=plaintext\nacks=all\n")
    command = Command("127.0.0.1:1", {"MEGABROKER_CLIENT_CONFIG": str(file)})
    assert command.run("topic", "list").returncode == 0


def test_classic_members_share_by_range(kafka: str, unique: Unique, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other protocol, for brokers that have no KIP-848: two members in one process, tended in turns."""
    from megabroker.cli.cluster import Address, Cluster, Credentials

    name, host_port = unique("classic"), kafka.rpartition(":")
    Command(kafka).text("topic", "create", name, "-p", "3")
    given_up: list[int] = []
    with (
        Cluster([Address(host_port[0], int(host_port[2]))], Credentials()) as one,
        Cluster([Address(host_port[0], int(host_port[2]))], Credentials()) as other,
    ):
        first = ClassicMember(one, f"{name}-g", [name], lambda lost: given_up.append(len(lost)))
        assert first.tend()
        assert len(first.partitions) == 3
        second = ClassicMember(other, f"{name}-g", [name], lambda lost: None)
        joining = threading.Thread(target=second.tend)
        joining.start()
        deadline = time.monotonic() + 20
        while len(first.partitions) == 3:
            first._due = 0
            first.tend()
            assert time.monotonic() < deadline
        joining.join()
        assert given_up == [3]
        assert first.partitions | second.partitions == {(name, 0), (name, 1), (name, 2)}
        assert not first.partitions & second.partitions
        second.leave()
        first.leave()


def test_a_terminal_is_drawn_on_and_not_controlled_by_others_names(command: Command, unique: Unique) -> None:
    name = unique("terminal")
    command.text("topic", "create", name, "-p", "1")
    command.text("produce", name, data=b"x\n")
    command.text("consume", name, "-g", f"{name}\x1b]0;title\x07")
    ours, theirs = os.openpty()
    with open(ours, "rb", buffering=0) as terminal:
        listing = command.start("group", "list", stdout=theirs)
        os.close(theirs)
        shown = b""
        try:
            while chunk := terminal.read(4096):
                shown += chunk
        except OSError:
            pass  # the other side is closed
        assert listing.wait(20) == 0
    assert "─".encode() in shown
    assert b"\\x1b]0;title" in shown
    assert b"\x1b]0" not in shown
    assert b"\x07" not in shown


def test_how_much_of_a_file_is_written_is_drawn_on_a_terminal(
    command: Command, unique: Unique, tmp_path: pathlib.Path
) -> None:
    name = unique("drawn")
    command.text("topic", "create", name, "-p", "1")
    file = tmp_path / "lines"
    file.write_bytes(b"a line of a file\n" * 60_000)
    ours, theirs = os.openpty()
    with open(ours, "rb", buffering=0) as terminal:
        writing = command.start("produce", name, "-f", str(file), stderr=theirs)
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the other side is closed
            while chunk := terminal.read(4096):
                shown += chunk
        assert writing.wait(20) == 0
    assert re.search(rb"[1-9][0-9]?%|100%", shown), shown
    assert b"60,000 messages" in shown


# --- a broker that is killed, and one that is started by the command ------------------------------


@pytest.fixture
def own_broker() -> Iterator[BrokerProcess]:
    with BrokerProcess() as broker:
        yield broker


def test_a_broker_that_is_killed_meanwhile_loses_nothing_and_repeats_nothing(
    own_broker: BrokerProcess, tmp_path: pathlib.Path
) -> None:
    command = Command(own_broker.kafka)
    command.text("topic", "create", "kept", "-p", "1")
    with open(tmp_path / "out", "wb") as out:
        reading = command.start("consume", "kept", "--follow", stdout=out)
    writing = command.start("produce", "kept")
    assert writing.stdin is not None
    for number in range(3000):
        writing.stdin.write(b"%d\n" % number)
        writing.stdin.flush()
        if number == 1500:
            until(lambda: (tmp_path / "out").stat().st_size > 0, what="something is consumed")
            own_broker.kill()
            own_broker.start()
    writing.stdin.close()
    assert writing.wait(60) == 0, writing.stderr.read() if writing.stderr else ""
    expected = b"".join(b"%d\n" % number for number in range(3000))
    deadline = time.monotonic() + 30
    while (tmp_path / "out").stat().st_size < len(expected):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    reading.send_signal(signal.SIGINT)
    assert reading.wait(20) == 130
    assert (tmp_path / "out").read_bytes() == expected


def test_partitions_of_several_workers_are_reached(tmp_path: pathlib.Path) -> None:
    with WorkersProcess(2) as broker:
        command = Command(broker.nodes[1])
        command.text("topic", "create", "spread", "-p", "4")
        told = command.json("status")
        assert sorted(one["leads"] for one in told["brokers"]) == [2, 2]
        lines = [b"%d" % number for number in range(2000)]
        text = b"".join(b"%b:%b\n" % (line, line) for line in lines)
        told = command.json("produce", "spread", "-K", ":", data=text)
        assert told["messages"] == 2000
        assert len(told["partitions"]) == 4
        assert sorted(command.text("consume", "spread").split()) == sorted(line.decode() for line in lines)
        group = command.text("consume", "spread", "-g", "all").split()
        assert sorted(group) == sorted(line.decode() for line in lines)
        [described] = command.json("group", "describe", "all")
        assert (described["lag"], len(described["partitions"])) == (0, 4)
        command.text("group", "reset", "all", "--shift-by", "-1", "--yes")
        assert len(command.text("consume", "spread", "-g", "all").split()) == 4


def test_tls_and_a_password_by_options_and_by_a_file(tmp_path: pathlib.Path) -> None:
    certificates = Certificates(tmp_path)
    listeners = [listener("any"), listener("tls", tls=certificates.tls(), sasl=["SCRAM-SHA-256"])]
    with BrokerProcess({"protocols": {"kafka": {"listeners": listeners}}}) as broker:
        plain, tls = addresses(broker)
        password = {"MEGABROKER_PASSWORD": "se=cret"}
        Command(plain).text("user", "add", "alice", data=b"se=cret\n")
        options = ["--as", "alice", "--ca", str(certificates.trusted)]
        command = Command(tls, password)
        command.text("topic", "create", "kept", "-p", "2", *options)
        command.text("produce", "kept", *options, data=b"one\n")
        assert command.text("consume", "kept", *options) == "one\n"
        file = tmp_path / "client.properties"
        file.write_text(
            f"bootstrap.servers={tls}\nsecurity.protocol=SASL_SSL\nsasl.username=alice\n"
            f"sasl.password=se=cret\nssl.ca.location={certificates.trusted}\n"
        )
        by_file = Command("127.0.0.1:1")
        assert by_file.text("consume", "kept", "-g", "g", "--client-config", str(file)) == "one\n"
        wrong = Command(tls, {"MEGABROKER_PASSWORD": "wrong"})
        assert "invalid credentials" in wrong.refused("topic", "list", *options)
        assert "certificate" in command.refused("topic", "list", "--as", "alice", "--tls", code=3)


def test_start_needs_no_file_and_says_where_to_connect(tmp_path: pathlib.Path) -> None:
    ports = [word for name in ("", "mega-", "cursus-", "http-") for word in (f"--{name}port", "0")]
    running = subprocess.Popen(
        [SCRIPT, "start", "--data-dir", "it's here", *ports, "--set", "topics.default_partitions=7"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert running.stdout is not None
    try:
        first = running.stdout.readline().decode()
        assert first.startswith("megabroker is ready.  kafka clients: 127.0.0.1:")
        command = Command(first.split()[5])
        assert "click" not in pathlib.Path(f"/proc/{running.pid}/maps").read_text()
        command.text("produce", "made", "hello")
        assert command.text("consume", "made") == "hello\n"
        assert command.json("topic", "list") == [{"topic": "made", "partitions": 7}]
        assert (tmp_path / "it's here" / "metadata.sqlite").exists()
        os.kill(running.pid, signal.SIGHUP)
        taken = first.split()[5].rpartition(":")[2]
        second = subprocess.run(
            [SCRIPT, "start", "--memory", *ports, "--port", taken],
            cwd=tmp_path,
            capture_output=True,
            timeout=30,
        )
        assert second.returncode == 1
        assert second.stderr.decode().startswith("megabroker cannot start: protocols.kafka: endpoint tcp:")
    finally:
        running.send_signal(signal.SIGINT)
        rest = running.stdout.read().decode()
        assert running.wait(30) == 0
    assert "Traceback" not in rest
    assert "nothing has changed" in rest or "configuration" in rest


def test_start_names_every_fault_and_starts_nothing(tmp_path: pathlib.Path) -> None:
    command = Command("127.0.0.1:1")
    done = command.run(
        *("start", "--set", "topics.retention_ms=soon", "--set", "odd", "--set", "data_dir.x=1"),
        *("--set", "protocols.kafka.listeners[3].endpoint=tcp:1", "--check"),
    )
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    assert lines[0] == "the defaults: 4 fault(s)"
    assert "(command line): 'odd': expected KEY=VALUE" in lines[1]
    assert "protocols.kafka.listeners[3].endpoint: 3: expected an entry from 0 to 1" in lines[2]
    assert command.run("start", "--check").stdout == b"the defaults: no faults\n"
    refused = command.refused("start", "-c", "x.yaml", "--port", "1", code=2)
    assert "with --config, set the endpoint" in refused
    assert command.run("start", "-c", str(tmp_path / "absent.yaml")).returncode == 1
    assert list(tmp_path.iterdir()) == []
