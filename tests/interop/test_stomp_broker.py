"""STOMP where the broker is more than one open process: users, access rules, TLS, workers, slow readers."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from tests.brokers import BrokerProcess
from tests.interop.certificates import Certificates
from tests.interop.conftest import check_log
from tests.interop.secured import addresses, listener, set_password
from tests.interop.wires import receive_all, resident_kib, until
from tests.unit.test_docs import PAGES, blocks, run_python
from tests.workers import WorkersProcess

pytestmark = pytest.mark.interop

SECONDS = 20
PLAIN = {"durability": "os", "protocols": {"stomp": {"listeners": [listener("plain")]}}}


class Frame:
    """A frame as the broker sent it."""

    def __init__(self, data: bytes) -> None:
        head, _, body = data.lstrip(b"\n").partition(b"\n\n")
        self.command, *lines = head.decode().split("\n")
        self.headers = {
            name: value.replace("\\c", ":") for name, _, value in (line.partition(":") for line in lines)
        }
        self.body = body.decode()


class Talk:
    """A connection that says exactly what it is told to."""

    def __init__(self, address: str, context: ssl.SSLContext | None = None, **headers: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), SECONDS)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname=host)
        self._data = b""
        self.say("CONNECT", {"accept-version": "1.2", "host": "here", **headers})
        self.connected = self.frame()

    def say(self, command: str, headers: Mapping[str, str], body: str = "") -> None:
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        self.socket.sendall(f"{command}\n{lines}\n{body}\0".encode())

    def frame(self) -> Frame:
        while b"\0" not in self._data:
            more = self.socket.recv(65536)
            assert more, f"closed after {self._data!r}"
            self._data += more
        data, _, self._data = self._data.partition(b"\0")
        return Frame(data)

    def frames(self, count: int) -> list[Frame]:
        return [self.frame() for _ in range(count)]

    def ask(self, command: str, body: str = "", **headers: str) -> Frame:
        """Say it, with a receipt, and return the next frame; ``prefetch_count`` is ``prefetch-count``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.say(command, {"receipt": "r", **named}, body)
        return self.frame()

    def done(self, command: str, body: str = "", **headers: str) -> None:
        answer = self.ask(command, body, **headers)
        assert answer.command == "RECEIPT", (answer.headers, answer.body)

    def refused(self, command: str, body: str = "", **headers: str) -> str:
        """Return why something is refused; the connection is at its end then."""
        answer = self.ask(command, body, **headers)
        assert (answer.command, answer.headers.get("receipt-id")) == ("ERROR", "r"), vars(answer)
        assert receive_all(self.socket) == b""
        self.socket.close()
        return answer.headers["message"]

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


class Secured:
    """A broker that asks for passwords, with access rules, and with TLS."""

    def __init__(self, broker: BrokerProcess, certificates: Certificates) -> None:
        self.broker = broker
        self.certificates = certificates
        self.passwords, self.tls = addresses(broker, "stomp")
        self.admin = AdminClient({"bootstrap.servers": broker.kafka})
        for user in ("alice", "bob"):
            set_password(self.admin, user, f"{user}-secret", "SCRAM-SHA-256")
        self.admin.create_topics([NewTopic("guarded", 1)])["guarded"].result(SECONDS)

    def as_user(self, user: str) -> Talk:
        made = Talk(self.passwords, login=user, passcode=f"{user}-secret")
        assert made.connected.command == "CONNECTED", made.connected.headers
        return made

    def forbid(self, user: str, kind: ResourceType, name: str, operation: AclOperation) -> None:
        wanted = AclBindingFilter(
            kind, name, ResourcePatternType.LITERAL, f"User:{user}", "*", operation, AclPermissionType.ALLOW
        )
        assert self.admin.delete_acls([wanted])[wanted].result(SECONDS)

    def allow(self, user: str, kind: ResourceType, name: str, operation: AclOperation) -> None:
        rule = AclBinding(
            kind, name, ResourcePatternType.LITERAL, f"User:{user}", "*", operation, AclPermissionType.ALLOW
        )
        self.admin.create_acls([rule])[rule].result(SECONDS)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))
    listeners = [
        listener("passwords", auth="required"),
        listener("tls", auth="required", tls=certificates.tls()),
    ]
    config = {
        "durability": "os",
        "security": {"authorizer": "acls", "super_users": ["User:ANONYMOUS"]},
        "protocols": {"stomp": {"listeners": listeners}},
    }
    with BrokerProcess(config) as broker:
        yield Secured(broker, certificates)
        assert broker.stop() == 0, broker.log[-5000:]
        check_log(broker.log)


@contextmanager
def running(broker: BrokerProcess) -> Iterator[BrokerProcess]:
    with broker:
        yield broker
        assert broker.stop() == 0, broker.log[-5000:]
        check_log(broker.log)


@pytest.mark.parametrize(
    "said",
    [
        {"login": "alice", "passcode": "wrong"},
        {"login": "nobody", "passcode": "alice-secret"},
        {"login": "alice"},
        {},
    ],
)
def test_who_does_not_say_who_it_is_gets_an_error(secured: Secured, said: dict[str, str]) -> None:
    with Talk(secured.passwords, **said) as talk:
        assert talk.connected.command == "ERROR"
        assert talk.connected.headers["message"] == "login or passcode is wrong"
        assert receive_all(talk.socket) == b""


def test_nothing_is_done_before_connect(secured: Secured) -> None:
    with socket.create_connection(("127.0.0.1", int(secured.passwords.rpartition(":")[2])), SECONDS) as early:
        early.sendall(b"SEND\ndestination:/topic/guarded\n\nx\0")
        answer = Frame(receive_all(early))
    assert answer.command == "ERROR"
    assert "expected CONNECT" in answer.headers["message"]


def test_access_rules(secured: Secured) -> None:
    topic, queue = "/topic/guarded", "/queue/guarded"
    cases = [("SEND", topic, {}), ("SUBSCRIBE", topic, {"id": "s"}), ("SUBSCRIBE", queue, {"id": "q"})]
    for command, destination, headers in cases:
        told = secured.as_user("alice").refused(command, destination=destination, **headers)
        assert told == "there is no topic guarded"
    for command, headers in (("SEND", {}), ("SUBSCRIBE", {"id": "s"})):
        # As of one that is there: who may not use a topic is not told whether there is one.
        told = secured.as_user("alice").refused(command, destination="/topic/unknown", **headers)
        assert told == "there is no topic unknown"
    for name in ("guarded", "unknown"):
        secured.allow("alice", ResourceType.TOPIC, name, AclOperation.WRITE)
    told = secured.as_user("alice").refused("SEND", destination="/topic/unknown")
    assert told == "CREATE of unknown is not allowed"
    with secured.as_user("alice") as writer:
        writer.done("SEND", "one", destination=topic)
        told = writer.refused("SUBSCRIBE", destination=topic, id="s")
        assert told == "READ of guarded is not allowed"
    secured.allow("bob", ResourceType.TOPIC, "guarded", AclOperation.READ)
    with secured.as_user("bob") as reader:
        reader.done("SUBSCRIBE", destination=topic, id="s", offset="earliest")
        assert reader.frame().body == "one"
        told = reader.refused("SUBSCRIBE", destination=queue, id="q")
        assert told == "READ of group stomp is not allowed"
    secured.allow("bob", ResourceType.GROUP, "stomp", AclOperation.READ)
    with secured.as_user("bob") as reader:
        reader.done("SUBSCRIBE", destination=queue, id="q")
        assert reader.frame().body == "one"
        told = reader.refused("SEND", destination=topic)
        assert told == "WRITE of guarded is not allowed"


def test_rights_that_end_end_what_was_begun_by_them(secured: Secured) -> None:
    made = secured.admin.create_topics([NewTopic("ends", 1)])
    made["ends"].result(SECONDS)
    read, write = AclOperation.READ, AclOperation.WRITE
    wanted = [(ResourceType.TOPIC, "ends", read), (ResourceType.TOPIC, "ends", write)]
    wanted.append((ResourceType.GROUP, "ends", read))
    for kind, name, operation in wanted:
        secured.allow("alice", kind, name, operation)
    with secured.as_user("alice") as writer, secured.as_user("alice") as reader:
        writer.done("BEGIN", transaction="t")
        writer.done("SEND", "x", destination="/topic/ends", transaction="t")
        reader.done("SUBSCRIBE", destination="/queue/ends", id="q", group="ends")
        for kind, name, operation in wanted[1:]:
            secured.forbid("alice", kind, name, operation)
        assert writer.refused("COMMIT", transaction="t") == "WRITE of ends is not allowed"
        frame = reader.frame()  # within five seconds
        assert (frame.command, frame.headers["message"]) == ("ERROR", "READ of group ends is not allowed")


def test_tls(secured: Secured) -> None:
    stomp = pytest.importorskip("stomp", reason="stomp.py is not installed")
    with Talk(secured.tls, secured.certificates.context(), login="bob", passcode="alice-secret") as wrong:
        assert wrong.connected.command == "ERROR"
    host, _, port = secured.tls.rpartition(":")
    client = stomp.Connection12([(host, int(port))])
    client.set_ssl([(host, int(port))], ca_certs=str(secured.certificates.trusted))
    client.connect("alice", "alice-secret", wait=True)
    assert client.is_connected()
    client.disconnect(receipt="end")
    with pytest.raises(ssl.SSLCertVerificationError):
        Talk(secured.tls, ssl.create_default_context())


def at_every_worker(address: str) -> list[Talk]:
    """Return a connection to each of two workers, which share the address."""
    found: dict[str, Talk] = {}

    def connect() -> bool:
        talk = Talk(address)
        node_id = talk.connected.headers["session"].partition("-")[0]
        if node_id in found:
            talk.socket.close()
        else:
            found[node_id] = talk
        return len(found) == 2

    until(connect, SECONDS, "a connection to each worker")
    return list(found.values())


def test_workers() -> None:
    with running(WorkersProcess(2, PLAIN)) as broker:
        (address,) = addresses(broker, "stomp")
        admin = AdminClient({"bootstrap.servers": broker.kafka})
        admin.create_topics([NewTopic("shared", 4)])["shared"].result(SECONDS)
        topic, partitions = "/topic/shared", "0123"
        readers, writers = at_every_worker(address), at_every_worker(address)
        for reader in readers:
            reader.done("SUBSCRIBE", destination=topic, id="s")
        for number, writer in enumerate(writers):
            for partition in partitions:
                writer.done("SEND", f"{number}-{partition}", destination=topic, partition=partition)
        for reader in readers:
            found = {(frame.body, frame.headers["partition"]) for frame in reader.frames(8)}
            assert found == {(f"{number}-{one}", one) for number in range(2) for one in partitions}
        for writer in writers:
            writer.done("BEGIN", transaction="t")
            for partition in partitions:
                writer.done("SEND", "kept", destination=topic, partition=partition, transaction="t")
            writer.done("COMMIT", transaction="t")
        for reader in readers:
            assert [frame.body for frame in reader.frames(8)] == ["kept"] * 8
        for writer in writers:
            told = writer.refused("SUBSCRIBE", destination="/queue/shared", id="q")
            assert told == "queues are served by a broker of one process: expected /topic/NAME, or workers: 1"
        for reader in readers:
            reader.socket.close()


@pytest.fixture(scope="module")
def single() -> Iterator[BrokerProcess]:
    with running(BrokerProcess(PLAIN)) as broker:
        yield broker


def of(broker: BrokerProcess) -> Talk:
    return Talk(f"127.0.0.1:{broker.ports['stomp']}")


@pytest.mark.parametrize("mode", ["client", "client-individual"])
def test_abort_gives_acknowledgements_back(single: BrokerProcess, mode: str) -> None:
    queue = f"/queue/aborted-{mode}"
    with of(single) as talk:
        for body in ("one", "two", "three"):
            talk.done("SEND", body, destination=queue, key="k")
        talk.done("SUBSCRIBE", destination=queue, id="q", ack=mode, prefetch_count="3")
        one, two, three = (frame.headers["ack"] for frame in talk.frames(3))
        last = two if mode == "client" else one
        talk.done("BEGIN", transaction="t")
        talk.done("ACK", id=last, transaction="t")
        talk.done("ABORT", transaction="t")
        talk.done("BEGIN", transaction="u")  # as if nothing had been said, it may be said again
        talk.done("ACK", id=one, transaction="u")
        talk.done("COMMIT", transaction="u")
        talk.done("BEGIN", transaction="v")
        talk.done("ACK", id=three, transaction="v")
        talk.done("ABORT", transaction="v")
        assert "waits for its ACK" in talk.refused("ACK", id=one)
    with of(single) as other:
        other.done("SUBSCRIBE", destination=queue, id="q", ack="client")
        again = other.frames(2)
        assert [frame.body for frame in again] == ["two", "three"]
        assert {frame.headers["delivery-count"] for frame in again} == {"2"}


def test_transactions_over_partitions_follow_each_other_at_once(single: BrokerProcess) -> None:
    admin = AdminClient({"bootstrap.servers": single.kafka})
    topics = [NewTopic("pair", 2), NewTopic("narrow", 2, config={"max.message.bytes": "1000"})]
    for made in admin.create_topics(topics).values():
        made.result(SECONDS)

    def send(talk: Talk, topic: str, body: str) -> None:
        talk.say("BEGIN", {"transaction": "t"})
        for partition in ("0", "1"):
            talk.say(
                "SEND", {"destination": f"/topic/{topic}", "partition": partition, "transaction": "t"}, body
            )
        talk.say("COMMIT", {"transaction": "t", "receipt": "r"})

    with of(single) as talk:
        for _ in range(30):
            send(talk, "pair", "x")
        assert [frame.command for frame in talk.frames(30)] == ["RECEIPT"] * 30
    for _ in range(10):
        with of(single) as talk:
            send(talk, "narrow", "x" * 2000)
            assert "narrow takes 1000" in talk.frame().headers["message"]
    # Those that were refused have not each left an id behind.
    assert len(admin_api(single, "/v1/transactions")["transactions"]) < 10


def test_a_group_of_a_queue_has_a_name(single: BrokerProcess) -> None:
    for name in ("", "g" * 250):
        with of(single) as talk:
            why = talk.refused("SUBSCRIBE", id="1", destination="/queue/named", group=name)
            assert "expected a name of 1 to 249 characters" in why


def admin_api(broker: BrokerProcess, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{broker.http_ports[0]}{path}", timeout=SECONDS) as answer:
        return json.load(answer)


def test_an_acknowledgement_in_a_transaction_is_in_time_however_long_that_takes() -> None:
    config = {**PLAIN, "shares": {"record_lock_duration_ms": 5500}}
    with running(BrokerProcess(config)) as broker, of(broker) as talk:
        talk.done("SEND", "one", destination="/queue/long")
        talk.done("SUBSCRIBE", destination="/queue/long", id="q", ack="client")
        message = talk.frame()
        talk.done("BEGIN", transaction="t")
        talk.done("ACK", id=message.headers["ack"], transaction="t")
        time.sleep(6)
        talk.done("COMMIT", transaction="t")


def test_unacknowledged_messages_of_all_subscriptions_are_bounded_together() -> None:
    stomp = {"listeners": [listener("plain")], "max_unacknowledged": 2}
    with (
        running(BrokerProcess({"durability": "os", "protocols": {"stomp": stomp}})) as broker,
        of(broker) as talk,
    ):
        for _ in range(3):
            talk.done("SEND", "x", destination="/topic/many", partition="0")
        wanted = {"destination": "/topic/many", "ack": "client-individual", "offset": "earliest"}
        for number in range(15):
            talk.say("SUBSCRIBE", {"id": str(number), **wanted})
        found = talk.frames(20)  # of 15 times 2
        talk.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            talk.frame()
        talk.socket.settimeout(SECONDS)
        talk.say("ACK", {"id": found[0].headers["ack"]})
        assert talk.frame().command == "MESSAGE"
        talk.say("UNSUBSCRIBE", {"id": found[-1].headers["subscription"]})
        assert [frame.command for frame in talk.frames(2)] == ["MESSAGE"] * 2


def test_a_subscriber_that_does_not_read_costs_no_memory(single: BrokerProcess) -> None:
    assert single.process is not None
    producer = Producer({"bootstrap.servers": single.kafka, "linger.ms": 5})
    body = b"x" * 30_000

    def produce(count: int) -> None:
        for _ in range(count):
            producer.produce("heap", body, partition=0)
            producer.poll(0)
            if len(producer) > 500:
                producer.flush(SECONDS)
        assert producer.flush(SECONDS) == 0

    with of(single) as talk, of(single) as reader:
        produce(300)
        talk.done("SUBSCRIBE", destination="/topic/heap", id="s", offset="earliest", partition="0")
        produce(600)
        before = resident_kib(single.process.pid)
        produce(3000)  # 90 MB
        assert resident_kib(single.process.pid) - before < 20_000
        # Others are served meanwhile.
        reader.done("SUBSCRIBE", destination="/topic/heap", id="s", offset="3899", partition="0")
        assert reader.frame().headers["offset"] == "3899"
        assert [int(frame.headers["offset"]) for frame in talk.frames(3900)] == list(range(3900))


def test_the_page_says_what_is(single: BrokerProcess) -> None:
    pytest.importorskip("stomp", reason="stomp.py is not installed")
    found = blocks(PAGES["stomp.md"])
    (console,) = (content for language, content in found if language == "console")
    (program,) = (content for language, content in found if language == "python")
    (shown,) = re.findall(r"printf '(.*)' > broker.yaml", console)
    assert "61613" in program
    config = shown.replace("\\n", "\n")
    assert config == "protocols:\n  kafka: {}\n  stomp: {}\n"
    run_python(program.replace("61613", str(single.ports["stomp"])), single)
    with of(single) as talk:
        talk.done("SUBSCRIBE", destination="/queue/orders", id="q")
        answer = talk.frame()
        assert (answer.body, answer.headers["key"]) == ("one", "k")
