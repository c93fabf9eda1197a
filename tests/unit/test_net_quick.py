"""The compiled part where things go wrong, and whether it is used; what it does else is in tests/property."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
import unittest
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import build_single, scan
from megabroker.errors import ErrorCode, StorageError
from megabroker.net import polling, quick
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import produce
from tests.unit import call_counting
from tests.unit.call_counting import COMPILED, Client, CountingCase, decoded, framed

_NOW_MS = 1_700_000_000_000
_VERSION = 12
_MISSING = "the compiled part is not built (./dev compile)"


def request(number: int = 0, acks: int = 1, topic: str = "t") -> bytes:
    batch = bytes(build_single(None, b"%04d" % number, _NOW_MS))
    data = produce.Request.Topic.Partition(index=0, records=batch)
    named = produce.Request.Topic(name=topic, partition_data=[data])
    return framed(produce.Request(acks=acks, timeout_ms=1000, topic_data=[named]), _VERSION, number)


class CompiledCase(CountingCase):
    compiled = True

    def setUp(self) -> None:
        super().setUp()
        self.done(self.service.core.topics.create("t", 1))
        self.partition: Any = self.service.core.topics.partition("t", 0)
        self.client = self.learned()

    def learned(self) -> Client:
        """Return a connection whose next requests are recognised."""
        client = self.connect()
        client.send(request())
        client.receive(1)
        return client

    @property
    def taken(self) -> int:
        return int(self.reactor.polling.turn.taken)  # type: ignore[attr-defined]

    @property
    def charged(self) -> int:
        return int(self.service.broker.admission.charged_bytes)

    def rows(self, answers: list[bytes]) -> list[tuple[int, int, int]]:
        """Return correlation id, error code and base offset of answers."""
        found = []
        for answer in answers:
            (row,) = decoded(produce.Response, answer, _VERSION).responses[0].partition_responses
            found.append((struct.unpack_from(">i", answer)[0], row.error_code, row.base_offset))
        return found

    def stored(self) -> list[bytes]:
        log = self.partition.log
        found = log.read(0, 1 << 20, log.next_offset)
        data = found.data
        if not isinstance(data, bytes):
            data = os.pread(data.file.fileno(), found.length, data.position)
        return [bytes(data[at : at + header.size_bytes]) for at, header in scan(data, 0, len(data))]


@unittest.skipUnless(COMPILED, _MISSING)
class CompiledTests(CompiledCase):
    def test_a_run_that_cannot_be_written_is_refused_and_the_next_is_not(self) -> None:
        files: Any = self.partition.log._disk.open_files.files
        with mock.patch.object(files, "pwritev", side_effect=OSError(28, "No space left on device")):
            self.client.send(*(request(number) for number in range(1, 4)))
            answers = self.rows(self.client.receive(3))
        refused = int(KafkaError.KAFKA_STORAGE_ERROR)
        self.assertEqual(answers, [(1, refused, -1), (2, refused, -1), (3, refused, -1)])
        self.client.send(request(4), request(5))
        self.assertEqual(self.rows(self.client.receive(2)), [(4, 0, 1), (5, 0, 2)])
        self.assertEqual((self.taken, self.charged, len(self.stored())), (5, 0, 3))

    def test_answers_that_the_socket_does_not_take_are_sent_when_it_does(self) -> None:
        count = 3000
        self.client._server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.client.connection.transport.startWriting = lambda: None
        waiting = 0
        for number in range(1, count, 500):
            self.client.send(*(request(at) for at in range(number, number + 500)))
            for _ in range(4):
                self.reactor.turn()
            waiting = max(waiting, self.client._server.pending_bytes)
        self.assertGreater(waiting, 10_000)
        self.assertGreater(self.taken, count - 1000)

        def turn() -> None:
            CountingTurn(self.reactor)
            self.client._server.doWrite()

        CountingTurn = type(self.reactor).turn
        self.reactor.turn = turn  # type: ignore[method-assign]
        answers = self.rows(self.client.receive(count))
        self.assertEqual(answers, [(number, 0, number) for number in range(1, count + 1)])
        self.assertEqual(self.charged, 0)

    def test_who_is_gone_before_his_answer_is_given_back_what_he_was_charged(self) -> None:
        other = self.learned()
        self.client.send(request(1))
        other.send(request(2))
        self.reactor.polling.turn.take()  # type: ignore[attr-defined]
        self.assertGreater(self.charged, 0)
        self.client.close()
        ((number, code, _),) = self.rows(other.receive(1))
        self.assertEqual((number, code), (2, 0))
        self.assertEqual((self.taken, self.charged, len(self.stored())), (2, 0, 4))

    def test_whoever_is_closed_is_held_by_nothing(self) -> None:
        server = self.client._server
        self.assertIsNotNone(server.quick)
        self.client.close()
        self.reactor.turn()
        self.assertIsNone(server.quick)
        self.client.connection.expect(b"")
        self.assertIsNone(server.quick)

    def test_nothing_overtakes_a_request_that_is_being_carried_out(self) -> None:
        gate = self.client.connection._gate
        gate.close()
        self.client.send(request(1))
        for _ in range(4):
            self.reactor.turn()
        self.assertEqual((self.taken, len(self.stored())), (0, 1))
        gate.open()
        self.assertEqual(self.rows(self.client.receive(1)), [(1, 0, 1)])
        self.client.send(request(2))
        self.assertEqual(self.rows(self.client.receive(1)), [(2, 0, 2)])
        self.assertEqual(self.taken, 1)

    def test_a_run_that_the_log_refuses_is_answered(self) -> None:
        error = StorageError(ErrorCode.STORAGE, "out of order")
        with mock.patch.object(self.partition.log, "refusal", error):
            self.client.send(request(1))
            (answer,) = self.rows(self.client.receive(1))
        self.assertEqual(answer, (1, int(KafkaError.KAFKA_STORAGE_ERROR), -1))
        self.assertEqual(self.charged, 0)

    def test_our_own_fault_ends_the_connections_of_the_run_alone(self) -> None:
        other = self.learned()
        with mock.patch.object(self.partition, "append_run", side_effect=ZeroDivisionError):
            self.client.send(request(1))
            for _ in range(4):
                self.reactor.turn()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(self.client.connection.closed)
        other.send(request(2))
        self.assertEqual(self.rows(other.receive(1)), [(2, 0, 2)])
        self.assertEqual(self.charged, 0)

    def test_our_own_fault_in_one_connection_ends_that_alone(self) -> None:
        other = self.learned()
        other.send(request(1))
        other.receive(1)
        targets = self.factory.run_targets
        self.done(self.service.core.topics.create("u", 1))
        self.client.send(request(1, topic="u"))
        self.client.receive(1)
        with mock.patch.object(targets, "get", side_effect=ZeroDivisionError):
            self.client.send(request(2, topic="u"))
            other.send(request(3))
            self.assertEqual(self.rows(other.receive(1)), [(3, 0, 3)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(self.client.connection.closed)

    def test_our_own_fault_in_one_answer_ends_that_connection_alone(self) -> None:
        other = self.learned()
        self.client.send(request(1))
        other.send(request(2))
        self.client._server.connected = None
        with mock.patch.object(self.client.connection, "_filled", side_effect=ZeroDivisionError):
            ((number, code, _),) = self.rows(other.receive(1))
        self.assertEqual((number, code), (2, 0))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.client._server.connected = 1
        self.assertEqual((self.taken, self.charged), (2, 0))

    def test_nobody_is_read_here_while_too_much_is_in_flight(self) -> None:
        admission = self.service.broker.admission
        admission.charged_bytes += admission.in_flight_bytes + 1
        self.client.send(request(1))
        self.assertEqual(self.rows(self.client.receive(1)), [(1, 0, 1)])
        self.assertEqual(self.taken, 0)
        admission.discharge(admission.in_flight_bytes + 1)
        self.client.send(request(2))
        self.assertEqual(self.rows(self.client.receive(1)), [(2, 0, 2)])
        self.assertEqual(self.taken, 1)


@unittest.skipUnless(COMPILED, _MISSING)
class TurnTests(SynchronousTestCase):
    def test_one_that_takes_long_leaves_the_rest_to_the_next(self) -> None:
        """As in pure Python: who was read is answered soon, and nobody waits for ever."""
        read: list[list[int]] = []
        connections: dict[int, Any] = {}
        epoll = select.epoll()
        self.addCleanup(epoll.close)
        ends = [socket.socketpair() for _ in range(5)]
        for number, (mine, peer) in enumerate(ends):
            self.addCleanup(mine.close)
            self.addCleanup(peer.close)
            epoll.register(mine.fileno(), select.EPOLLIN)
            connections[mine.fileno()] = mock.Mock(quick=None, number=number)
            peer.send(b"1")

        def take_long(connection: Any) -> None:
            read[-1].append(connection.number)
            time.sleep(0.006)

        module = quick.compiled()
        assert module is not None
        turn = module.Turn(
            epoll.fileno(),
            connections,
            memoryview(bytearray(1)),
            take_long,
            mock.Mock(),
            mock.Mock(),
            mock.Mock(),
            0.01,
        )
        for _ in range(3):
            read.append([])
            turn.take()
        self.assertEqual(sorted(number for one in read for number in one), [0, 1, 2, 3, 4])
        self.assertLess(max(map(len, read)), 3)


@unittest.skipUnless(COMPILED, _MISSING)
class CompiledInMemoryTests(CompiledCase):
    config = "storage: memory\n"

    def test_a_log_in_memory_gets_the_batches_one_by_one(self) -> None:
        self.client.send(*(request(number) for number in range(1, 21)))
        self.assertEqual(self.rows(self.client.receive(20)), [(at, 0, at) for at in range(1, 21)])
        self.assertEqual((self.taken, len(self.partition.log.batches)), (20, 21))
        self.assertEqual([header.base_offset for header, _ in self.partition.log.batches], list(range(21)))


@unittest.skipUnless(COMPILED, _MISSING)
class CompiledFsyncTests(CompiledCase):
    def setUp(self) -> None:
        self.patch(
            call_counting, "_CONFIG", call_counting._CONFIG.replace("durability: os", "durability: fsync")
        )
        super().setUp()

    def test_acks_of_all_wait_for_the_disk(self) -> None:
        self.client.send(request(1, acks=-1))
        self.client.receive(1)
        self.client.send(*(request(number, acks=-1) for number in range(2, 12)))
        self.assertEqual(self.rows(self.client.receive(10)), [(at, 0, at) for at in range(2, 12)])
        self.assertEqual(self.taken, 10)


class ChoosingTests(SynchronousTestCase):
    def test_a_variable_switches_it_off(self) -> None:
        scratch = memoryview(bytearray(1))
        with mock.patch.dict(os.environ, {quick.VARIABLE: "0"}):
            self.assertIsNone(quick.compiled())
            self.assertEqual(quick.describe(), "compiled part switched off")
            if polling.available():
                self.assertIs(
                    type(quick.make_polling(mock.Mock(), mock.Mock(), scratch)), polling.NestedEpoll
                )

    def test_it_is_said_whether_it_is_used(self) -> None:
        with mock.patch.dict(os.environ, {quick.VARIABLE: "1"}):
            expected = "compiled part in use" if COMPILED and polling.available() else "no compiled part"
            self.assertEqual(quick.describe(), expected)
