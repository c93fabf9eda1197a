"""The contract of ``IWindowStore``, and what only files can do wrong."""

from __future__ import annotations

import os
import pathlib
import resource
import signal
import struct
import subprocess
import sys
import tempfile
from typing import Any

from crc32c import crc32c
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from megabroker.errors import StorageError
from megabroker.interfaces import IWindowStore
from megabroker.storage.window import FileWindowStore, MemoryWindowStore

WINDOW_MS = 60_000
SLICE_MS = WINDOW_MS // 6
NOW = 1_700_000_000_000 // SLICE_MS * SLICE_MS
LARGEST = (1 << 64) - 1


class WindowStoreContract:
    """What every window store does. ``make_store`` gives the same entries each time it is called."""

    store: Any

    def make_store(self) -> Any:
        raise NotImplementedError

    def setUp(self) -> None:
        self.store = self.make_store()

    def reopen(self) -> None:
        self.store.close()
        self.store = self.make_store()

    def test_provides_the_interface(self) -> None:
        verifyObject(IWindowStore, self.store)

    def test_a_new_store_is_empty(self) -> None:
        self.assertEqual(list(self.store.load(0)), [])

    def test_entries_come_back_in_order(self) -> None:
        entries = [(0, LARGEST, NOW), (LARGEST, 0, NOW), (1, 2, NOW + 5), (1, 2, NOW + 5)]
        self.store.append(entries[:2])
        self.store.append([])
        self.store.append(entries[2:])
        self.reopen()
        self.assertEqual(list(self.store.load(0)), entries)

    def test_entries_older_than_asked_for_are_left_out(self) -> None:
        self.store.append([(1, 1, NOW), (1, 2, NOW + 1), (1, 3, NOW + SLICE_MS)])
        self.assertEqual([entry[1] for entry in self.store.load(NOW + 1)], [2, 3])

    def test_what_is_within_the_window_is_never_forgotten(self) -> None:
        for n in range(20):
            self.store.append([(1, n, NOW + n * 5000)])
        self.store.expire(NOW + 50_000)
        self.reopen()
        self.assertEqual([entry[1] for entry in self.store.load(NOW + 50_000)], list(range(10, 20)))

    def test_expired_entries_go_at_last(self) -> None:
        self.store.append([(1, 1, NOW)])
        self.store.expire(NOW + WINDOW_MS)
        self.assertEqual(list(self.store.load(0)), [])
        self.store.append([(1, 2, NOW + WINDOW_MS)])
        self.assertEqual([entry[1] for entry in self.store.load(0)], [2])

    def test_a_clock_that_steps_back(self) -> None:
        entries = [(1, 1, NOW + SLICE_MS), (1, 2, NOW), (1, 3, NOW + SLICE_MS)]
        for entry in entries:
            self.store.append([entry])
        self.reopen()
        self.assertEqual(sorted(self.store.load(0)), sorted(entries))

    def test_appending_goes_on_after_close(self) -> None:
        self.store.append([(1, 1, NOW)])
        self.reopen()
        self.store.append([(1, 2, NOW)])
        self.assertEqual([entry[1] for entry in self.store.load(0)], [1, 2])


class MemoryWindowStoreTests(WindowStoreContract, SynchronousTestCase):
    def make_store(self) -> Any:
        if not hasattr(self, "memory"):
            self.memory = MemoryWindowStore()
        return self.memory


class FileWindowStoreTests(WindowStoreContract, SynchronousTestCase):
    def setUp(self) -> None:
        parent = tempfile.TemporaryDirectory()
        self.addCleanup(parent.cleanup)
        self.directory = pathlib.Path(parent.name) / "new" / "dedup"
        super().setUp()
        self.addCleanup(lambda: self.store.close())

    def make_store(self) -> FileWindowStore:
        return FileWindowStore(self.directory, WINDOW_MS)

    def files(self) -> list[pathlib.Path]:
        return sorted(self.directory.iterdir())

    def ids(self) -> list[int]:
        return [entry[1] for entry in self.store.load(0)]

    def test_files_are_slices_of_28_byte_entries(self) -> None:
        self.store.append([(1, 2, NOW), (3, 4, NOW + SLICE_MS - 1), (5, 6, NOW + SLICE_MS)])
        first, second = self.files()
        self.assertEqual(first.name, f"{NOW}-{SLICE_MS}.ids")
        self.assertEqual(second.name, f"{NOW + SLICE_MS}-{SLICE_MS}.ids")
        self.assertEqual(first.stat().st_size, 56)
        self.assertEqual(
            second.read_bytes(),
            (body := struct.pack(">QQq", 5, 6, NOW + SLICE_MS)) + struct.pack(">I", crc32c(body)),
        )

    def test_expiry_unlinks_whole_files(self) -> None:
        for n in range(4):
            self.store.append([(1, n, NOW + n * SLICE_MS)])
        self.store.expire(NOW + 2 * SLICE_MS - 1)
        self.assertEqual(len(self.files()), 3)
        self.store.expire(NOW + 10 * SLICE_MS)
        self.assertEqual(self.files(), [])

    def test_files_of_another_window_are_read_and_expire(self) -> None:
        self.store.append([(1, 1, NOW)])
        self.store.close()
        self.store = FileWindowStore(self.directory, 10 * WINDOW_MS)
        self.store.append([(1, 2, NOW)])
        self.assertEqual(sorted(self.ids()), [1, 2])
        self.store.expire(NOW + 100 * WINDOW_MS)
        self.assertEqual(self.files(), [])

    def test_a_torn_tail_is_ignored_and_then_cut(self) -> None:
        self.store.append([(1, 1, NOW), (1, 2, NOW)])
        self.store.close()
        (path,) = self.files()
        for cut in range(29, 56):
            os.truncate(path, cut)
            self.assertEqual(self.ids(), [1])
        self.store.append([(1, 3, NOW)])
        self.assertEqual(path.stat().st_size, 56)
        self.assertEqual(self.ids(), [1, 3])
        self.assertEqual(self.store.damaged_entries, 0)

    def test_damage_is_reported_and_the_rest_is_read(self) -> None:
        self.store.append([(1, n, NOW) for n in range(5)])
        self.store.append([(1, 9, NOW + SLICE_MS)])
        self.store.close()
        path = self.files()[0]
        data = bytearray(path.read_bytes())
        data[28:84] = bytes(56)
        data[4 * 28 + 15] ^= 1  # the last byte of an id
        path.write_bytes(data)
        self.assertEqual(self.ids(), [0, 3, 9])
        self.assertEqual(self.store.damaged_entries, 3)

    def test_a_file_that_cannot_be_read_is_reported_and_passed_over(self) -> None:
        self.store.append([(1, 1, NOW)])
        (self.directory / f"{NOW + SLICE_MS}-{SLICE_MS}.ids").mkdir()
        self.store.close()
        self.assertEqual(self.ids(), [1])
        self.store.expire(NOW + WINDOW_MS)
        self.assertEqual([path.is_dir() for path in self.files()], [True])

    def test_other_files_are_left_alone(self) -> None:
        self.store.append([(1, 1, NOW)])
        (self.directory / "notes.txt").write_text("x")
        self.reopen()
        self.assertEqual(self.ids(), [1])
        self.store.expire(NOW + WINDOW_MS)
        self.assertEqual([path.name for path in self.files()], ["notes.txt"])

    def test_entries_longer_than_one_read(self) -> None:
        entries = [(7, n, NOW) for n in range(10_000)]
        self.store.append(entries)
        self.assertEqual(list(self.store.load(NOW)), entries)

    def test_a_directory_that_cannot_be_used(self) -> None:
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        self.directory.write_text("a file")
        with self.assertRaises(StorageError):
            self.store.append([(1, 1, NOW)])
        with self.assertRaises(StorageError):
            list(self.store.load(0))

    def test_a_write_cut_short_leaves_no_part_of_it(self) -> None:
        self.store.append([(1, 1, NOW)])
        (path,) = self.files()
        # A file size limit cuts a write short exactly as a full disk does.
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60, hard))
        try:
            for _ in range(2):
                with self.assertRaises(StorageError):
                    self.store.append([(1, 2, NOW), (1, 3, NOW)])
            size = path.stat().st_size
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, ignored)
        self.assertEqual(size, 28)
        self.store.append([(1, 4, NOW)])
        self.assertEqual(self.ids(), [1, 4])

    def test_kill_9_keeps_every_appended_entry(self) -> None:
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(self.directory), str(NOW)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(500)]
        child.send_signal(signal.SIGKILL)
        lines += [line for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        child.stdout.close()
        child.wait()
        appended = [int(line) for line in lines]
        self.assertEqual(self.ids()[: len(appended)], appended)

    def test_journals_beside_are_read_in_order_and_expire_and_are_not_written(self) -> None:
        places = [self.directory / "1", self.directory / "2"]
        stores = [
            FileWindowStore(place, WINDOW_MS, lambda mine=place: [one for one in places if one != mine])
            for place in places
        ]
        for place in places:
            place.mkdir(parents=True)
        stores[0].append([(1, 1, NOW), (1, 3, NOW + 2 * SLICE_MS)])
        stores[1].append([(1, 2, NOW + SLICE_MS)])
        for store in stores:
            self.assertEqual([entry[1] for entry in store.load(0)], [1, 2, 3])
        self.assertEqual([len(list(place.iterdir())) for place in places], [2, 1])
        stores[1].expire(NOW + 2 * SLICE_MS)
        for store in stores:
            self.assertEqual([entry[1] for entry in store.load(0)], [3])
        stores[0].append([(1, 4, NOW + 2 * SLICE_MS)])
        self.assertEqual([entry[1] for entry in stores[1].load(0)], [3, 4])
        for store in stores:
            store.close()


_CHILD = """
import itertools, sys
from megabroker.storage.window import FileWindowStore

store = FileWindowStore(sys.argv[1], 60_000)
for n in itertools.count():
    store.append([(1, n, int(sys.argv[2]) + n // 10)])
    sys.stdout.write(f"{n}\\n")
    sys.stdout.flush()
"""
