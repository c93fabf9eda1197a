"""Fetch sessions over a socket, and kafka-python, which keeps them by default."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import pytest
from kafka import KafkaConsumer
from kafka import TopicPartition as KafkaPythonPartition

from megabroker.protocols.kafka.schema import fetch
from tests.interop.test_kafka_confluent import produce
from tests.interop.wires import kafka_request, receive

pytestmark = pytest.mark.interop

New = Callable[..., str]
_VERSION = 11
_Topic = fetch.Request.Topic
_Partition = fetch.Request.Topic.Partition


class Fetcher:
    """Fetches one topic by hand."""

    def __init__(self, kafka: str, topic: str) -> None:
        host, _, port = kafka.partition(":")
        self.socket = socket.create_connection((host, int(port)), 10)
        self.topic = topic
        self.session_id = 0

    def fetch(self, epoch: int, offsets: dict[int, int], max_wait_ms: int = 0) -> fetch.Response:
        partitions = [
            _Partition(partition=index, fetch_offset=offset, partition_max_bytes=1 << 20)
            for index, offset in offsets.items()
        ]
        request = fetch.Request(
            max_wait_ms=max_wait_ms,
            min_bytes=1,
            session_id=self.session_id,
            session_epoch=epoch,
            topics=[_Topic(topic=self.topic, partitions=partitions)] if partitions else [],
        )
        self.socket.sendall(kafka_request(1, _VERSION, request.encode(_VERSION)))
        data = receive(self.socket, struct.unpack(">i", receive(self.socket, 4))[0])
        response, end = fetch.Response.decode(data, _VERSION, 4)
        assert end == len(data)
        self.session_id = response.session_id
        return response


def rows(response: fetch.Response) -> dict[int, tuple[int, bool]]:
    """Return what an answer says: high watermark and whether there are records, by partition."""
    return {
        row.partition_index: (row.high_watermark, bool(row.records))
        for topic in response.responses
        for row in topic.partitions
    }


def test_answers_say_what_is_new(kafka: str, new_topic: New) -> None:
    topic = new_topic(3)
    fetcher = Fetcher(kafka, topic)
    assert rows(fetcher.fetch(0, {0: 0, 1: 0, 2: 0})) == {0: (0, False), 1: (0, False), 2: (0, False)}
    session_id = fetcher.session_id
    assert session_id > 0
    assert rows(fetcher.fetch(1, {})) == {}
    produce(kafka, topic, [b"one"], partition=1)
    assert rows(fetcher.fetch(2, {}, max_wait_ms=5000)) == {1: (1, True)}
    assert rows(fetcher.fetch(3, {1: 1})) == {}
    assert fetcher.session_id == session_id
    fetcher.socket.close()
    again = Fetcher(kafka, topic)
    again.session_id = session_id
    produce(kafka, topic, [b"two"], partition=2)
    assert rows(again.fetch(4, {}, max_wait_ms=5000)) == {2: (1, True)}
    assert again.fetch(4, {}).error_code == 71  # INVALID_FETCH_SESSION_EPOCH
    again.session_id = session_id
    assert rows(again.fetch(-1, {0: 0})) == {0: (0, False)}
    assert again.session_id == 0
    again.session_id = session_id
    assert again.fetch(5, {}).error_code == 70  # FETCH_SESSION_ID_NOT_FOUND


def test_kafka_python_over_many_partitions(kafka: str, new_topic: New) -> None:
    topic = new_topic(40)
    partitions = [KafkaPythonPartition(topic, index) for index in range(40)]
    consumer = KafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest", fetch_max_wait_ms=100)
    try:
        consumer.assign(partitions)
        for number in range(4):
            for index in range(number, 40, 7):
                produce(kafka, topic, [f"{number}-{index}".encode()], partition=index)
            expected = {f"{number}-{index}".encode() for index in range(number, 40, 7)}
            found: set[bytes] = set()
            for _ in range(100):
                for records in consumer.poll(200).values():
                    found.update(record.value for record in records)
                if found >= expected:
                    break
            assert found == expected
        handlers = consumer._fetcher._session_handlers.values()
        assert [handler.next_metadata.session_id > 0 for handler in handlers] == [True]
    finally:
        consumer.close(autocommit=False)
