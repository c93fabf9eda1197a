"""Random lives of a compacted log against a model: keys, codecs, transactions, deletions, crashes."""

from __future__ import annotations

import random
import shutil
import tempfile

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import build, read_header, read_marker, records, scan
from megabroker.core.producers import ProducerTable
from megabroker.model import BatchHeader, Durability, LogSettings, TransactionMarker
from megabroker.storage.cleaner import CleanerSettings
from megabroker.storage.faults import FaultyFiles
from megabroker.storage.memory import MemoryLogStore
from megabroker.storage.store import LocalLogStore
from tests.contract.test_log_store import TOPIC, Listener, content

SETTINGS = LogSettings(
    segment_bytes=900,
    index_interval_bytes=100,
    retention_ms=-1,
    compact=True,
    delete_retention_ms=2000,
    min_cleanable_dirty_ratio=0.0,
)


@attrs.define
class Stored:
    """A record that was appended; ``transaction`` is None, or a number."""

    key: bytes
    value: bytes | None
    timestamp: int
    headers: tuple[tuple[str, bytes], ...]
    transaction: int | None


class Life:
    """A log, its producers, and what a reader should find."""

    def __init__(self, case: SynchronousTestCase, seed: int, kind: str) -> None:
        self.case = case
        self.kind = kind
        self.dice = random.Random(seed)
        self.directory = tempfile.mkdtemp()
        case.addCleanup(shutil.rmtree, self.directory)
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.stored: dict[int, Stored] = {}
        self.outcomes: dict[int, bool] = {}  # transaction -> whether it was committed
        self.open_transactions: dict[int, int] = {}  # producer id -> transaction
        self.sequences: dict[int, int] = {}
        self.cleanings = 0
        self.open()

    def open(self) -> None:
        cleaner = CleanerSettings(dedupe_buffer_bytes=self.dice.choice((192, 192 * 4, 1 << 20)))
        if self.kind == "memory":
            self.store = MemoryLogStore(lambda call: call(), self.clock.seconds, cleaner=cleaner)
        else:
            self.store = LocalLogStore(
                self.directory,
                self.clock,
                lambda call: call(),
                Durability(self.kind),
                files=FaultyFiles(real_sync=False),
                threaded=False,
                max_open_files=3,
                cleaner=cleaner,
            )
        self.store.open()
        self.producers = ProducerTable()
        self.log = self.store.log(TOPIC, 0, SETTINGS, Listener(), self.producers)

    def pump(self) -> None:
        if self.kind != "memory":
            self.store.disk.pump()

    @property
    def now_ms(self) -> int:
        return int(self.clock.seconds() * 1000)

    def append(self, producer: int = -1, transaction: int | None = None) -> None:
        dice = self.dice
        rows = []
        for _ in range(dice.randrange(1, 6)):
            key = dice.choice((b"k%d", b"a key of many more bytes than a hash %d")) % dice.randrange(8)
            value = None if dice.random() < 0.25 else dice.randbytes(dice.randrange(40))
            headers = (("h", b"x"),) if dice.random() < 0.2 else ()
            rows.append((key, value, headers, self.now_ms + dice.randrange(-5000, 5000)))
        fields = {}
        if producer >= 0:
            fields = {
                "producer_id": producer,
                "producer_epoch": 0,
                "base_sequence": self.sequences.get(producer, 0),
                "attributes": 16 if transaction is not None else 0,
            }
            self.sequences[producer] = fields["base_sequence"] + len(rows)
        data = build(rows, compression=dice.choice((0, 0, 0, 1, 2, 3, 4)), **fields)
        header = read_header(data, 0, len(data))
        base = self.log.append(header, data, 0, None)
        if producer >= 0:
            self.producers.accepted(header, base, self.now_ms)
        for at, (key, value, headers, timestamp) in enumerate(rows):
            self.stored[base + at] = Stored(key, value, timestamp, headers, transaction)

    def write(self) -> None:
        for _ in range(self.dice.randrange(1, 12)):
            producer = self.dice.randrange(-2, 6)
            if producer < 2:
                self.append(min(producer, 0) if producer < 0 else 10 + producer)
            else:
                if producer not in self.open_transactions:
                    self.open_transactions[producer] = (
                        len(self.outcomes) + len(self.open_transactions) + 1000 * producer
                    )
                self.append(producer, self.open_transactions[producer])
                if self.dice.random() < 0.6:
                    self.end(producer)
        self.pump()
        self.producers.settled(self.log.durable_offset)

    def end(self, producer: int) -> None:
        commit = self.dice.random() < 0.5
        marker = TransactionMarker(producer, 0, commit, 0)
        first, stable = self.producers.check_marker(marker)
        offset = self.log.append_marker(marker, 0, self.now_ms, first, stable)
        self.producers.ended(marker, offset, self.now_ms)
        self.outcomes[self.open_transactions.pop(producer)] = commit

    def clean(self) -> None:
        before = self.log.compaction.cleaned_offset
        self.cleanings += self.store.cleaner.run_once()
        self.case.assertGreaterEqual(self.log.compaction.cleaned_offset, before)

    def wait(self) -> None:
        self.clock.advance(self.dice.choice((0.5, 3, 10)))

    def settle(self) -> None:
        """End what is open, so that a log can be opened anew without a coordinator."""
        for producer in list(self.open_transactions):
            self.end(producer)
        self.pump()
        self.producers.settled(self.log.durable_offset)

    def crash(self) -> None:
        if self.kind != "memory":
            self.store._directories.release()
            self.store._open_files.close()
            self.open()
            self.case.assertEqual(self.log.damaged, [])

    def close(self) -> None:
        if self.kind != "memory":
            closed = self.store.close()
            self.store.disk.pump()
            self.case.successResultOf(closed)
            self.open()

    # --- checks -------------------------------------------------------------------------------------

    def fetch(self) -> list[tuple[BatchHeader, bytes]]:
        log, offset = self.log, self.log.start_offset
        found: list[tuple[BatchHeader, bytes]] = []
        while offset < log.written_offset:
            data = content(log.read(offset, self.dice.choice((1, 300, 5000)), 1 << 60))
            if not data:
                break
            for pos, header in scan(data, 0, len(data)):
                if header.next_offset > offset:
                    found.append((header, data[pos : pos + header.size_bytes]))
                    offset = header.next_offset
        return found

    def committed(self, fetched: list[tuple[BatchHeader, bytes]]) -> dict[bytes, tuple[int, bytes | None]]:
        """Return the newest record of each key as a read_committed consumer finds it."""
        stable = min(self.log.written_offset, self.producers.first_unstable_offset())
        coming = list(self.log.aborted(0, stable))
        aborting: set[int] = set()
        newest: dict[bytes, tuple[int, bytes | None]] = {}
        for header, data in fetched:
            if header.base_offset >= stable:
                break
            while coming and coming[0].first_offset <= header.last_offset:
                aborting.add(coming.pop(0).producer_id)
            if header.is_control:
                marker = read_marker(data, header)
                if marker is not None and not marker.commit:
                    aborting.discard(header.producer_id)
            elif not (header.is_transactional and header.producer_id in aborting):
                for record in records(data, header):
                    newest[record.key] = (record.offset, record.value)
        return newest

    def check(self) -> None:
        case = self.case
        fetched = self.fetch()
        seen: set[bytes] = set()
        for header, data in fetched:
            for record in records(data, header):
                stored = self.stored[record.offset]
                case.assertEqual(
                    (record.key, record.value, record.timestamp_ms, tuple(map(tuple, record.headers))),
                    (stored.key, stored.value, stored.timestamp, stored.headers),
                )
                if record.offset < self.log.compaction.cleaned_offset:
                    case.assertNotIn(record.key, seen, f"{record.key} at {record.offset} is there twice")
                    seen.add(record.key)
                    case.assertIsNot(self.outcomes.get(stored.transaction), False, "an aborted record stayed")
        expected: dict[bytes, tuple[int, bytes | None]] = {}
        stable = min(self.log.written_offset, self.producers.first_unstable_offset())
        for offset, stored in self.stored.items():
            if offset < stable and (stored.transaction is None or self.outcomes.get(stored.transaction)):
                expected[stored.key] = (offset, stored.value)
        found = self.committed(fetched)
        case.assertEqual(_living(found), _living(expected))
        for key, row in found.items():
            case.assertEqual(row, expected[key])
        case.assertEqual(self.log.size_bytes, sum(header.size_bytes for header, _ in fetched))
        known = {one.producer_id: one for one in self.producers.snapshot()}
        for pid, next_sequence in self.sequences.items():
            case.assertEqual(known[pid].batches[-1][1], next_sequence - 1, "a producer's sequence was lost")


def _living(newest: dict[bytes, tuple[int, bytes | None]]) -> dict[bytes, tuple[int, bytes | None]]:
    return {key: row for key, row in newest.items() if row[1] is not None}


class RandomCleaningTests(SynchronousTestCase):
    def live(self, kind: str) -> None:
        cleanings = 0
        for seed in range(5):
            life = Life(self, seed, kind)
            steps = (life.write, life.clean, life.wait, life.crash, life.close)
            try:
                for _ in range(30):
                    life.dice.choices(steps, (6, 4, 2, 1, 1))[0]()
                    life.check()
                life.settle()
                for _ in range(12):
                    life.clean()
                    life.check()
            except Exception as error:
                raise AssertionError(f"seed {seed}: {error!r}") from error
            cleanings += life.cleanings
            if kind != "memory":
                life.store._directories.release()
        self.assertGreater(cleanings, 20)

    def test_fsync(self) -> None:
        self.live("fsync")

    def test_os(self) -> None:
        self.live("os")

    def test_memory(self) -> None:
        self.live("memory")
