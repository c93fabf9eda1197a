"""Which logs share a sync in the journal, and what happens when that cannot be."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import tempfile
from unittest import mock
from uuid import UUID

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import build, read_header, read_records, scan
from megabroker.model import Durability, LogSettings, Topic, TopicPartition
from megabroker.storage import syncs
from megabroker.storage.cleaner import CleanerSettings
from megabroker.storage.directories import DataDirectories
from megabroker.storage.faults import FaultyFiles
from megabroker.storage.journal import JOURNAL, Journal
from megabroker.storage.log import LocalLog
from megabroker.storage.shares import Share
from megabroker.storage.store import LocalLogStore
from tests.contract.test_log_store import Listener, Producers, content

TOPIC = Topic("orders", UUID(int=7), 8)
SETTINGS = LogSettings(index_interval_bytes=100)
HALF_BYTES = 5 * 4096


class SyncsCase(SynchronousTestCase):
    settings = SETTINGS
    durability = Durability.FSYNC

    def setUp(self) -> None:
        self.patch(syncs, "_WORTH_A_JOURNAL", 1)
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.start()

    def start(self, logs: int = 4, share: Share | None = None) -> None:
        self.files = FaultyFiles(real_sync=False)
        self.store = store = LocalLogStore(
            self.directory,
            self.clock,
            lambda call: call(),
            self.durability,
            files=self.files,
            threaded=False,
            share=share,
            cleaner=CleanerSettings(interval_ms=1),
        )
        if store._journal is not None:
            journal = Journal(self.files, store._journal.path, HALF_BYTES)
            store.disk.syncing.journal = store._journal = journal
        store.open()
        self.listeners = [Listener() for _ in range(logs)]
        self.logs = [
            store.log(TOPIC, at, self.settings, listener, Producers())
            for at, listener in enumerate(self.listeners)
        ]

    def crash(self) -> None:
        """End as kill -9 does."""
        self.store._open_files.close()
        self.store._directories.release()

    def close(self) -> None:
        closed = self.store.close()
        self.store.disk.pump()
        self.successResultOf(closed)

    def append(self, log: LocalLog, value: bytes, key: bytes | None = None) -> None:
        data = build([(key, value, (), 1_700_000_000_000)])
        log.append(read_header(data, 0, len(data)), data, 0, None)

    def round(self, value: bytes = b"x", logs: list[LocalLog] | None = None) -> None:
        for log in self.logs if logs is None else logs:
            self.append(log, value)
        self.store.disk.pump()

    def in_use(self) -> Journal:
        """Have the journal made, and the files' names known to be on the disk."""
        for _ in range(2):
            self.round()
        journal = self.store._journal
        assert journal is not None
        self.assertTrue(journal.ready)
        return journal

    def is_there(self) -> bool:
        return os.path.exists(f"{self.directory}/{JOURNAL}")

    def syncs_of(self, logs: list[LocalLog] | None = None, value: bytes = b"x") -> int:
        before = self.files.calls.get("fdatasync", 0)
        self.round(value, logs)
        self.assertTrue(all(log.durable_offset == log.next_offset for log in self.logs))
        return self.files.calls["fdatasync"] - before

    def values(self, log: LocalLog) -> list[bytes | None]:
        found: list[bytes | None] = []
        offset = log.start_offset
        while offset < log.written_offset:
            data = content(log.read(offset, 1 << 20, 1 << 60))
            found += [record.value for record in read_records(data, offset)]
            offset = max(header.next_offset for _, header in scan(data, 0, len(data)))
        return found

    def lose(self, log: LocalLog, size: int) -> None:
        """Cut a log's file, as if the rest had not come to the disk."""
        os.truncate(log.active.path(), size)


class ChoiceTests(SyncsCase):
    def test_one_sync_for_many(self) -> None:
        self.assertEqual(self.syncs_of() % 4, 0)
        self.in_use()
        self.assertEqual(self.syncs_of(), 1)
        self.assertEqual([log.recovery_point < log.durable_offset for log in self.logs], [True] * 4)

    def test_few_have_none_made_and_use_it_when_it_is_there(self) -> None:
        for _ in range(3):
            self.assertGreaterEqual(self.syncs_of(self.logs[:2]), 2)
            self.assertEqual(self.logs[0].recovery_point, self.logs[0].durable_offset)
        self.assertFalse(self.is_there())
        self.in_use()
        self.assertEqual(self.syncs_of(self.logs[:1]), 1)
        self.assertLess(self.logs[0].recovery_point, self.logs[0].durable_offset)

    def test_much_data_goes_its_own_way(self) -> None:
        self.in_use()
        self.assertEqual(self.syncs_of(value=bytes(70_000)), 4)
        self.assertEqual(self.syncs_of(), 1)

    def test_a_new_file_is_synced_by_itself(self) -> None:
        self.in_use()
        self.logs[0].settings = attrs.evolve(SETTINGS, segment_bytes=100)
        self.assertEqual(self.syncs_of(), 1 + 1)
        self.assertEqual(self.logs[0].recovery_point, 3)

    def test_not_made_for_little(self) -> None:
        self.patch(syncs, "_WORTH_A_JOURNAL", 13)
        for _ in range(4):  # the first of these could not have spared any
            self.round()
        self.assertFalse(self.is_there())
        self.round()
        self.assertTrue(self.is_there())

    def test_full_halves_are_settled_and_used_again(self) -> None:
        journal = self.in_use()
        for _ in range(20):
            self.round()
            self.assertLessEqual(os.path.getsize(journal.path), 4096 + 2 * HALF_BYTES)
        self.assertGreater(journal._halves[0].generation, 4)
        self.assertTrue(all(log.recovery_point >= 15 for log in self.logs))

    def test_a_flush_syncs_the_files(self) -> None:
        self.in_use()
        for log in self.logs:
            self.append(log, b"x")
        flushed = [log.flush() for log in self.logs]
        self.store.disk.pump()
        for one in flushed:
            self.successResultOf(one)
        self.assertEqual([log.recovery_point for log in self.logs], [3] * 4)

    def test_a_checkpoint_settles_all(self) -> None:
        journal = self.in_use()
        self.round()
        self.store.checkpoint()
        self.store.disk.pump()
        self.assertEqual(journal.held(all_of_it=True), {})
        self.assertEqual([log.saved_point for log in self.logs], [3] * 4)

    def test_an_orderly_end_leaves_none(self) -> None:
        self.in_use()
        self.round()
        self.close()
        self.assertFalse(self.is_there())
        self.start()
        self.assertTrue(self.store.was_clean)
        self.assertEqual([log.next_offset for log in self.logs], [3] * 4)


class NoneTests(SyncsCase):
    durability = Durability.OS

    def test_durability_os_has_none(self) -> None:
        for _ in range(5):
            self.round()
        self.store.checkpoint()
        self.store.disk.pump()
        self.assertFalse(self.is_there())


class ReplayTests(SyncsCase):
    def test_more_logs_than_files_may_be_open(self) -> None:
        self.store.close()
        self.store.disk.pump()
        self.start(logs=100)
        self.in_use()
        size = self.logs[0].active.size
        self.round(b"0")
        self.round(b"1")
        self.crash()
        for log in self.logs:
            self.lose(log, size)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        lowest = os.open(os.devnull, os.O_RDONLY)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 20, hard))
        self.start(logs=0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self.assertFalse(self.is_there())
        for at in range(100):
            log = self.store.log(TOPIC, at, SETTINGS, Listener(), Producers())
            self.assertEqual(self.values(log)[-2:], [b"0", b"1"])

    def test_what_only_the_journal_has_is_written_again(self) -> None:
        self.in_use()
        size = self.logs[0].active.size
        for at in range(3):
            self.round(b"%d" % at)
        self.crash()
        for log in self.logs:
            self.lose(log, size)
        self.start()
        self.assertFalse(self.is_there())
        for log in self.logs:
            self.assertEqual(self.values(log)[-3:], [b"0", b"1", b"2"])

    def test_a_log_that_is_deleted_and_made_anew(self) -> None:
        self.in_use()
        self.round(b"old")
        self.store.delete(TopicPartition("orders", 2))
        self.store.disk.pump()
        again = Topic("orders", UUID(int=8), 8)
        self.logs[2] = self.store.log(again, 2, SETTINGS, Listener(), Producers())
        self.round(b"new", [self.logs[2]])
        size = self.logs[2].active.size
        self.crash()
        self.start(logs=2)
        log = self.store.log(again, 2, SETTINGS, Listener(), Producers())
        self.assertEqual(self.values(log), [b"new"])
        self.assertEqual(log.active.size, size)

    def test_segments_that_retention_took_stay_away(self) -> None:
        self.settings = LogSettings(segment_bytes=200)
        self.crash()
        self.start()
        for _ in range(8):
            self.round()
        log = self.logs[0]
        log.advance_start(6)
        self.store.disk.pump()
        log.enforce_retention(0)
        self.store.disk.pump()
        names = [name for name in os.listdir(log.directory) if name.endswith(".log")]
        self.crash()
        self.start()
        self.assertEqual([name for name in os.listdir(log.directory) if name.endswith(".log")], names)
        self.assertEqual((self.logs[0].start_offset, self.logs[0].next_offset), (6, 8))

    def test_a_journal_that_cannot_be_read_is_not_passed_over(self) -> None:
        journal = self.in_use()
        self.crash()
        with open(journal.path, "r+b") as file:
            file.write(b"XXXX")
        with self.assertRaisesRegex(Exception, "sync-journal holds acknowledged records"):
            self.start()
        self.assertTrue(self.is_there())

    def test_journals_of_several_processes(self) -> None:
        """Each replays its own; what is left when all have ended, the next start does."""
        self.close()
        directories = DataDirectories(FaultyFiles(real_sync=False), [self.directory], None, None, None)
        directories.take("now")
        directories.deal(directories.prepare(), ["0", "1"], lambda partition: "1")
        for value in (b"first", b"second"):
            self.start(share=Share("1", lambda partition: True))
            journal = self.in_use()
            self.assertEqual(journal.path, f"{self.directory}/workers/1/{JOURNAL}")
            size = self.logs[0].active.size
            self.round(value)
            self.store._open_files.close()
            for log in self.logs:
                self.lose(log, size)
        directories.collect()
        directories.release()
        self.assertFalse(os.path.exists(f"{self.directory}/workers"))
        self.start()
        for log in self.logs:
            self.assertEqual([one for one in self.values(log) if one != b"x"], [b"first", b"second"])
        self.assertEqual([name for name in os.listdir(self.directory) if JOURNAL in name], [])


class CleaningTests(SyncsCase):
    settings = LogSettings(
        index_interval_bytes=100, segment_bytes=400, compact=True, min_cleanable_dirty_ratio=0.0
    )

    def cleaned(self, changes: int | None) -> list[bytes | None]:
        """Journal, clean, and end after so many changes of that; return what the log holds then."""
        self.in_use()
        log = self.logs[0]
        for at in range(5):
            self.append(log, b"%d" % at, b"key")
            self.round(logs=self.logs[1:])
        self.assertGreater(log.journaled_offset, log.recovery_point)
        log.settings = attrs.evolve(self.settings, segment_bytes=100)
        self.append(log, b"last", b"other")
        self.store.disk.pump()
        log.recovery_point = 0  # as it is where the roll's sync has not been reported
        before = self.files.changes
        if changes is not None:
            self.files.end_after(changes)
        self.store.cleaner.run_once()
        self.store.disk.pump()
        self.changes = self.files.changes - before
        self.crash()
        self.start()
        self.assertEqual([one.damaged for one in self.logs], [[]] * 4, changes)
        return self.values(self.logs[0])

    def test_nothing_old_is_written_over_a_cleaned_segment(self) -> None:
        whole = [b"x", b"x", *(b"%d" % at for at in range(5)), b"last"]
        clean = [b"4", b"last"]  # what has no key goes
        self.assertEqual(self.cleaned(None), clean)
        ends = set()
        for changes in range(0, self.changes, 5):
            self.crash()
            shutil.rmtree(self.directory)
            os.mkdir(self.directory)
            self.start()
            held = self.cleaned(changes)
            self.assertEqual(held[-2:], clean, changes)
            self.assertEqual(held, [value for value in whole if value in held], changes)
            ends.add(len(held))
        self.assertGreaterEqual(len(ends), 2)
        self.flushLoggedErrors()


class FaultTests(SyncsCase):
    def test_a_journal_that_fails_costs_nothing_but_itself(self) -> None:
        for call, code in (("pwritev", errno.EIO), ("fdatasync", errno.EIO), ("pwritev", errno.ENOSPC)):
            journal = self.in_use()
            self.round()
            self.files.fail(call, code, path=JOURNAL)
            self.assertEqual(self.syncs_of() >= 4, True)
            self.assertFalse(journal.ready)
            self.assertFalse(self.is_there(), "all is on the disk elsewhere")
            self.assertEqual(self.syncs_of(), 4)
            self.assertEqual([listener.failures for listener in self.listeners], [[]] * 4)
            self.close()
            self.start()

    def test_a_journal_that_cannot_be_made(self) -> None:
        self.files.fail("pwritev", errno.ENOSPC, path=JOURNAL)
        self.assertEqual(self.syncs_of() >= 4, True)
        self.assertEqual(self.syncs_of(), 4)
        self.assertEqual([name for name in os.listdir(self.directory) if JOURNAL in name], [])
        self.flushLoggedErrors()

    def test_a_log_whose_directory_goes_away_meanwhile_has_not_failed(self) -> None:
        noted: list[LocalLog] = []
        self.patch(LocalLog, "note_failed_sync", lambda log: noted.append(log))
        self.files.fail("open", errno.ENOENT, path="orders-3/partition.metadata")
        deleted = self.store.delete(TopicPartition("orders", 3))
        self.store.disk.pump()
        self.successResultOf(deleted)
        self.assertNotIn("open", self.files._plan, "it was to be synced")
        self.assertEqual((noted, self.listeners[3].failures), ([], []))

    def test_a_full_disk_is_left_to_the_logs(self) -> None:
        self.patch(self.files, "free_bytes", lambda path: 8 * HALF_BYTES)
        tried = []
        open_file = self.files.open
        self.patch(
            self.files,
            "open",
            lambda path, *, create: (tried.append(path), open_file(path, create=create))[1],
        )
        logged = []
        self.patch(syncs, "_log", mock.Mock(warn=lambda *args, **kwargs: logged.append(kwargs["error"])))
        for _ in range(64):
            self.round()
        self.assertEqual([path for path in tried if JOURNAL in path], [])
        self.assertEqual(len(logged), 7, "ever more rarely")
        self.assertIn("ENOSPC", logged[0])
        self.assertEqual([listener.failures for listener in self.listeners], [[]] * 4)

    def test_a_log_that_cannot_be_settled_stays_in_it(self) -> None:
        journal = self.in_use()
        size = self.logs[2].active.size
        self.round(b"acknowledged")
        self.files.fail("fdatasync", errno.EIO, path="orders-2")
        self.store.checkpoint()
        self.store.disk.pump()
        self.assertEqual(list(journal.held(all_of_it=True)), [self.logs[2]])
        [(from_offset, _)] = self.listeners[2].failures
        self.assertEqual(from_offset, 3)
        for _ in range(20):
            self.round(logs=[self.logs[at] for at in (0, 1, 3)])
        self.assertEqual([log.durable_offset for log in self.logs], [23, 23, 3, 23])
        closed = self.store.close()
        self.store.disk.pump()
        self.failureResultOf(closed)
        self.assertTrue(self.is_there())
        self.lose(self.logs[2], size)
        self.start()
        self.assertEqual(self.values(self.logs[2])[-1], b"acknowledged")
        self.flushLoggedErrors()
