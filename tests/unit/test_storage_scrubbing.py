"""Closed segments are read again, and bits that changed since they were written are noticed."""

from __future__ import annotations

import errno
import os
import pathlib
import shutil
import tempfile
import unittest.mock

from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import read_header
from megabroker.errors import ErrorCode, StorageError
from megabroker.model import Durability, LogSettings
from megabroker.storage.store import LocalLogStore
from tests.contract.test_log_store import TOPIC, Listener, Producers, batch, content

_RATE = 1000
_BATCHES = 40


class ScrubbingCase(SynchronousTestCase):
    """A log of several segments, all of it written by this process."""

    rate = _RATE
    record_bytes = 50

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.store = LocalLogStore(
            self.directory,
            self.clock,
            lambda call: call(),
            Durability.OS,
            threaded=False,
            scrub_bytes_per_second=self.rate,
        )
        self.store.open()
        self.began = self.clock.seconds()
        self.addCleanup(self.stop)
        settings = LogSettings(segment_bytes=1500, index_interval_bytes=150)
        self.log = self.store.log(TOPIC, 0, settings, Listener(), Producers())
        for number in range(_BATCHES):
            data = batch(b"%d" % number + b"-" * self.record_bytes)
            self.log.append(read_header(data, 0, len(data)), data, 0, None)
        self.store.disk.pump()
        self.paths = sorted(pathlib.Path(self.directory).glob("*/*.log"))
        self.assertGreater(len(self.paths), 3)
        self.closed_bytes = sum(os.path.getsize(path) for path in self.paths[:-1])

    def stop(self) -> None:
        closed = self.store.close()
        self.store.disk.pump()
        self.successResultOf(closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def flip(self, at: int, position: int) -> None:
        data = bytearray(self.paths[at].read_bytes())
        data[position] ^= 4
        self.paths[at].write_bytes(data)

    def pass_seconds(self, seconds: float) -> None:
        self.clock.pump([0.25] * round(4 * seconds))

    def offsets(self) -> tuple[list[int], list[int]]:
        """Return which offsets are served, and which refused as damaged."""
        served, refused = [], []
        for offset in range(_BATCHES):
            try:
                data = content(self.log.read(offset, 1, 1 << 60))
            except StorageError as error:
                self.assertIs(error.code, ErrorCode.CORRUPT_BATCH)
                refused.append(offset)
            else:
                self.assertEqual(read_header(data, 0, len(data)).base_offset, offset)
                served.append(offset)
        return served, refused

    def logged(self, name: str) -> int:
        return sum(str(event.get("log_format")).startswith(name) for event in self.events)


class ScrubbingTests(ScrubbingCase):
    def test_a_bit_that_changed_is_noticed_and_not_served(self) -> None:
        self.flip(1, 100)
        self.assertEqual(self.offsets()[1], [])  # it is only now that anybody looks
        self.pass_seconds(self.closed_bytes / _RATE + 3)
        hit = int(self.paths[1].stem)
        everything = set(range(_BATCHES))
        self.assertEqual(self.offsets(), (sorted(everything - {hit}), [hit]))
        self.assertEqual(self.logged("log-damaged"), 1)
        self.pass_seconds(2 * 3600)
        self.assertEqual((self.logged("log-damaged"), self.store.scrubber.rounds), (1, 2))

    def test_every_byte_is_read_at_the_pace(self) -> None:
        self.pass_seconds(2)
        self.assertLessEqual(self.store.scrubber.bytes, 3 * _RATE)
        self.pass_seconds(self.closed_bytes / _RATE + 3)
        self.assertEqual((self.store.scrubber.bytes, self.store.scrubber.rounds), (self.closed_bytes, 1))
        self.pass_seconds(60)
        self.assertEqual(self.store.scrubber.bytes, self.closed_bytes)
        self.assertEqual(self.offsets(), (list(range(_BATCHES)), []))

    def test_segments_that_go_meanwhile(self) -> None:
        self.pass_seconds(1)
        self.log.settings = LogSettings(segment_bytes=1500, retention_bytes=2000)
        self.log.enforce_retention(0)
        self.store.disk.pump()
        self.flip(-2, 100)
        self.pass_seconds(20)
        self.assertEqual((self.logged("log-damaged"), self.store.scrubber.rounds), (1, 1))
        self.successResultOf(self.deleted())
        self.pass_seconds(2 * 3600)
        self.assertEqual(self.logged("log-damaged"), 1)

    def deleted(self) -> object:
        done = self.store.delete(self.log.topic_partition)
        self.store.disk.pump()
        return done

    def test_a_file_that_cannot_be_opened(self) -> None:
        self.store._open_files.close()
        for path in self.paths[:2]:
            path.rename(path.with_suffix(".away"))
        self.pass_seconds(20)
        self.assertEqual((self.logged("log-damaged"), self.store.scrubber.rounds), (0, 1))
        self.assertEqual(self.logged("scrub-unreadable"), 2)
        for path in self.paths[:2]:
            path.with_suffix(".away").rename(path)

    def test_a_place_of_the_disk_that_cannot_be_read(self) -> None:
        self.flip(1, 100)
        self.flip(2, 100)
        read = self.store._open_files.files.pread
        inode = os.stat(self.paths[1]).st_ino

        def pread(fd: int, size: int, position: int) -> bytes:
            if os.fstat(fd).st_ino == inode:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return read(fd, size, position)

        with unittest.mock.patch.object(self.store._open_files.files, "pread", pread):
            self.pass_seconds(20)
        self.assertEqual((self.logged("scrub-unreadable"), self.logged("log-damaged")), (1, 1))
        self.assertEqual(self.store.scrubber.rounds, 1)


class LargeBatchTests(ScrubbingCase):
    record_bytes = 5000

    def test_batches_larger_than_the_pace_are_read_at_it(self) -> None:
        for _ in range(6):
            self.pass_seconds(10)
            seconds = self.clock.seconds() - self.began
            self.assertLessEqual(self.store.scrubber.bytes, seconds * _RATE + 5100)
        self.assertGreater(self.store.scrubber.bytes, 50 * _RATE)


class NoScrubbingTests(ScrubbingCase):
    rate = 0

    def test_by_default_nothing_is_read(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])
