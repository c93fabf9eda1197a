"""What cuts of the power do to a log store on a simulated disk, as the simulation has found them."""

from __future__ import annotations

import errno
from itertools import pairwise
from random import Random
from uuid import UUID

import pytest
from twisted.internet.task import Clock

from megabroker.codec.batch import read_header, read_records
from megabroker.core.producer_ids import ProducerIds
from megabroker.model import Change, Durability, LogSettings, Topic, TopicPartition
from megabroker.simulation.clock import ProcessEnded, Reactor, Timeline
from megabroker.simulation.disk import Disk, File
from megabroker.simulation.files import Faults, SimulatedFiles
from megabroker.simulation.rows import Database, SimulatedMetadataStore
from megabroker.storage.log import LocalLog
from megabroker.storage.store import LocalLogStore
from tests.contract.test_log_store import TOPIC, Listener, Producers, batch

RECORD_COUNT = 57
"""Where in a batch's head."""
SETTINGS = LogSettings()
AGAIN = Topic(TOPIC.name, UUID(int=8), 1)


class Machine:
    """A disk, and a store on it that can be killed or lose its power."""

    def __init__(self, seed: int = 0, durability: Durability = Durability.FSYNC) -> None:
        self.dice = Random(seed)
        self.durability = durability
        self.disk = Disk()
        self.start()

    def start(self) -> None:
        """A process begins."""
        clock = Clock()
        clock.advance(1_700_000_000)
        self.faults = Faults(Random(1))
        self.files = SimulatedFiles(self.disk, self.faults, clock.seconds)
        self.store = LocalLogStore(
            "/data", clock, lambda call: call(), self.durability, files=self.files, threaded=False
        )
        self.store.open()

    def log(self, topic: Topic = TOPIC, settings: LogSettings = SETTINGS) -> LocalLog:
        return self.store.log(topic, 0, settings, Listener(), Producers())

    def kill(self) -> None:
        self.files.dead = True

    def cut_power(self) -> None:
        self.kill()
        self.disk.lose_power(self.dice)


def append(machine: Machine, log: LocalLog, value: bytes, timestamp: int = 1000) -> None:
    data = batch(value, timestamp=timestamp)
    log.append(read_header(data, 0, len(data)), data, 0, None)
    machine.store.disk.pump()


def values(log: LocalLog) -> list[bytes | None]:
    found: list[bytes | None] = []
    offset = log.start_offset
    while offset < log.written_offset:
        data = log.read(offset, 1 << 20, log.written_offset).data
        assert not hasattr(data, "file")
        records = list(read_records(data))
        found += [record.value for record in records]
        offset = records[-1].offset + 1
    return found


@pytest.mark.parametrize("seed", range(12))
def test_what_a_failed_sync_left_in_the_page_cache_is_written_again_before_it_counts(seed: int) -> None:
    machine = Machine(seed)
    log = machine.log()
    append(machine, log, b"first")
    machine.faults.dice = Random(seed)
    machine.faults.fail("fdatasync", errno.EIO, 0)
    append(machine, log, b"second")
    assert log.refusal is not None
    machine.kill()
    machine.start()
    log = machine.log()
    there = values(log)
    assert log.durable_offset == len(there)  # so they are acknowledged to whoever asks again
    machine.cut_power()
    machine.start()
    assert values(machine.log()) == there


def test_a_failed_sync_that_no_restart_followed_is_noted() -> None:
    machine = Machine()
    log = machine.log()
    machine.faults.fail("fdatasync", errno.EIO, 0)
    append(machine, log, b"first")
    noted = f"{log.directory}/sync-failed"
    assert isinstance(machine.disk.find(noted), File)
    machine.kill()
    machine.start()
    machine.log()
    assert machine.disk.find(noted) is None


@pytest.mark.parametrize("seed", range(12))
def test_a_deleted_topic_is_not_found_in_a_new_one_of_its_name(seed: int) -> None:
    machine = Machine(seed)
    append(machine, machine.log(), b"of the old topic")
    deleted: list[None] = []
    machine.store.delete(TopicPartition(TOPIC.name, 0)).addCallback(deleted.append)
    machine.store.disk.pump()
    assert deleted == [None]
    machine.cut_power()
    machine.start()
    assert values(machine.log(AGAIN)) == []


@pytest.mark.parametrize("seed", range(12))
def test_the_first_record_of_a_log_that_was_made_and_closed_empty_stays(seed: int) -> None:
    machine = Machine(seed)
    machine.log()
    machine.store.close()
    machine.store.disk.pump()
    machine.start()
    assert machine.store.was_clean
    append(machine, machine.log(), b"first")
    machine.cut_power()
    machine.start()
    assert values(machine.log()) == [b"first"]


@pytest.mark.parametrize("durability", list(Durability))
@pytest.mark.parametrize("seed", range(6))
def test_the_marker_of_a_clean_stop_does_not_come_back(seed: int, durability: Durability) -> None:
    machine = Machine(seed, durability)
    append(machine, machine.log(), b"first")
    machine.store.close()
    machine.store.disk.pump()
    machine.disk.sync_all()
    machine.start()
    assert machine.store.was_clean
    append(machine, machine.log(), b"second")
    machine.cut_power()
    machine.start()
    assert not machine.store.was_clean


def test_what_is_damaged_under_a_running_broker_has_an_end_all_the_same() -> None:
    machine = Machine()
    log = machine.log()
    append(machine, log, b"first")
    append(machine, log, b"second")
    file = machine.disk.find(f"{log.directory}/{0:020d}.log")
    assert isinstance(file, File)
    whole = log.read(0, 1 << 20, log.written_offset)
    second = read_header(whole.data, 0, whole.length).size_bytes  # type: ignore[arg-type]
    file.data[second + RECORD_COUNT] ^= 1  # outside of what walking from batch to batch looks at
    read = log.read(0, 1 << 20, log.written_offset)
    assert read.length == whole.length
    assert log.end_of(read) == 2


def test_a_process_that_has_ended_changes_nothing() -> None:
    machine = Machine()
    log = machine.log()
    machine.kill()
    data = batch(b"never")
    log.append(read_header(data, 0, len(data)), data, 0, None)
    with pytest.raises(ProcessEnded):
        machine.store.disk.pump()
    machine.start()
    assert values(machine.log()) == []


def test_records_that_are_young_stay_whatever_an_index_says_of_their_time() -> None:
    settings = LogSettings(segment_bytes=100, retention_ms=1000)
    machine = Machine()
    log = machine.log(settings=settings)
    now_ms = 1_700_000_000_000
    for number in range(6):
        append(machine, log, b"%d" % number, now_ms + number)
    assert len(log.segments.items) > 3
    machine.store.disk.pump()
    machine.store.close()
    machine.store.disk.pump()
    path = f"{log.directory}/{log.segments.bases[0]:020}.timeindex"
    index = machine.disk.find(path)
    assert isinstance(index, File)
    assert len(index.data) == 12
    index.data[:6] = bytes(6)  # a sector that was torn: the time is a small one now
    machine.start()
    assert machine.store.was_clean
    log = machine.log(settings=settings)
    assert log.enforce_retention(now_ms + 900) == 0
    assert values(log) == [b"%d" % number for number in range(6)]
    assert log.enforce_retention(now_ms + 9000) > 0


@pytest.mark.parametrize("durability", list(Durability))
def test_a_producer_id_is_given_out_once_whatever_the_power_takes(durability: Durability) -> None:
    """What two producers of one id send would be taken for repeats of each other's batches."""
    timeline, database, dice = Timeline(), Database(), Random(3)
    reactor = Reactor(timeline, Random(1), lambda port, factory: None)
    given: list[int] = []
    kept = []
    for life in range(20):
        files = SimulatedFiles(Disk(), Faults(Random(2)), reactor.seconds)
        store = SimulatedMetadataStore(database, files, durability, reactor)
        store.open()
        kept.append(len(store.rows("groups")))
        ids = ProducerIds(store, block_size=3)
        ids.load()
        for number in range(8):
            ids.allocate().addCallback(given.append)
            store.write([Change("groups", f"{life} {number}", 0)])
            timeline.run_until(timeline.now + 1)
        database.lose_power(dice)
    assert len(given) == len(set(given)) == 160
    lost = [then for before, then in pairwise(kept) if then < before + 8]
    assert bool(lost) == (durability is Durability.OS)  # other rows may go, as ever
