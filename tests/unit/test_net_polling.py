"""Many connections behind one descriptor: each is read, none harms another, none is read that went away."""

from __future__ import annotations

import select
import socket
import unittest
from typing import Any

from twisted.internet import main
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from megabroker.net import polling, turns
from megabroker.net.polling import NestedEpoll, available
from megabroker.net.turns import Turns


class Reactor:
    def __init__(self) -> None:
        self.readers: list[object] = []

    def addReader(self, reader: object) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: object) -> None:
        self.readers.remove(reader)


class Connection:
    """One end of a pair; ``peer`` is the other."""

    def __init__(self, polling: NestedEpoll) -> None:
        self.polling = polling
        self.mine, self.peer = socket.socketpair()
        self.mine.setblocking(False)
        self.heard: list[Any] = []
        self.on_read: Any = None

    def fileno(self) -> int:
        return self.mine.fileno()

    def doRead(self) -> Any:
        data = self.mine.recv(100)
        self.heard.append(data)
        if self.on_read is not None:
            return self.on_read()
        return None if data else main.CONNECTION_DONE

    def stopWriting(self) -> None:
        self.heard.append("stopWriting")

    def connectionLost(self, reason: Any) -> None:
        self.heard.append(reason.type.__name__)
        self.polling.remove(self)
        self.mine.close()

    def readConnectionLost(self, reason: Any) -> None:
        self.heard.append("half closed")


@unittest.skipUnless(available(), "no epoll on this system")
class NestedEpollTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.polling = NestedEpoll(self.reactor, Turns(self.reactor))

    def connection(self) -> Connection:
        made = Connection(self.polling)
        self.addCleanup(made.mine.close)
        self.addCleanup(made.peer.close)
        self.polling.add(made)
        return made

    def is_readable(self) -> bool:
        return bool(select.select([self.polling], [], [], 0)[0])

    def test_all_that_are_ready_are_read_in_one_event(self) -> None:
        one, two, three = (self.connection() for _ in range(3))
        self.assertFalse(self.is_readable())
        one.peer.send(b"1")
        three.peer.send(b"3")
        self.assertTrue(self.is_readable())
        self.polling.doRead()
        self.assertEqual((one.heard, two.heard, three.heard), ([b"1"], [], [b"3"]))
        self.assertFalse(self.is_readable())

    def test_the_reactor_has_it_while_there_are_connections(self) -> None:
        self.assertEqual(self.reactor.readers, [])
        one, two = self.connection(), self.connection()
        self.polling.add(one)
        self.polling.remove(one)
        self.polling.remove(one)
        self.assertEqual(self.reactor.readers, [self.polling])
        self.polling.remove(two)
        self.assertEqual(self.reactor.readers, [])
        self.polling.add(one)
        self.assertEqual(self.reactor.readers, [self.polling])

    def test_who_does_not_want_to_read_is_left_alone(self) -> None:
        one = self.connection()
        one.peer.send(b"1")
        self.polling.remove(one)
        self.assertFalse(self.is_readable())
        self.polling.add(one)
        self.polling.doRead()
        self.assertEqual(one.heard, [b"1"])

    def test_a_connection_that_another_has_closed_is_not_read(self) -> None:
        one, two = self.connection(), self.connection()
        for this, other in ((one, two), (two, one)):
            this.peer.send(b"x")
            this.on_read = lambda other=other: self.polling.remove(other)
        self.polling.doRead()
        self.assertEqual(sorted([one.heard, two.heard]), [[], [b"x"]])

    def test_the_end_of_the_input_is_a_half_close(self) -> None:
        one = self.connection()
        one.peer.shutdown(socket.SHUT_WR)
        self.polling.doRead()
        self.assertEqual(one.heard, [b"", "half closed"])
        self.assertEqual(self.reactor.readers, [])

    def test_a_fault_ends_its_own_connection_alone(self) -> None:
        self.patch(NestedEpoll, "turn_seconds", 60)
        one, two = self.connection(), self.connection()

        def fail() -> None:
            raise ValueError("a fault")

        one.on_read = fail
        one.peer.send(b"1")
        two.peer.send(b"2")
        self.polling.doRead()
        self.assertEqual(one.heard, [b"1", "stopWriting", "ValueError"])
        self.assertEqual(two.heard, [b"2"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        two.peer.send(b"3")
        self.polling.doRead()
        self.assertEqual(two.heard, [b"2", b"3"])

    def test_a_fault_in_ending_a_connection_leaves_the_others(self) -> None:
        self.patch(NestedEpoll, "turn_seconds", 60)
        for end in (lambda: main.CONNECTION_LOST, lambda: main.CONNECTION_DONE):
            one, two = self.connection(), self.connection()

            def fail(reason: Any) -> None:
                raise ValueError("a fault")

            one.on_read = end
            one.connectionLost = one.readConnectionLost = fail  # type: ignore[method-assign]
            one.peer.send(b"1")
            two.peer.send(b"2")
            self.polling.doRead()
            self.assertEqual(two.heard, [b"2"])
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_a_turn_that_takes_long_leaves_the_rest_to_the_next(self) -> None:
        seconds = [0.0]
        for module in (polling, turns):
            self.patch(module, "monotonic", lambda: seconds[0])
        all_of_them = [self.connection() for _ in range(5)]

        def take_long() -> None:
            seconds[0] += NestedEpoll.turn_seconds * 0.6

        for one in all_of_them:
            one.on_read = take_long
            one.peer.send(b"1")
        all_turns = []
        while self.is_readable():
            self.polling.doRead()
            all_turns.append([len(one.heard) for one in all_of_them])
            for one in all_of_them[:2]:
                one.peer.send(b"more" if len(all_turns) < 3 else b"")
        self.assertEqual(all_turns[:3], [[1, 1, 0, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])

    def test_who_went_away_meanwhile_is_not_read(self) -> None:
        self.patch(NestedEpoll, "turn_seconds", 0)
        one, two, three = (self.connection() for _ in range(3))
        for each in (one, two, three):
            each.peer.send(b"1")
        self.polling.doRead()
        read = next(each for each in (one, two, three) if each.heard)
        one, two, three = read, *(each for each in (one, two, three) if each is not read)
        self.polling.remove(two)
        for _ in range(5):
            self.polling.doRead()
        self.assertEqual((one.heard, two.heard, three.heard), ([b"1"], [], [b"1"]))

    def test_the_end_of_the_reactor_is_the_end_of_all(self) -> None:
        one, two = self.connection(), self.connection()
        self.polling.connectionLost(Failure(main.CONNECTION_LOST))
        self.assertEqual([len(one.heard), len(two.heard)], [1, 1])
