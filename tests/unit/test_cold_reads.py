"""A broker on a disk that waits: who asks for what lies there waits for it, and nobody else does."""

from __future__ import annotations

import errno
import os
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from twisted.internet import task
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import build, read_header, read_records
from megabroker.config.load import parse
from megabroker.errors import Cold
from megabroker.interfaces import IPartition
from megabroker.model import Acks, HostPort, Listener
from megabroker.plugin import discover
from megabroker.protocols.cursus.factory import CursusFactory
from megabroker.protocols.cursus.settings import CursusSettings
from megabroker.protocols.kafka.dispatch import SERVED
from megabroker.protocols.kafka.protocol import KafkaFactory
from megabroker.protocols.kafka.schema import api_versions, fetch, list_offsets
from megabroker.protocols.kafka.schema.registry import request_header_version, response_header_version
from megabroker.protocols.kafka.settings import KafkaSettings
from megabroker.protocols.mega.factory import MegaFactory
from megabroker.protocols.mega.settings import MegaSettings
from megabroker.service import BrokerService
from megabroker.storage import store, warming
from megabroker.storage.files import Files, LogFile
from tests.unit.share_fetch_harness import ShareMember
from tests.unit.slow_files import SlowFiles

_SECONDS = 30
_FETCH_VERSION = 11
_SMALL, _LARGE = b"x" * 100, b"y" * 60_000


class Turns(task.Clock):
    """A clock that is reactor enough for a broker with threads, in a test that takes the turns."""

    def __init__(self) -> None:
        super().__init__()
        self.from_threads: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def callFromThread(self, function: Any, *args: Any) -> None:
        self.from_threads.put(lambda: function(*args))

    callWhenRunning = callFromThread

    def until(self, condition: Callable[[], Any]) -> None:
        """Take turns until something holds."""
        deadline = time.monotonic() + _SECONDS
        while not condition():
            assert time.monotonic() < deadline
            self.advance(0)
            try:
                self.from_threads.get(timeout=0.01)()
            except Empty:
                pass


class ColdCase(SynchronousTestCase):
    """A broker over ``SlowFiles``; partition 0 of ``t`` has small records, partition 1 large ones."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.files = SlowFiles()
        self.patch(store, "Files", lambda: self.files)
        self.clock = Turns()
        plugins = discover()
        text = f"data_dir: {directory.name}\ndurability: os\nhttp: {{enabled: false}}\n"
        self.service = BrokerService(parse(text, "test", plugins), plugins, self.clock)
        self.service.startService()
        self.addCleanup(self.stop)
        configs = {"segment.bytes": "1048576"}
        self.topic = self.done(self.service.core.topics.create("t", 2, configs))
        for at in range(30):
            self.append(0, at, _SMALL)
            self.append(1, at, _LARGE)
        self.factories = {
            "kafka": KafkaFactory(self.service.broker, KafkaSettings(), self.listener("kafka")),
            "mega": MegaFactory(self.service.broker, MegaSettings(), self.listener("mega")),
            "cursus": CursusFactory(self.service.broker, CursusSettings(), self.listener("cursus")),
        }

    def listener(self, wire: str) -> Listener:
        return Listener(wire, "default", HostPort("localhost", 1))

    def stop(self) -> None:
        self.files.go.set()
        self.done(self.service.stopService())

    def done(self, deferred: Any) -> Any:
        results: list[Any] = []
        deferred.addBoth(results.append)
        self.clock.until(lambda: results)
        self.assertNotIsInstance(results[0], Failure)
        return results[0]

    def partition(self, index: int) -> IPartition:
        return self.service.core.topics.partition("t", index)

    def append(self, index: int, at: int, value: bytes) -> None:
        batch = build([(None, value + b"%d" % at, [], 1000 + at)])
        written: list[Any] = []
        header = read_header(batch, 0, len(batch))
        self.partition(index).append(header, batch, Acks.WRITTEN, written.append)
        self.clock.until(lambda: written)

    def connect(self, wire: str = "kafka") -> Any:
        connection: Any = self.factories[wire].buildProtocol(IPv4Address("TCP", "127.0.0.1", 9))
        connection.makeConnection(StringTransport())
        return connection

    def send(self, connection: Any, message: Any, version: int) -> None:
        key = type(message).__schema__.key
        head = struct.pack(">hhih", key, version, 7, 2) + b"me"
        head += b"\0" if request_header_version(key, version) == 2 else b""
        body = message.encode(version)
        connection.dataReceived(struct.pack(">i", len(head) + len(body)) + head + body)

    def received(self, connection: Any, key: int, version: int) -> Any:
        """Wait for an answer."""

        def size() -> int:
            value = connection.transport.value()
            return 4 + struct.unpack_from(">i", value)[0] if len(value) >= 4 else 4

        self.clock.until(lambda: len(connection.transport.value()) >= max(size(), 5))
        data = bytes(connection.transport.value()[: size()])
        rest = connection.transport.value()[size() :]
        connection.transport.clear()
        connection.transport.write(rest)
        response = SERVED[key].api.response
        return response.decoder(version)(data, 8 + response_header_version(key, version), len(data))[0]

    def wait_for(self, connection: Any, expected: bytes) -> None:
        self.clock.until(lambda: len(connection.transport.value()) >= len(expected))
        self.assertTrue(connection.transport.value().startswith(expected))

    def disk_waits(self) -> None:
        """The disk has been asked for something, and does not answer."""
        self.clock.until(self.files.reading.is_set)
        for _ in range(20):
            self.clock.advance(0)

    def others_are_served(self) -> None:
        other = self.connect()
        self.send(other, api_versions.Request(), 0)
        self.assertEqual(self.received(other, 18, 0).error_code, 0)


class FetchTests(ColdCase):
    def fetch(self, *wanted: tuple[int, int], min_bytes: int = 1, isolation_level: int = 0) -> fetch.Request:
        partitions = [
            fetch.Request.Topic.Partition(partition=index, fetch_offset=offset, partition_max_bytes=200_000)
            for index, offset in wanted
        ]
        return fetch.Request(
            max_wait_ms=500,
            min_bytes=min_bytes,
            max_bytes=1 << 20,
            isolation_level=isolation_level,
            topics=[fetch.Request.Topic(topic="t", partitions=partitions)],
        )

    def values(self, response: fetch.Response, row: int = 0) -> list[bytes | None]:
        data = response.responses[0].partitions[row].records
        return [record.value for record in read_records(data)]

    def test_small_and_large_answers_wait_for_the_disk_and_others_do_not_for_them(self) -> None:
        self.patch(warming, "_AGAIN_SECONDS", 0.0)  # here it is cold again as soon as it was read
        for index, value in ((0, _SMALL), (1, _LARGE)):
            for isolation_level in (0, 1):
                self.files.freeze()
                connection = self.connect()
                self.send(connection, self.fetch((index, 3), isolation_level=isolation_level), _FETCH_VERSION)
                self.disk_waits()
                self.assertEqual(connection.transport.value(), b"")
                self.others_are_served()
                self.files.go.set()
                found = self.values(self.received(connection, 1, _FETCH_VERSION))
                self.assertEqual(found[:2], [value + b"3", value + b"4"])

    def test_answers_keep_their_order(self) -> None:
        connection = self.connect()
        self.send(connection, self.fetch((0, 3)), _FETCH_VERSION)
        self.send(connection, api_versions.Request(), 0)
        self.disk_waits()
        self.assertEqual(connection.transport.value(), b"")
        self.files.go.set()
        self.assertEqual(self.values(self.received(connection, 1, _FETCH_VERSION))[0], _SMALL + b"3")
        self.assertEqual(self.received(connection, 18, 0).error_code, 0)

    def test_a_partition_on_the_disk_is_left_out_where_another_has_enough(self) -> None:
        self.files.go.set()
        connection = self.connect()
        self.send(connection, self.fetch((0, 3)), _FETCH_VERSION)
        self.received(connection, 1, _FETCH_VERSION)
        self.files.go.clear()
        self.files.reading.clear()
        both = self.fetch((1, 0), (0, 3))
        self.send(connection, both, _FETCH_VERSION)
        answer = self.received(connection, 1, _FETCH_VERSION)
        self.assertEqual(self.values(answer, 0), [])
        self.assertEqual(self.values(answer, 1)[0], _SMALL + b"3")
        self.disk_waits()
        self.files.go.set()
        more = self.fetch((1, 0), (0, 3), min_bytes=100_000)
        self.send(connection, more, _FETCH_VERSION)
        self.assertEqual(self.values(self.received(connection, 1, _FETCH_VERSION))[0], _LARGE + b"0")

    def test_a_connection_closed_meanwhile_is_forgotten(self) -> None:
        connection = self.connect()
        self.send(connection, self.fetch((0, 3)), _FETCH_VERSION)
        self.disk_waits()
        connection.connectionLost()
        self.files.go.set()
        self.clock.until(lambda: self.files.readings)
        self.assertEqual(connection.transport.value(), b"")
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_many_who_want_the_same_have_it_read_once(self) -> None:
        connections = [self.connect() for _ in range(20)]
        for connection in connections:
            self.send(connection, self.fetch((0, 3)), _FETCH_VERSION)
        self.disk_waits()
        self.files.go.set()
        for connection in connections:
            found = self.values(self.received(connection, 1, _FETCH_VERSION))
            self.assertEqual(found[0], _SMALL + b"3")
        self.assertEqual(self.files.readings, 1)

    def test_a_disk_that_does_not_read_is_waited_for_in_the_end(self) -> None:
        def fails(*args: Any) -> None:
            self.files.reading.set()
            raise OSError

        self.patch(self.files, "warm", fails)
        connection = self.connect()
        self.send(connection, self.fetch((0, 3)), _FETCH_VERSION)
        self.assertEqual(self.values(self.received(connection, 1, _FETCH_VERSION))[0], _SMALL + b"3")


class LookUpTests(ColdCase):
    def ask(self, timestamp: int, index: int = 1) -> list_offsets.Request:
        partition = list_offsets.Request.Topic.Partition(partition_index=index, timestamp=timestamp)
        return list_offsets.Request(topics=[list_offsets.Request.Topic(name="t", partitions=[partition])])

    def test_offsets_by_time_over_segments_whose_indexes_are_not_loaded(self) -> None:
        log: Any = self.partition(1).log
        self.clock.until(lambda: all(segment.saved for segment in log.segments.items[:-1]))
        self.assertGreater(len(log.segments.items), 1)
        for timestamp, offset in ((1020, 20), (1003, 3), (-3, 29)):
            for segment in log.segments.items[:-1]:
                segment.index = None
                segment.max_timestamp = -1
            self.files.freeze()
            connection = self.connect()
            self.send(connection, self.ask(timestamp), 7)
            self.disk_waits()
            self.assertEqual(connection.transport.value(), b"")
            self.others_are_served()
            self.files.go.set()
            answer = self.received(connection, 2, 7).topics[0].partitions[0]
            self.assertEqual((answer.error_code, answer.offset), (0, offset))

    def test_an_index_is_read_in_another_thread(self) -> None:
        log: Any = self.partition(1).log
        self.clock.until(lambda: all(segment.saved for segment in log.segments.items[:-1]))
        first = log.segments.items[0]
        first.index = None
        readers: list[str] = []
        real = self.files.read_bytes

        def read_bytes(path: str) -> bytes | None:
            readers.append(threading.current_thread().name)
            return real(path)

        self.patch(self.files, "read_bytes", read_bytes)
        with self.assertRaises(Cold) as caught:
            log.segments.index_of(first, cached_only=True)
        over: list[bool] = []
        caught.exception.when_room(lambda: over.append(True))
        self.clock.until(lambda: over)
        self.assertIs(log.segments.index_of(first, cached_only=True), first.index)
        self.assertEqual(len(readers), 2)
        self.assertNotIn(threading.current_thread().name, readers)


class ShareFetchTests(ColdCase):
    def ask(self, message: Any, version: int, connection: Any) -> Any:
        self.send(connection, message, version)
        return self.received(connection, type(message).__schema__.key, version)

    def test_members_of_share_groups_wait_for_the_disk_alone(self) -> None:
        self.done(self.service.core.group_configs.set("g", {"share.auto.offset.reset": "earliest"}))
        for index, value in ((0, _SMALL), (1, _LARGE)):
            self.files.freeze()
            member = ShareMember(self, f"m{index}")  # type: ignore[arg-type]
            request = member.request(indexes=[index], max_wait_ms=20_000, max_bytes=1 << 20)
            self.send(member.connection, request, 2)
            self.disk_waits()
            self.assertEqual(member.connection.transport.value(), b"")
            self.others_are_served()
            self.files.go.set()
            (row,) = self.received(member.connection, 78, 2).responses[0].partitions
            found = [record.value for record in read_records(row.records)]
            self.assertEqual(found[:2], [value + b"0", value + b"1"])
            self.assertEqual(row.acquired_records[0].first_offset, 0)


class OtherWiresTests(ColdCase):
    def test_mega_requests_wait_in_their_order(self) -> None:
        connection = self.connect("mega")
        for correlation_id, offset in ((1, 3), (2, 4)):
            head = struct.pack(">iBi", correlation_id, 2, 1) + b"t"
            connection.dataReceived(head + struct.pack(">qi", 0, offset))
        self.disk_waits()
        self.assertEqual(connection.transport.value(), b"")
        self.others_are_served()
        self.files.go.set()
        expected = b""
        for correlation_id, offset in ((1, 3), (2, 4)):
            value = _SMALL + b"%d" % offset
            head = struct.pack(">iBqii", correlation_id, 1, 1000 + offset, offset + 1, len(value))
            expected += head + value
        self.wait_for(connection, expected)

    def test_cursus_streams_go_on_where_the_disk_was_waited_for(self) -> None:
        for partition, value in ((0, _SMALL), (1, _LARGE)):
            self.files.freeze()
            connection = self.connect("cursus")
            command = b"CONSUME t %d 3" % partition
            connection.dataReceived(struct.pack(">I", len(command)) + command)
            self.disk_waits()
            self.assertEqual(connection.transport.value(), b"")
            self.others_are_served()
            self.files.go.set()
            values = [value + b"%d" % at for at in range(3, 30)]
            expected = b"".join(struct.pack(">I", len(one)) + one for one in values)
            self.wait_for(connection, expected)


class FilesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.files = Files()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.fd = self.files.open(f"{directory.name}/log", create=True)
        self.addCleanup(os.close, self.fd)
        self.content = os.urandom(3 << 20)
        self.files.pwritev(self.fd, [self.content], 0)
        self.files.fdatasync(self.fd)

    def test_what_was_just_written_is_in_memory(self) -> None:
        self.assertTrue(self.files.is_cached(self.fd, 0, len(self.content)))
        self.assertEqual(self.files.pread_cached(self.fd, 1000, 5), self.content[5:1005])
        end = len(self.content)
        self.assertEqual(self.files.pread_cached(self.fd, 1000, end - 10), self.content[-10:])
        self.assertEqual(self.files.pread_cached(self.fd, 1000, end), b"")
        self.assertTrue(self.files.is_cached(self.fd, end, 1000))

    def test_what_the_kernel_let_go_of_is_not_until_it_is_read_again(self) -> None:
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if self.files.is_cached(self.fd, 0, len(self.content)):
            self.skipTest("this file system keeps its files in memory, or does not tell")
        for _ in range(100):
            # What the look above has the kernel read meanwhile cannot be let go of yet.
            os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
            if (found := self.files.pread_cached(self.fd, 1000, 5)) is None:
                break
        self.assertIsNone(found)
        self.files.warm(self.fd, 0, len(self.content), 1 << 20)
        self.assertTrue(self.files.is_cached(self.fd, 0, len(self.content)))
        self.assertEqual(self.files.pread_cached(self.fd, 1000, 5), self.content[5:1005])

    def test_where_the_system_cannot_tell_all_is_read_as_it_always_was(self) -> None:
        calls: list[int] = []

        def preadv(fd: int, buffers: Any, position: int, flags: int = 0) -> int:
            calls.append(flags)
            raise OSError(errno.EOPNOTSUPP, "no such flag here")

        self.patch(os, "preadv", preadv)
        for _ in range(3):
            self.assertEqual(self.files.pread_cached(self.fd, 1000, 5), self.content[5:1005])
            self.assertTrue(self.files.is_cached(self.fd, 0, 1000))
        self.assertEqual(len(calls), 1)


class WarmerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Turns()
        self.files = SlowFiles()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.warmer = warming.Warmer(self.files, self.clock.callFromThread)
        self.addCleanup(self.warmer.stop)
        self.addCleanup(self.files.go.set)
        self.file = LogFile(self.files, f"{directory.name}/log", create=True, warmer=self.warmer)

    def test_no_more_than_so_many_readings_are_queued(self) -> None:
        self.patch(warming, "_MAX_READINGS", 3)
        colds = [self.warmer.warm(self.file, at, 10) for at in range(10)]
        self.assertEqual(len(set(map(id, colds))), 3)
        self.assertEqual(set(map(id, colds[3:])), {id(colds[2])})
        self.assertIs(self.warmer.warm(self.file, 1, 10), colds[1])
        over: list[int] = []
        for at, cold in enumerate(colds):
            assert cold is not None
            cold.when_room(lambda at=at: over.append(at))  # type: ignore[misc]
        self.files.go.set()
        self.clock.until(lambda: len(over) == 10)
        self.assertEqual(self.files.readings, 3)

    def test_what_was_read_in_part_is_read_by_a_thread_too(self) -> None:
        self.files.go.set()
        for length in (4096, 1 << 20):
            cold = self.warmer.warm(self.file, 0, length)
            assert cold is not None, "the reactor would wait for the disk"
            over: list[bool] = []
            cold.when_room(lambda over=over: over.append(True))  # type: ignore[misc]
            self.clock.until(lambda over=over: over)
        self.assertIsNone(self.warmer.warm(self.file, 0, 1 << 20))

    def test_who_reads_on_has_more_read_ahead_and_who_jumps_has_not(self) -> None:
        self.files.go.set()
        ahead = []
        position = 0
        for _ in range(6):
            self.warmer.warm(self.file, position, 1 << 20)
            position = self.file.warmed
            ahead.append(self.file.ahead >> 20)
        self.assertEqual(ahead, [1, 2, 4, 8, 8, 8])
        self.warmer.warm(self.file, position + (100 << 20), 1 << 20)
        self.assertEqual(self.file.ahead, 0)

    def test_half_of_what_was_read_ahead_is_used_before_more_is(self) -> None:
        self.files.go.set()
        self.files.pwritev(self.file.fileno(), [bytes(16 << 20)], 0)
        ahead: list[tuple[int, int]] = []
        self.patch(self.files, "read_ahead", lambda fd, position, length: ahead.append((position, length)))
        cold = self.file.cold(0, 1 << 20)
        assert cold is not None
        over: list[bool] = []
        cold.when_room(lambda: over.append(True))
        self.clock.until(lambda: over)
        self.assertEqual(ahead.pop(), (0, 2 << 20))
        self.patch(self.files, "is_cached", lambda *where: True)
        self.assertIsNone(self.file.cold(0, 1 << 20))
        self.assertEqual(self.file.warmed, 2 << 20)
        self.assertIsNone(self.file.cold(1 << 20, 1 << 20))
        self.clock.until(lambda: ahead)
        self.assertEqual(ahead, [(2 << 20, 2 << 20)])

    def test_one_that_waits_and_fails_does_not_keep_others_waiting(self) -> None:
        cold = self.warmer.warm(self.file, 0, 10)
        assert cold is not None
        over: list[bool] = []
        cold.when_room(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
        cold.when_room(lambda: over.append(True))
        self.files.go.set()
        self.clock.until(lambda: over)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stopped_it_lets_who_asks_wait_for_the_disk(self) -> None:
        self.warmer.stop()
        self.assertIsNone(self.warmer.warm(self.file, 0, 10))
