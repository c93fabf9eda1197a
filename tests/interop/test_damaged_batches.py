"""A bit that changed while the broker was down: what clients get, and how an operator gets past it."""

from __future__ import annotations

import pathlib
import socket
import struct

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from megabroker.cli.main import commands
from megabroker.client.mega import MessageClient
from megabroker.protocols.cursus.later.batch import decode_batch
from tests.brokers import BrokerProcess
from tests.crash.test_fsck import flip
from tests.http.asking import Api
from tests.interop.kafka_contents import admin_of, create
from tests.interop.secured import listener
from tests.interop.wires import receive_all

pytestmark = pytest.mark.interop

_BATCHES = 6
_DAMAGED = 2


def fill(kafka: str) -> None:
    create(admin_of(kafka), NewTopic("t", 1, 1))
    producer = Producer({"bootstrap.servers": kafka})
    for number in range(_BATCHES):
        producer.produce("t", b"%d" % number, partition=0)
        assert producer.flush(30) == 0


def consumed(kafka: str, offset: int) -> tuple[list[bytes], list[int]]:
    """Read with librdkafka to the end, seeking on by one after each error; return values and errors."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "g", "enable.partition.eof": True})
    values: list[bytes] = []
    errors: list[int] = []
    try:
        consumer.assign([TopicPartition("t", 0, offset)])
        while True:
            message = consumer.poll(30)
            assert message is not None
            error = message.error()
            if error is None:
                values.append(message.value())
            elif error.code() == KafkaError._PARTITION_EOF:
                return values, errors
            else:
                errors.append(error.code())
                consumer.seek(TopicPartition("t", 0, message.offset() + 1))
    finally:
        consumer.close()


def streamed(port: int, offset: int) -> list[bytes]:
    """Return what cursus sends from an offset on, until it closes the connection."""
    command = b"CONSUME t 0 %d" % offset
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(struct.pack(">IH", len(command) + 2, 0) + command)
        with connection.makefile("rb") as stream:
            frames = []
            while head := stream.read(4):
                frames.append(stream.read(*struct.unpack(">I", head)))
    return frames


def followed(port: int) -> tuple[list[bytes], bytes]:
    """Return the messages that STREAM sends from the beginning, and what it says at its end."""
    command = b"STREAM topic=t partition=0 group=follows member=m offset=0"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(struct.pack(">IH", len(command) + 2, 0) + command)
        with connection.makefile("rb") as stream:
            frames = []
            while head := stream.read(4):
                frames.append(stream.read(*struct.unpack(">I", head)))
    *batches, last = filter(None, frames)
    return [one.payload for batch in batches for one in decode_batch(batch, 100).messages], last


def subscribed(port: int) -> tuple[list[bytes], bytes]:
    """Return the messages that STOMP sends from the beginning, and the ERROR after them."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"CONNECT\naccept-version:1.2\n\n\0")
        connection.sendall(b"SUBSCRIBE\nid:1\ndestination:/topic/t\noffset:earliest\n\n\0")
        _, *frames, last, rest = receive_all(connection).split(b"\0")
    assert not rest.strip()
    return [frame.partition(b"\n\n")[2] for frame in frames], last


def test_a_damaged_batch(tmp_path: pathlib.Path) -> None:
    config = {"protocols": {"stomp": {"listeners": [listener("stomp")]}}}
    broker = BrokerProcess(config, directory=tmp_path)
    with broker:
        fill(broker.kafka)
        assert broker.stop() == 0
    path = tmp_path / "data/t-0/00000000000000000000.log"
    size = path.stat().st_size // _BATCHES
    flip(path, _DAMAGED * size + 66, 3)
    whole = [b"%d" % number for number in range(_BATCHES) if number != _DAMAGED]
    with BrokerProcess(config, directory=tmp_path) as broker:
        for _ in range(2):
            values, errors = consumed(broker.kafka, 0)
            assert (values, set(errors)) == (whole, {KafkaError.INVALID_MSG})  # CORRUPT_MESSAGE, its number 2
        with MessageClient("127.0.0.1", broker.ports["mega"]) as client:
            told = [client.consume("t", number) for number in range(_BATCHES)]
        assert [one["success"] for one in told] == [number != _DAMAGED for number in range(_BATCHES)]
        before, behind = (streamed(broker.ports["cursus"], start) for start in (0, _DAMAGED + 1))
        assert before[:-1] == whole[:_DAMAGED]
        assert behind == whole[_DAMAGED:]
        assert before[-1].startswith(b"ERROR: ")
        assert streamed(broker.ports["cursus"], _DAMAGED) == before[-1:]
        for messages, last in (followed(broker.ports["cursus"]), subscribed(broker.ports["stomp"])):
            assert messages == whole[:_DAMAGED]
            assert b"reason=error offset=%d" % _DAMAGED in last or b"are damaged" in last
        api = Api(broker.http_ports[0])
        found = api.get("/v1/topics/t/partitions/0/messages")
        assert ([one["value"] for one in found["messages"]], found["next_offset"]) == (["0", "1"], _DAMAGED)
        assert api.problem("GET", f"/v1/topics/t/partitions/0/messages?offset={_DAMAGED}")[0] == 500
        [why] = [one for one in broker.log.splitlines() if "stream-ended" in one]
        assert f"stream-ended: t-0 at {_DAMAGED}: ERROR: broker_error" in why
        [line] = [one for one in broker.log.splitlines() if "log-damaged" in one]
        assert f"{path}: {size} bytes at {_DAMAGED * size} unreadable" in line
        assert broker.stop() == 0
    repaired = CliRunner().invoke(commands, ["fsck", "--repair", str(tmp_path / "data")])
    assert repaired.exit_code == 1, repaired.output  # something is lost
    with BrokerProcess(directory=tmp_path) as broker:
        assert consumed(broker.kafka, 0) == (whole, [])
        assert broker.stop() == 0
