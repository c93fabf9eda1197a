"""The contract of ``IMetadataStore``, and what only the SQLite implementation can do wrong."""

from __future__ import annotations

import copy
import errno
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from megabroker.errors import ErrorCode, StorageError
from megabroker.interfaces import IMetadataStore
from megabroker.model import Change, Durability
from megabroker.simulation.clock import Reactor, Timeline
from megabroker.simulation.disk import Disk
from megabroker.simulation.files import Faults, SimulatedFiles
from megabroker.simulation.rows import Database, SimulatedMetadataStore
from megabroker.storage.metadata.database import SCHEMA_VERSION, stored_rows
from megabroker.storage.metadata.memory import MemoryMetadataStore
from megabroker.storage.metadata.sqlite import SqliteMetadataStore
from megabroker.storage.metadata.worker import ManualWorker


def new_directory(case: SynchronousTestCase) -> pathlib.Path:
    """Return an empty directory that goes with the test."""
    directory = tempfile.TemporaryDirectory()
    case.addCleanup(directory.cleanup)
    return pathlib.Path(directory.name)


class TurnClock(Clock):
    """A clock whose other threads have no latency."""

    def callFromThread(self, function: Any, *args: object) -> None:
        function(*args)


class MetadataStoreContract:
    """What every metadata store does. ``make_store`` gives the same rows each time it is called."""

    clock: TurnClock
    store: Any

    def make_store(self) -> Any:
        raise NotImplementedError

    def settle(self) -> None:
        """Let everything under way happen."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.clock = TurnClock()
        self.store = self.make_store()
        self.store.open()

    def write(self, *changes: Change) -> Deferred[None]:
        return self.store.write(changes)

    def reopen(self) -> None:
        closed = self.store.close()
        self.settle()
        self.successResultOf(closed)
        self.store = self.make_store()
        self.store.open()

    def test_provides_the_interface(self) -> None:
        verifyObject(IMetadataStore, self.store)

    def test_a_new_store_is_empty(self) -> None:
        self.assertEqual(self.store.rows("topics"), {})

    def test_rows_come_back(self) -> None:
        value = {"a": [1, 2.5, None, True], "é": "ü\u2028", "big": 1 << 62}
        done = self.write(
            Change("topics", "x", value), Change("groups", "x", "other"), Change("topics", "", 0)
        )
        self.settle()
        self.successResultOf(done)
        self.assertEqual(self.store.rows("topics"), {"x": value, "": 0})
        self.assertEqual(self.store.rows("groups"), {"x": "other"})

    def test_rows_survive_reopening(self) -> None:
        self.write(Change("topics", "x", [1]))
        self.settle()
        self.reopen()
        self.assertEqual(self.store.rows("topics"), {"x": [1]})

    def test_later_changes_win_within_and_across_writes(self) -> None:
        done = [
            self.write(Change("t", "a", 1), Change("t", "a", 2)),
            self.write(Change("t", "b", 1), Change("t", "b", None)),
            self.write(Change("t", "a", 3), Change("t", "absent", None)),
        ]
        self.settle()
        for each in done:
            self.successResultOf(each)
        self.assertEqual(self.store.rows("t"), {"a": 3})

    def test_single_rows_can_be_read(self) -> None:
        self.write(Change("t", "a", 1), Change("t", "b", 2), Change("u", "c", 3))
        self.settle()
        self.assertEqual(self.store.rows("t", ["b", "c"]), {"b": 2})
        self.assertEqual(self.store.rows("t", []), {})

    def test_a_number_is_raised_in_order_with_writes(self) -> None:
        asked = [self.store.advance("ids", "next", 10), self.store.advance("ids", "next", 5)]
        self.write(Change("ids", "next", 100))
        asked.append(self.store.advance("ids", "next", 1))
        self.settle()
        self.assertEqual([self.successResultOf(one) for one in asked], [0, 10, 100])
        self.assertEqual(self.store.rows("ids"), {"next": 101})

    def test_falsy_values_are_values(self) -> None:
        self.write(Change("t", "zero", 0), Change("t", "no", False), Change("t", "empty", {}))
        self.settle()
        self.assertEqual(self.store.rows("t"), {"zero": 0, "no": False, "empty": {}})

    def test_a_value_changed_after_the_call_is_stored_as_it_was(self) -> None:
        value = {"n": 1}
        self.write(Change("t", "a", value))
        value["n"] = 2
        self.settle()
        self.assertEqual(self.store.rows("t"), {"a": {"n": 1}})
        self.store.rows("t")["a"]["n"] = 3
        self.assertEqual(self.store.rows("t"), {"a": {"n": 1}})

    def test_never_fires_within_the_call(self) -> None:
        done = self.write(Change("t", "a", 1))
        self.assertNoResult(done)
        self.settle()
        self.successResultOf(done)

    def test_an_empty_write_fires(self) -> None:
        done = self.write()
        self.settle()
        self.successResultOf(done)

    def test_writes_made_when_one_fires_are_committed(self) -> None:
        second: list[Deferred[None]] = []
        first = self.write(Change("t", "a", 1))
        first.addCallback(lambda _: second.append(self.write(Change("t", "b", 2))))
        self.settle()
        self.settle()
        self.successResultOf(second[0])
        self.assertEqual(self.store.rows("t"), {"a": 1, "b": 2})

    def test_values_and_keys_that_cannot_be_stored_are_refused_at_once(self) -> None:
        for key, value in (("k", object()), ("k", float("nan")), ("\ud800", 1)):
            with self.assertRaises((TypeError, ValueError)):
                self.write(Change("t", key, value))
        self.settle()
        self.assertEqual(self.store.rows("t"), {})

    def test_close_commits_what_is_pending(self) -> None:
        done = self.write(Change("t", "a", 1))
        self.reopen()
        self.successResultOf(done)
        self.assertEqual(self.store.rows("t"), {"a": 1})

    def test_after_close_writes_fail_and_close_is_idle(self) -> None:
        closed = self.store.close()
        late = self.write(Change("t", "a", 1))
        self.settle()
        self.successResultOf(closed)
        self.failureResultOf(late, StorageError)
        self.successResultOf(self.store.close())
        with self.assertRaises(StorageError):
            self.store.rows("t")


class MemoryMetadataStoreTests(MetadataStoreContract, SynchronousTestCase):
    def make_store(self) -> Any:
        if not hasattr(self, "memory"):
            self.memory = MemoryMetadataStore(self.clock)
        return self.memory

    def settle(self) -> None:
        self.clock.advance(0)


class SimulatedMetadataStoreTests(MetadataStoreContract, SynchronousTestCase):
    """The simulation's stand-in for SQLite promises what SQLite does."""

    def setUp(self) -> None:
        self.timeline = Timeline()
        self.reactor = Reactor(self.timeline, Random(1), lambda port, factory: None)
        self.database = Database()
        super().setUp()

    def make_store(self) -> Any:
        self.faults = Faults(Random(2))
        files = SimulatedFiles(Disk(), self.faults, self.reactor.seconds)
        return SimulatedMetadataStore(self.database, files, Durability.FSYNC, self.reactor)

    def settle(self) -> None:
        self.timeline.run_until(self.timeline.now + 1)

    def test_a_commit_whose_sync_failed_is_taken_back_and_may_come_again(self) -> None:
        self.write(Change("t", "a", 1))
        self.settle()
        self.faults.fail("commit_sync", errno.EIO, 0)
        failed = self.write(Change("t", "a", 2))
        self.settle()
        self.failureResultOf(failed, StorageError)
        self.assertEqual(self.store.rows("t"), {"a": 1})
        found = set()
        for seed in range(20):
            database = copy.deepcopy(self.database)
            database.reopen(Random(seed))
            found.add(database.tables["t"]["a"])
        self.assertEqual(found, {"1", "2"})

    def test_without_syncs_power_takes_the_last_commits_but_none_up_to_a_number_that_was_raised(self) -> None:
        files = SimulatedFiles(Disk(), self.faults, self.reactor.seconds)
        self.store = SimulatedMetadataStore(self.database, files, Durability.OS, self.reactor)
        self.store.open()
        for asked in (
            lambda: self.write(Change("t", "before", 1)),
            lambda: self.store.advance("ids", "next", 5),
            lambda: self.write(Change("t", "behind", 1)),
        ):
            asked()
            self.settle()
        found = set()
        for seed in range(20):
            database = copy.deepcopy(self.database)
            database.lose_power(Random(seed))
            self.assertEqual(database.tables["ids"], {"next": "5"})
            found.add(tuple(sorted(database.tables["t"])))
        self.assertEqual(found, {("before",), ("before", "behind")})

    def test_power_takes_nothing_that_was_committed(self) -> None:
        self.write(Change("t", "a", 1))
        self.settle()
        self.database.lose_power(Random(1))
        self.assertEqual(self.store.rows("t"), {"a": 1})


class SqliteMetadataStoreTests(MetadataStoreContract, SynchronousTestCase):
    busy_timeout_seconds = 5.0

    def setUp(self) -> None:
        self.path = new_directory(self) / "new" / "metadata.db"
        self.worker = ManualWorker()
        super().setUp()

    def tearDown(self) -> None:
        closed = self.store.close()
        self.settle()
        self.successResultOf(closed)

    def make_store(self, durability: Durability = Durability.FSYNC) -> SqliteMetadataStore:
        return SqliteMetadataStore(
            self.path,
            durability,
            self.clock,
            worker=self.worker,
            busy_timeout_seconds=self.busy_timeout_seconds,
        )

    def settle(self) -> None:
        self.clock.advance(0)
        while self.worker.run():
            self.clock.advance(0)

    def test_one_turn_is_one_transaction(self) -> None:
        done = [self.write(Change("t", str(n), n)) for n in range(50)]
        self.clock.advance(0)
        self.assertEqual(len(self.worker.jobs), 1)
        self.worker.run()
        for each in done:
            self.successResultOf(each)

    def test_writes_during_a_commit_share_the_next(self) -> None:
        self.write(Change("t", "a", 1))
        self.clock.advance(0)
        for n in range(10):
            self.write(Change("t", str(n), n))
            self.clock.advance(0)
        self.assertEqual(len(self.worker.jobs), 1)
        self.assertEqual(self.worker.run(), 1)
        self.assertEqual(self.worker.run(), 1)
        self.assertEqual(self.worker.run(), 0)
        self.assertEqual(len(self.store.rows("t")), 11)

    def test_two_processes_raise_a_number_and_see_what_the_other_wrote(self) -> None:
        other = SqliteMetadataStore(
            self.store.path, Durability.FSYNC, self.clock, worker=ManualWorker(), shared=True
        )
        other.open()
        asked = []
        for _ in range(3):
            for store in (self.store, other):
                asked.append(store.advance("ids", "next", 10))
                self.clock.advance(0)
                store._worker.run()
        self.assertEqual([self.successResultOf(one) for one in asked], [0, 10, 20, 30, 40, 50])
        written = other.write([Change("topics", "orders", {"partitions": 3})])
        self.clock.advance(0)
        other._worker.run()
        self.successResultOf(written)
        self.assertEqual(self.store.rows("topics", ["orders"]), {"orders": {"partitions": 3}})
        closed = other.close()
        other._worker.run()
        self.successResultOf(closed)

    def test_a_number_that_is_none_fails(self) -> None:
        self.write(Change("ids", "next", "seven"))
        self.settle()
        refused = self.store.advance("ids", "next", 1)
        self.settle()
        self.failureResultOf(refused, StorageError)
        self.flushLoggedErrors()
        self.assertEqual(self.store.rows("ids"), {"next": "seven"})

    def test_a_locked_file_fails_the_transaction_and_not_the_next(self) -> None:
        self.reopen_with_timeout(0.01)
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        done = [self.write(Change("t", "a", 1)), self.write(Change("t", "b", 1))]
        self.settle()
        for each in done:
            error = self.failureResultOf(each, StorageError).value
            self.assertEqual(error.code, ErrorCode.STORAGE)
            self.assertTrue(error.retriable)
        other.execute("ROLLBACK")
        later = self.write(Change("t", "c", 1))
        self.settle()
        self.successResultOf(later)
        self.assertEqual(self.store.rows("t"), {"c": 1})
        self.assertEqual(self.store.failed_commits, 1)

    def test_who_waits_for_another_process_has_its_turn_in_time(self) -> None:
        other = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self.addCleanup(other.close)
        ended = threading.Event()

        def commit_again_and_again() -> None:
            while not ended.is_set():
                other.execute("BEGIN IMMEDIATE")
                time.sleep(0.015)
                other.execute("ROLLBACK")
                time.sleep(0.0005)

        busy = threading.Thread(target=commit_again_and_again)
        busy.start()
        self.addCleanup(busy.join)
        self.addCleanup(ended.set)
        random, took = Random(1), 0.0
        for number in range(20):
            time.sleep(random.random() * 0.02)
            began = time.monotonic()
            done = self.write(Change("t", "a", number))
            self.settle()
            self.successResultOf(done)
            took += time.monotonic() - began
        self.assertLess(took, 4)  # half a second is usual, and by SQLite's own patience eight

    def reopen_with_timeout(self, seconds: float) -> None:
        self.busy_timeout_seconds = seconds
        self.reopen()

    def test_a_full_disk_fails_all_of_the_transaction_and_nothing_of_it_stays(self) -> None:
        # The page limit is the one way to fill SQLite's disk without filling the machine's.
        (pages,) = self.store._connection.execute("PRAGMA page_count").fetchone()
        self.store._connection.execute(f"PRAGMA max_page_count={pages + 4}")
        small = self.write(Change("t", "small", 1))
        large = self.write(Change("t", "large", "x" * 100_000))
        self.settle()
        for each in (small, large):
            self.assertEqual(self.failureResultOf(each, StorageError).value.code, ErrorCode.DISK_FULL)
        self.assertEqual(self.store.rows("t"), {})
        later = self.write(Change("t", "small", 2))
        self.settle()
        self.successResultOf(later)
        self.assertEqual(self.store.rows("t"), {"small": 2})

    def test_durability_chooses_what_a_commit_waits_for(self) -> None:
        for durability, expected in ((Durability.OS, 1), (Durability.FSYNC, 2)):
            closed = self.store.close()
            self.settle()
            self.successResultOf(closed)
            self.store = self.make_store(durability)
            self.store.open()
            (synchronous,) = self.store._connection.execute("PRAGMA synchronous").fetchone()
            self.assertEqual(synchronous, expected)

    def test_a_number_is_raised_on_the_disk_whatever_the_durability(self) -> None:
        for durability, asked in (
            (Durability.OS, ["FULL", "COMMIT", "NORMAL"]),
            (Durability.FSYNC, ["COMMIT"]),
        ):
            self.close_store()
            self.store = self.make_store(durability)
            self.store.open()
            done: list[str] = []
            self.store._connection.set_trace_callback(
                lambda said, done=done: done.append(said.removeprefix("PRAGMA synchronous="))
            )
            raised = [self.store.advance("ids", "next", 5), self.write(Change("t", "a", 1))]
            self.settle()
            self.assertEqual(len([self.successResultOf(one) for one in raised]), 2)
            self.assertEqual([said for said in done if said in ("FULL", "COMMIT", "NORMAL")], asked)
            done.clear()
            self.write(Change("t", "a", 2))
            self.settle()
            self.assertNotIn("FULL", done)

    def test_commits_that_stay_synced_are_told_all_the_same(self) -> None:
        class Stubborn:
            """A connection that does not let go of syncs."""

            def __init__(self, connection: sqlite3.Connection) -> None:
                self.connection = connection

            def __getattr__(self, name: str) -> Any:
                return getattr(self.connection, name)

            def execute(self, text: str, *values: Any) -> Any:
                if text == "PRAGMA synchronous=NORMAL":
                    raise sqlite3.OperationalError("Safety level may not be changed inside a transaction")
                return self.connection.execute(text, *values)

        self.close_store()
        self.store = self.make_store(Durability.OS)
        self.store.open()
        self.store._connection = Stubborn(self.store._connection)
        for expected in (0, 5):
            raised = self.store.advance("ids", "next", 5)
            self.settle()
            self.assertEqual(self.successResultOf(raised), expected)

    def close_store(self) -> None:
        closed = self.store.close()
        self.settle()
        self.successResultOf(closed)

    def refused(self) -> StorageError:
        with self.assertRaises(StorageError) as caught:
            self.make_store().open()
        self.assertIn(str(self.path), str(caught.exception))
        self.assertFalse(caught.exception.retriable)
        return caught.exception

    def test_a_newer_file_is_refused(self) -> None:
        self.close_store()
        other = sqlite3.connect(self.path)
        other.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
        other.close()
        self.assertIn("newer megabroker", str(self.refused()))

    def spoil(self, statement: str) -> None:
        self.close_store()
        other = sqlite3.connect(self.path)
        assert other.execute(statement).rowcount == 1
        other.commit()
        other.close()

    def test_a_row_that_is_not_what_was_written_is_never_served(self) -> None:
        self.write(Change("t", "k", {"offset": 123}), Change("t", "l", 1), Change("u", "k", 2))
        self.settle()
        self.spoil("UPDATE rows SET value = replace(value, '123', '133') WHERE key = 'k' AND tbl = 't'")
        self.store = self.make_store()
        self.store.open()
        with self.assertRaises(StorageError) as caught:
            self.store.rows("t")
        self.assertIn("row t/k fails its check", str(caught.exception))
        self.assertEqual(self.store.rows("u"), {"k": 2})

    def test_rows_from_before_there_were_checks(self) -> None:
        self.close_store()
        other = sqlite3.connect(self.path)
        other.execute("PRAGMA user_version=1")
        other.execute("INSERT INTO rows VALUES ('t', 'k', '{\"a\":1}')")
        other.commit()
        other.close()
        self.assertEqual(stored_rows(self.path, "t"), {"k": {"a": 1}})
        for _ in range(2):
            self.store = self.make_store()
            self.store.open()
            self.assertEqual(self.store.rows("t"), {"k": {"a": 1}})
            self.close_store()

    def test_a_damaged_file_is_refused(self) -> None:
        self.close_store()
        self.path.write_bytes(b"not a database at all" * 500)
        self.assertIn("restore a backup", str(self.refused()))

    def test_a_foreign_database_is_refused(self) -> None:
        self.close_store()
        self.path.unlink()
        other = sqlite3.connect(self.path)
        other.execute("CREATE TABLE theirs (x)")
        other.close()
        self.assertIn("another program", str(self.refused()))

    def test_damage_inside_is_found_after_a_crash(self) -> None:
        self.write(*(Change("t", f"{n:05}", "x" * 200) for n in range(500)))
        self.settle()
        self.close_store()
        data = bytearray(self.path.read_bytes())
        data[4096 * 3 : 4096 * 6] = b"\xff" * (4096 * 3)
        self.path.write_bytes(data)
        pathlib.Path(f"{self.path}-wal").write_bytes(b"\0" * 32)
        self.assertIn("restore a backup", str(self.refused()))

    def test_an_unusable_place_is_refused(self) -> None:
        self.close_store()
        blocked = new_directory(self) / "blocked"
        blocked.write_text("a file")
        self.path = blocked / "metadata.db"
        self.assertIn("writable", str(self.refused()))

    def test_kill_9_keeps_every_acknowledged_write(self) -> None:
        path = new_directory(self) / "metadata.db"
        child = subprocess.Popen([sys.executable, "-c", _CHILD, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        acknowledged = [int(child.stdout.readline()) for _ in range(200)]
        child.send_signal(signal.SIGKILL)
        acknowledged += [
            int(line) for line in child.stdout.read().splitlines(keepends=True) if line[-1] == "\n"
        ]
        child.stdout.close()
        child.wait()
        store = SqliteMetadataStore(path, Durability.FSYNC, self.clock, worker=self.worker)
        store.open()
        rows = store.rows("t")
        for number in acknowledged:
            self.assertEqual(rows[f"a{number}"], number)
        for number in range(len(rows) // 2):
            self.assertEqual(rows[f"a{number}"], rows[f"b{number}"], "half a write was committed")
        closed = store.close()
        self.settle()
        self.successResultOf(closed)


_CHILD = """
import sys
from twisted.internet import reactor
from megabroker.model import Change, Durability
from megabroker.storage.metadata.sqlite import SqliteMetadataStore

store = SqliteMetadataStore(sys.argv[1], Durability.FSYNC, reactor)
store.open()
counter = 0


def committed(_, number):
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
    write()


def write():
    global counter
    number, counter = counter, counter + 1
    done = store.write([Change("t", f"a{number}", number), Change("t", f"b{number}", number)])
    done.addCallback(committed, number)


for _ in range(8):
    reactor.callWhenRunning(write)
reactor.run()
"""


class SqliteThreadTests(TestCase):
    """The store as the broker runs it: the real reactor, a real thread."""

    async def test_many_turns_of_writes(self) -> None:
        from twisted.internet import reactor

        path = new_directory(self) / "metadata.db"
        store = SqliteMetadataStore(path, Durability.FSYNC, reactor)  # type: ignore[arg-type]
        store.open()
        in_thread: set[str] = set()
        for turn in range(5):
            writes = [store.write([Change("t", f"{turn}.{n}", n)]) for n in range(20)]
            for each in writes:
                each.addCallback(lambda _: in_thread.add(threading.current_thread().name))
            await gatherResults(writes)
        self.assertEqual(in_thread, {threading.main_thread().name})
        self.assertEqual(len(store.rows("t")), 100)
        last = store.write([Change("t", "last", 1)])
        await store.close()
        await last
        self.assertFalse([t for t in threading.enumerate() if t.name == "megabroker-metadata"])
        self.assertFalse(pathlib.Path(f"{path}-wal").exists())
        store.open()
        self.assertEqual(len(store.rows("t")), 101)
        await store.close()
