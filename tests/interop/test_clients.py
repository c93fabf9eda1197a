"""The blocking clients of MEGA and cursus against real brokers, which die meanwhile, and hostile peers."""

from __future__ import annotations

import itertools
import pathlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from megabroker.client import (
    BadResponse,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    CursusClient,
    InvalidOffset,
    MessageClient,
    NotAuthenticated,
    NotConnected,
    PartitionNotServed,
    Refused,
    RequestTimedOut,
    Retry,
    StreamOutOfStep,
    TopicNotFound,
)
from megabroker.testing.server import BrokerServer
from tests.brokers import BrokerProcess
from tests.interop.certificates import Certificates
from tests.interop.hostile_server import HostileServer, drip
from tests.interop.secured import set_password

pytestmark = pytest.mark.interop

QUICK = Retry(attempts=3, first_s=0.01, longest_s=0.02)
PATIENT = Retry(attempts=40, first_s=0.05, longest_s=0.25)


def cursus(broker: Any, **options: Any) -> CursusClient:
    return CursusClient("127.0.0.1", broker.ports["cursus"], **{"timeout": 20, **options})


def mega(broker: Any, **options: Any) -> MessageClient:
    return MessageClient("127.0.0.1", broker.ports["mega"], **{"timeout": 20, **options})


# --- every request ---


def test_every_request_of_cursus(broker: BrokerProcess, unique: Callable[[str], str]) -> None:
    name = unique("c")
    with cursus(broker) as client:
        assert client.create_topic(name, 2) == 2
        assert client.create_topic(name, 1) == 2
        assert name in client.list_topics()
        client.publish(name, "first")
        client.publish(name, b"\xff\x00 second ")
        client.publish(name, "CONSUME is a word like any other")
        found = [message.payload for partition in (0, 1) for message in client.stream(name, partition)]
        assert sorted(found) == [b"CONSUME is a word like any other", b"first", b"\xff\x00 second "]
        assert "CREATE <topic>" in client.help()
        client.delete_topic(name)
        for ask, kind, code in (
            (lambda: client.publish(name, "x"), TopicNotFound, "TOPIC_NOT_FOUND"),
            (lambda: client.delete_topic(name), TopicNotFound, "TOPIC_NOT_FOUND"),
            (lambda: list(client.stream(name)), PartitionNotServed, "NO_DISK_HANDLER"),
            (lambda: client.create_topic("ä"), Refused, "INVALID_TOPIC"),
        ):
            with pytest.raises(kind) as caught:
                ask()
            assert (caught.value.code, caught.value.may_be_done) == (code, False)
    with pytest.raises(NotConnected, match="call connect"):
        client.list_topics()
    client.connect()
    assert client.connected
    client.close()


def test_a_long_stream_of_cursus_goes_on_over_the_bound_of_one_consume(
    broker: BrokerProcess, unique: Callable[[str], str]
) -> None:
    name = unique("long")
    texts = [f"message {i}" for i in range(8192 * 2 + 100)]
    with cursus(broker) as client:
        client.create_topic(name, 1)
        assert client.publish_many(name, texts) == len(texts)
        messages = list(client.stream(name))
        assert [message.text for message in messages] == texts
        assert [message.offset for message in messages] == list(range(len(texts)))
        assert [message.text for message in client.stream(name, 0, len(texts) - 2)] == texts[-2:]
        assert list(client.stream(name, 0, len(texts))) == []


def test_cursus_says_where_it_cannot_count(broker: BrokerProcess, unique: Callable[[str], str]) -> None:
    name = unique("marked")
    producer = Producer({"bootstrap.servers": broker.kafka, "transactional.id": name})
    producer.init_transactions()
    with cursus(broker) as client:
        client.create_topic(name, 1)
        for texts in ("ab", "cd"):  # each pair with a marker behind it, which has an offset too
            producer.begin_transaction()
            for text in texts:
                producer.produce(name, text)
            producer.commit_transaction()
        stream = client.stream(name)
        assert [next(stream).text for _ in range(4)] == ["a", "b", "c", "d"]
        with pytest.raises(StreamOutOfStep, match="has another message than the one counted"):
            next(stream)


def test_streams_that_follow(broker: BrokerProcess, unique: Callable[[str], str]) -> None:
    name = unique("followed")
    with cursus(broker) as client, mega(broker) as other:
        client.create_topic(name, 1)
        by_cursus = client.stream(name, follow=True, poll_seconds=0.02)
        by_mega = other.stream(name, follow=True, poll_seconds=0.02)
        for i in range(3):
            timer = threading.Timer(0.05, client.publish, (name, f"later {i}"))
            timer.start()
            assert (next(by_cursus).text, next(by_mega).text) == (f"later {i}", f"later {i}")
            assert other.produce(name, f"between {i}")["success"]  # while its stream is under way
            assert (next(by_cursus).offset, next(by_mega).offset) == (2 * i + 1, 2 * i + 1)
            timer.join()
        by_cursus.close()  # type: ignore[attr-defined]


def test_many_messages_of_mega(broker: BrokerProcess, unique: Callable[[str], str]) -> None:
    name = unique("many")
    with mega(broker) as client:
        client.create_topic(name)
        texts = [f"message {i}" for i in range(2000)] + ["x" * 300_000] * 3 + [""]
        assert list(client.produce_many(name, texts)) == list(range(len(texts)))
        messages = list(client.stream(name))
        assert [message.text for message in messages] == texts
        assert all(message.timestamp_ms for message in messages)
        assert [message.offset for message in client.stream(name, 1999)] == [1999, 2000, 2001, 2002, 2003]
        with pytest.raises(TopicNotFound):
            list(client.stream(unique("none")))
        with pytest.raises(TopicNotFound):
            list(client.produce_many(unique("none"), ["x"]))
        with pytest.raises(ValueError, match="offset: expected 0 or more, not -1"):
            client.stream(name, -1)


def test_pipelining_is_faster_than_turns(broker: BrokerProcess, unique: Callable[[str], str]) -> None:
    name = unique("fast")
    with mega(broker) as client:
        client.create_topic(name)
        begun = time.monotonic()
        for i in range(500):
            client.produce(name, f"{i}")
        in_turns = time.monotonic() - begun
        begun = time.monotonic()
        for _ in client.produce_many(name, map(str, range(500))):
            pass
        assert time.monotonic() - begun < in_turns


def test_threads_share_the_connections_of_a_pool(broker: BrokerProcess, unique: Callable[[str], str]) -> None:
    name = unique("shared")
    sizes = []
    failures: list[Exception] = []
    with cursus(broker, pool_size=3) as client, mega(broker) as one:
        client.create_topic(name, 1)

        def work(number: int) -> None:
            try:
                for i in range(20):
                    client.publish(name, f"{number}/{i}")
                    assert one.produce(name, f"mega {number}/{i}")["success"]
                    sizes.append(client._pool.count)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert max(sizes) <= 3
        assert len({message.payload for message in one.stream(name)}) == 320


# --- other settings of the broker ---


def test_both_dialects_of_mega() -> None:
    for dialect in ("original", "documented"):
        config = {"protocols": {"mega": {"dialect": dialect}}}
        with BrokerServer(config) as server, mega(server, dialect=dialect) as client:
            client.create_topic("t")
            assert list(client.produce_many("t", ["a", "b"])) == [0, 1]
            assert [message.text for message in client.stream("t")] == ["a", "b"]
            assert client.consume("t", 1)["payload"] == "b"


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4"])
def test_compression(compression: str) -> None:
    config = {"protocols": {"cursus": {"compression": compression, "consume_keep_open": True}}}
    large = "compressible " * 20_000
    with BrokerServer(config) as server:
        with cursus(server, compression=compression, consume_keep_open=True) as client:
            client.create_topic("t", 1)
            client.publish("t", large)
            client.publish("t", "small")
            assert [message.text for message in client.stream("t")] == [large, "small"]
            with pytest.raises(PartitionNotServed):
                list(client.stream("t", 7))
        with (
            pytest.raises(Refused, match="invalid frame"),
            cursus(server, compression="none", retry=QUICK) as client,
        ):
            client.list_topics()


def test_subscriptions() -> None:
    with (
        BrokerServer({"protocols": {"cursus": {"subscribe_push": True}}}) as server,
        cursus(server) as client,
    ):
        client.create_topic("t", 2)
        client.publish("t", "before")
        with client.subscribe("t", timeout=0.3) as messages:
            client.publish("t", "one")
            assert next(messages) == b"one"
            client.publish("t", "two")
            assert next(messages) == b"two"
            with pytest.raises(RequestTimedOut):
                next(messages)
        with pytest.raises(TopicNotFound):
            client.subscribe("none")


def test_tls_and_auth(tmp_path: pathlib.Path) -> None:
    certificates = Certificates(tmp_path)
    listener = {"endpoint": "tcp:0:interface=127.0.0.1", "tls": certificates.tls()}
    config = {
        "protocols": {
            "mega": {"listeners": [listener]},
            "cursus": {"listeners": [{**listener, "auth": "required"}]},
        }
    }
    context = certificates.context()
    with BrokerProcess(config) as server:
        set_password(AdminClient({"bootstrap.servers": server.kafka}), "alice", "two words")
        with mega(server, tls=context, retry=QUICK) as client:
            client.create_topic("t")
            assert list(client.produce_many("t", ["a", "b"])) == [0, 1]
        with cursus(server, tls=context, user="alice", password="two words", pool_size=2) as client:
            client.publish("t", "c")
            assert [message.text for message in client.stream("t")] == ["a", "b", "c"]
        with pytest.raises(NotAuthenticated, match="authentication failed"):
            cursus(server, tls=context, user="alice", password="wrong").connect()
        with cursus(server, tls=context) as nobody:
            for ask in (nobody.list_topics, lambda: list(nobody.stream("t"))):
                with pytest.raises(NotAuthenticated, match="authentication required"):
                    ask()
        with pytest.raises(ClientError, match="is that a cursus port"):
            cursus(server, retry=QUICK).list_topics()
        with pytest.raises(ConnectFailed, match="is that a port with TLS"):
            CursusClient("localhost", server.ports["kafka"], tls=context, retry=QUICK).connect()


# --- brokers that die ---


@pytest.fixture(scope="module")
def mortal() -> Iterator[BrokerProcess]:
    """A broker with files, to be killed."""
    with BrokerProcess({"durability": "fsync"}) as broker:
        yield broker


def test_a_killed_broker_loses_nothing_of_cursus(mortal: BrokerProcess) -> None:
    texts = [f"text {i}" for i in range(600)]
    client = cursus(mortal, retry=PATIENT, timeout=5)
    client.create_topic("killed", 1)

    def publish() -> None:
        for text in texts:
            client.publish("killed", text)

    publishing = threading.Thread(target=publish)
    publishing.start()
    for _ in range(2):
        time.sleep(0.15)
        mortal.kill()
        mortal.start()
    publishing.join(60)
    found = [message.text for message in client.stream("killed")]
    # Killed between the record and the reply, it may store the one that is published again twice.
    assert [text for text, _ in itertools.groupby(found)] == texts
    assert len(found) <= len(texts) + 2
    client.close()


def test_a_killed_broker_and_an_open_stream(mortal: BrokerProcess) -> None:
    with cursus(mortal, retry=PATIENT) as client, mega(mortal, retry=PATIENT) as other:
        client.create_topic("open", 1)
        client.publish_many("open", [f"{i}" * 1000 for i in range(3000)])
        by_cursus, by_mega = client.stream("open"), other.stream("open")
        first = list(itertools.islice(by_cursus, 100)), list(itertools.islice(by_mega, 100))
        mortal.kill()
        mortal.start()
        rest = list(by_cursus), list(by_mega)
        for begun, ended in zip(first, rest, strict=True):
            assert [message.offset for message in begun + ended] == list(range(3000))


def test_mega_repeats_a_produce_only_if_told_to() -> None:
    stored = struct.pack(">iBqi", 1, 1, 0, 0)

    def answer(connection: socket.socket) -> None:
        connection.sendall(stored)

    def hang_up(connection: socket.socket) -> None:
        pass

    with HostileServer(hang_up, answer) as server:
        client = MessageClient("127.0.0.1", server.port, timeout=5, retry=QUICK)
        with pytest.raises(ConnectionLost) as caught:
            client.produce("t", "x")
        assert caught.value.may_be_done
        assert len(server.received) == 1
        assert client.produce("t", "x")["offset"] == 0
        client.close()
    for request, options in (("produce", {"repeat_produce": True}), ("create", {})):
        created = struct.pack(">iBqH", 1, 1, 0, 1) + b"t"

        def create(connection: socket.socket, created: bytes = created) -> None:
            connection.sendall(created)

        with HostileServer(hang_up, answer if request == "produce" else create) as server:
            client = MessageClient("127.0.0.1", server.port, timeout=5, retry=QUICK, **options)
            done = client.produce("t", "x") if request == "produce" else client.create_topic("t")
            assert done["success"]
            assert len(server.received) == 2
            client.close()


def test_a_connection_that_the_broker_has_closed_is_not_used_again() -> None:
    with (
        BrokerServer({"limits": {"idle_seconds": 1}}) as server,
        mega(server, retry=Retry(attempts=1)) as client,
    ):
        client.create_topic("t")
        connection = client._pool._idle[0]._socket
        connection.settimeout(10)
        assert connection.recv(1, socket.MSG_PEEK) == b""  # closed, and not yet known to the client
        assert client.produce("t", "x")["offset"] == 0


def test_retrying_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    client = CursusClient("127.0.0.1", free, retry=QUICK)
    for ask in (client.list_topics, client.connect, lambda: list(client.stream("t"))):
        with pytest.raises(ConnectFailed, match=f"127.0.0.1:{free}: "):
            ask()


# --- hostile peers ---


def sends(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(data)


def endless(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"\0\0\0\x01x" * 1000)


def silent(connection: socket.socket) -> None:
    time.sleep(3)


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (sends(b"\xff\xff\xff\xff"), BadResponse),
        (sends(b"\x7f\0\0\0"), BadResponse),
        (sends(b"HTTP/1.1 400 Bad Request\r\n\r\n"), BadResponse),
        (sends(b"\0\0\0\5abc"), ConnectionLost),
        (sends(b""), ConnectionLost),
        (silent, RequestTimedOut),
        (drip(struct.pack(">I", 60) + b"x" * 60, 0.05), RequestTimedOut),
        (sends(struct.pack(">I", 5) + b"hello"), BadResponse),
        (endless, BadResponse),
    ],
)
def test_hostile_cursus(behaviour: Any, kind: type[ClientError]) -> None:
    with HostileServer(behaviour) as server:
        client = CursusClient("127.0.0.1", server.port, timeout=0.25, retry=Retry(attempts=1))
        begun = time.monotonic()
        with pytest.raises(kind):
            client.create_topic("t")
        assert time.monotonic() - begun < 2
        assert not client.connected
        client.close()


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (sends(struct.pack(">iBqii", 1, 1, 0, 1, 2**31 - 1)), BadResponse),
        (sends(struct.pack(">iBqii", 2, 1, 0, 1, 1) + b"x"), BadResponse),
        (sends(struct.pack(">iBqii", 1, 1, 0, 0, 1) + b"x"), BadResponse),
        (drip(struct.pack(">iBqii", 1, 1, 0, 1, 60) + b"x" * 60, 0.05), RequestTimedOut),
        (silent, RequestTimedOut),
        (endless, BadResponse),
    ],
)
def test_hostile_mega(behaviour: Any, kind: type[ClientError]) -> None:
    with HostileServer(behaviour) as server:
        client = MessageClient("127.0.0.1", server.port, timeout=0.25, retry=Retry(attempts=1))
        begun = time.monotonic()
        with pytest.raises(kind):
            list(client.stream("t"))
        assert time.monotonic() - begun < 2
        assert not client.connected


def test_a_handshake_that_never_ends() -> None:
    def behave(connection: socket.socket) -> None:
        drip(b"\x16\x03\x03\x40\x00" + bytes(200), 0.05)(connection)

    import ssl

    with HostileServer(behave) as server:
        client = CursusClient(
            "127.0.0.1",
            server.port,
            tls=ssl.create_default_context(),
            connect_timeout=0.3,
            retry=Retry(attempts=1),
        )
        begun = time.monotonic()
        with pytest.raises(ConnectFailed):
            client.connect()
        assert time.monotonic() - begun < 2


def test_endless_messages_are_held_one_at_a_time() -> None:
    def behave(connection: socket.socket) -> None:
        large = struct.pack(">I", 1 << 20) + bytes(1 << 20)
        while True:
            connection.sendall(large)

    with HostileServer(behave) as server:
        client = CursusClient("127.0.0.1", server.port, timeout=5, retry=Retry(attempts=1))
        stream = client.stream("t")
        for _ in range(20):
            assert len(next(stream).payload) == 1 << 20
        stream.close()  # type: ignore[attr-defined]


def test_a_pool_that_is_used_up() -> None:
    def behave(connection: socket.socket) -> None:
        time.sleep(1)
        connection.sendall(struct.pack(">I", 11) + b"(no topics)")

    with HostileServer(behave) as server:
        client = CursusClient("127.0.0.1", server.port, timeout=5, pool_size=1, retry=Retry(attempts=1))
        other = threading.Thread(target=client.list_topics)
        other.start()
        while not server.received:
            time.sleep(0.01)
        client.timeout = 0.1
        with pytest.raises(RequestTimedOut, match="all 1 connections were in use") as caught:
            client.list_topics()
        assert not caught.value.may_be_done
        other.join()
        client.close()


def test_connecting_anew_while_another_thread_is_at_the_old_connection() -> None:
    def behave(connection: socket.socket) -> None:
        time.sleep(0.5)
        connection.sendall(struct.pack(">ib", 1, 0) + b"\1")

    with HostileServer(
        behave, lambda connection: connection.sendall(struct.pack(">ib", 1, 0) + b"\1")
    ) as server:
        client = MessageClient("127.0.0.1", server.port, timeout=5)
        client.connect()
        other = threading.Thread(target=client.consume, args=("t", 0))
        other.start()
        while not server.received:
            time.sleep(0.01)
        client.close()
        client.connect()
        other.join()
        assert client.connected
        assert not client.consume("t", 0)["success"]
        client.close()


def test_an_offset_that_is_none(broker: BrokerProcess, unique: Callable[[str], str]) -> None:
    name = unique("none")
    with mega(broker) as client:
        client.create_topic(name)
        assert list(client.stream(name, 5)) == []
        assert client.consume(name, 0)["error_code"] == InvalidOffset("INVALID_OFFSET").code
