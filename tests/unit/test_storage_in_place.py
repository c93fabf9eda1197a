"""What little a reactor turn brings is written at its end, in place; order and syncs stay as they are."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import build, read_header
from megabroker.errors import BrokerError
from megabroker.model import Durability, LogSettings, Topic
from megabroker.storage import disk
from megabroker.storage.faults import FaultyFiles
from megabroker.storage.store import LocalLogStore


class Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[int, int]] = []
        self.failures: list[tuple[int, BrokerError]] = []

    def progressed(self, written_offset: int, durable_offset: int) -> None:
        self.heard.append((written_offset, durable_offset))

    def failed(self, from_offset: int, error: BrokerError) -> None:
        self.failures.append((from_offset, error))


class Producers:
    def replay(self, header: object) -> None: ...

    def restore(self, snapshot: object) -> None: ...

    def snapshot(self) -> tuple[()]:
        return ()


class InPlaceTests(SynchronousTestCase):
    def open(self, durability: Durability) -> None:
        self.patch(disk, "_SLOW_SECONDS", 60.0)  # a busy machine is not what is tested here
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.clock = Clock()
        self.from_thread: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.files = FaultyFiles()
        self.store = LocalLogStore(
            directory.name,
            self.clock,
            self.from_thread.put,
            durability,
            files=self.files,
            call_soon=partial(self.clock.callLater, 0),
        )
        self.store.open()
        self.addCleanup(self.close)
        self.listener = Listener()
        topic = Topic("t", uuid.uuid4(), 1)
        self.log = self.store.log(topic, 0, LogSettings(), self.listener, Producers())  # type: ignore[arg-type]

    def close(self) -> None:
        closing = self.store.close()
        while not closing.called:
            self.clock.advance(0)
            self.from_thread.get(timeout=10)()
        closing.addErrback(lambda failure: None)

    def append(self, count: int = 1, size: int = 10) -> int:
        batch = build([(None, b"x" * size, [], 5)] * count)
        return self.log.append(read_header(batch, 0, len(batch)), batch, 0, None)

    def test_one_turn_is_written_in_place_and_reported_once(self) -> None:
        self.open(Durability.OS)
        self.append()
        self.append(2)
        self.assertEqual(self.listener.heard, [])
        self.clock.advance(0)
        self.assertEqual(self.listener.heard, [(3, 3)])
        self.assertEqual(self.store.disk.turns_in_place, 1)
        self.assertTrue(self.from_thread.empty())

    def test_the_sync_is_left_to_the_disk_thread(self) -> None:
        self.open(Durability.FSYNC)
        self.append()
        self.clock.advance(0)
        self.assertEqual(self.listener.heard, [(1, 0)])
        self.from_thread.get(timeout=10)()
        self.assertEqual(self.listener.heard, [(1, 0), (1, 1)])
        self.assertEqual(self.store.disk.syncs, 1)

    def test_a_batch_of_a_megabyte_is_written_in_place(self) -> None:
        self.open(Durability.OS)
        self.append(size=1_048_000)
        self.clock.advance(0)
        self.assertEqual(self.listener.heard, [(1, 1)])
        self.assertEqual(self.store.disk.turns_in_place, 1)

    def test_much_is_handed_over(self) -> None:
        self.open(Durability.OS)
        self.append(size=3_000_000)
        self.clock.advance(0)
        self.assertEqual(self.store.disk.turns_in_place, 0)
        self.from_thread.get(timeout=10)()
        self.assertEqual(self.listener.heard, [(1, 1)])

    def test_a_disk_found_slow_is_left_to_its_thread_for_ever_longer(self) -> None:
        self.open(Durability.OS)
        # The disk thread looks twice each time.
        times = iter([0.0, 0.006, 0.05, 0.05, 0.05, 0.057, 0.063, 0.07, 0.07, 0.07, 0.17, 0.1701])
        self.patch(disk, "_SLOW_SECONDS", 0.005)
        self.patch(disk.time, "monotonic", lambda: next(times))
        in_place = []
        for _ in range(5):  # slow; during the pause; slow again; during a longer one; in time
            self.append()
            self.clock.advance(0)
            in_place.append(self.store.disk.turns_in_place)
            self.written()
        self.assertEqual(in_place, [1, 1, 2, 2, 3])
        self.assertEqual(list(times), [])

    def written(self) -> None:
        """Wait until all that was appended is written and the disk thread idle."""
        while self.log.written_offset < self.log.next_offset:
            self.from_thread.get(timeout=10)()
        while self.store.disk._handed_over != self.store.disk._finished:
            time.sleep(0.001)

    def test_nothing_overtakes_what_was_handed_over(self) -> None:
        self.open(Durability.OS)
        self.append(size=3_000_000)
        self.clock.advance(0)
        self.append()
        self.clock.advance(0)
        while not self.listener.heard or self.listener.heard[-1] != (2, 2):
            self.from_thread.get(timeout=10)()
        self.assertEqual(self.log.written_offset, 2)

    def test_a_failed_write_is_reported_and_its_offset_free_again(self) -> None:
        self.open(Durability.OS)
        self.append()
        self.clock.advance(0)
        self.files.fail("pwritev", 28)
        self.append()
        self.clock.advance(0)
        [(offset, error)] = self.listener.failures
        self.assertEqual(offset, 1)
        self.assertIn("No space left", error.message)
        self.files.heal()
        self.assertEqual(self.append(), 1)
        self.clock.advance(0)
        self.assertEqual(self.listener.heard[-1], (2, 2))
