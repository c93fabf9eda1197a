"""The parts of the simulated world, each by itself: time, disk, network."""

from __future__ import annotations

import errno
from random import Random

import pytest
from twisted.internet.protocol import Factory, Protocol

from megabroker.codec.batch import build
from megabroker.model import Durability
from megabroker.simulation.chaos import Chaos
from megabroker.simulation.clock import ProcessEnded, Reactor, Timeline
from megabroker.simulation.disk import Directory, Disk, File
from megabroker.simulation.files import Faults, SimulatedFiles
from megabroker.simulation.history import Damaged, Event
from megabroker.simulation.network import Network, Pace
from megabroker.simulation.plan import Plan


def opened(disk: Disk, seed: int = 0) -> SimulatedFiles:
    return SimulatedFiles(disk, Faults(Random(seed)), lambda: 0.0)


def content(disk: Disk, path: str) -> bytes | None:
    node = disk.find(path)
    return bytes(node.data) if isinstance(node, File) else None


def test_what_is_synced_stays_and_of_the_rest_some() -> None:
    found = set()
    for seed in range(60):
        disk = Disk()
        files = opened(disk)
        fd = files.open("/file", create=True)
        files.pwritev(fd, [b"a" * 600], 0)
        files.fdatasync(fd)
        files.sync_dir("/")
        files.pwritev(fd, [b"b" * 600], 600)
        disk.lose_power(Random(seed))
        data = content(disk, "/file")
        assert data is not None
        assert data[:600] == b"a" * 600
        assert set(data[600:]) <= {ord("b"), 0}
        found.add("all" if data[600:] == b"b" * 600 else "none" if len(data) == 600 else "torn")
    assert found == {"all", "none", "torn"}


def test_a_name_that_is_not_synced_may_be_gone_and_a_renaming_is_whole() -> None:
    found = set()
    for seed in range(60):
        disk = Disk()
        files = opened(disk)
        fd = files.open("/old", create=True)
        files.pwritev(fd, [b"x"], 0)
        files.fdatasync(fd)
        files.sync_dir("/")
        files.rename("/old", "/new")
        files.open("/other", create=True)
        disk.lose_power(Random(seed))
        assert (content(disk, "/old"), content(disk, "/new")) in {(b"x", None), (None, b"x")}
        found.add((content(disk, "/new"), content(disk, "/other") is not None))
    assert found == {(b"x", True), (b"x", False), (None, True), (None, False)}


def test_a_sync_that_failed_may_have_lost_what_is_still_read() -> None:
    kept = set()
    for seed in range(20):
        disk = Disk()
        files = opened(disk, seed)
        fd = files.open("/file", create=True)
        files.sync_dir("/")
        files.pwritev(fd, [b"x"], 0)
        files.faults.fail("fdatasync", errno.EIO, 0)
        with pytest.raises(OSError, match="Input/output"):
            files.fdatasync(fd)
        assert files.pread(fd, 1, 0) == b"x"
        files.fdatasync(fd)  # says that all is well
        disk.lose_power(Random(seed))
        kept.add(content(disk, "/file"))
    assert kept == {b"x", b""}


def test_a_full_disk_takes_what_it_has_room_for() -> None:
    disk = Disk()
    files = opened(disk)
    fd = files.open("/file", create=True)
    files.pwritev(fd, [b"abcd"], 0)
    disk.full = True
    assert files.pwritev(fd, [b"efgh"], 2) == 2
    with pytest.raises(OSError, match="No space"):
        files.pwritev(fd, [b"x"], 4)
    with pytest.raises(OSError, match="No space"):
        files.open("/another", create=True)


def test_a_process_ends_at_one_of_its_calls_and_does_nothing_more() -> None:
    disk = Disk()
    files = opened(disk)
    ended: list[str] = []

    def end() -> None:
        files.dead = True
        ended.append("ended")

    files.faults.end_within(5, end)
    made = 0
    while not files.dead:
        try:
            files.mkdir(f"/{made}")
        except ProcessEnded:
            break
        made += 1
    there = len(disk.root.entries)
    assert made <= there <= made + 1 <= 5
    with pytest.raises(ProcessEnded):
        files.mkdir("/later")
    assert len(disk.root.entries) == there
    assert ended == ["ended"]
    assert isinstance(disk.root, Directory)


class Idle:
    """A machine whose process does nothing but to be struck, and that notes what was."""

    alive = True

    def __init__(self, disk: Disk) -> None:
        self.process = self
        self.disk = disk
        self.timeline = Timeline()
        self.noted: list[Event] = []

    def note(self, event: Event) -> None:
        self.noted.append(event)

    def say(self, who: str, what: object) -> None:
        pass

    def kill(self) -> None:
        pass

    def lose_power(self) -> None:
        pass


@pytest.mark.parametrize("seed", range(40))
def test_the_offsets_of_a_flipped_bit_are_told_whatever_was_flipped_before(seed: int) -> None:
    disk = Disk()
    files = opened(disk)
    spans, data = [], b""
    for count in (3, 1, 2, 4, 1, 3):
        first = spans[-1].stop if spans else 0
        spans.append(range(first, first + count))
        data += bytes(build([(None, b"v", (), 1000)] * count, base_offset=first))
    files.mkdir("/data")
    files.mkdir("/data/t-0")
    files.pwritev(files.open("/data/t-0/00000000000000000000.log", create=True), [data], 0)
    disk.sync_all()
    machine = Idle(disk)
    plan = Plan(Durability.FSYNC, (1,), 4096, {}, ("bit flip",), 1.0, 1.0)
    Chaos(machine, plan, Random(seed)).start()  # type: ignore[arg-type]
    machine.timeline.run_until(machine.timeline.now + 30)
    told = [event for event in machine.noted if isinstance(event, Damaged)]
    assert 1 < len(told) <= len(spans)
    hit: set[int] = set()
    for event in told:
        assert event.first_offset <= event.last_offset < spans[-1].stop
        hit.update(range(event.first_offset, event.last_offset + 1))
    flipped = content(disk, "/data/t-0/00000000000000000000.log")
    at = 0
    for span in spans:
        size = len(build([(None, b"v", (), 1000)] * len(span)))
        changed = flipped is not None and flipped[at : at + size] != data[at : at + size]
        assert set(span) <= hit if changed else not hit & set(span)
        at += size


def test_turns_come_in_time_and_in_order_whatever_is_done_to_the_clock() -> None:
    timeline = Timeline()
    reactor = Reactor(timeline, Random(1), lambda port, factory: None)
    called: list[str] = []
    reactor.callLater(2, called.append, "second")
    reactor.callLater(1, called.append, "first")
    reactor.callLater(1, called.append, "first too")
    cancelled = reactor.callLater(1.5, called.append, "never")
    cancelled.cancel()
    moved = reactor.callLater(0.5, called.append, "third")
    moved.reset(3)
    reactor.jump(-3600)
    assert reactor.now_ms() == int((timeline.now - 3600) * 1000)
    timeline.run_until(timeline.now + 5)
    assert called == ["first", "first too", "second", "third"]


class Echo(Protocol):
    """Sends back what comes."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class Client:
    """Keeps what comes."""

    def __init__(self) -> None:
        self.data = b""
        self.is_lost = False

    def received(self, data: bytes) -> None:
        self.data += data

    def lost(self) -> None:
        self.is_lost = True


def echoing(seed: int) -> tuple[Timeline, Network]:
    timeline = Timeline()
    network = Network(timeline, Random(seed))
    reactor = Reactor(timeline, Random(seed), lambda port, factory: network.listen(reactor, port, factory))
    reactor.listenTCP(9092, Factory.forProtocol(Echo))
    return timeline, network


@pytest.mark.parametrize("seed", range(5))
def test_bytes_come_in_order_and_in_pieces(seed: int) -> None:
    timeline, network = echoing(seed)
    client = Client()
    link = network.connect(9092, client, Pace(0.001, 7, 0.5))
    assert link is not None
    sent = bytes(range(200))
    link.send(sent[:90])
    link.send(sent[90:])
    timeline.run_until(timeline.now + 5)
    assert client.data == sent
    assert network.injected["ragged delivery"]


def test_a_reset_loses_what_is_under_way_and_both_sides_learn_of_it() -> None:
    timeline, network = echoing(1)
    client = Client()
    link = network.connect(9092, client, Pace(0.001, 7, 0.0))
    assert link is not None
    link.send(bytes(1000))
    timeline.run_until(timeline.now + 0.02)
    link.end()
    timeline.run_until(timeline.now + 1)
    assert client.is_lost
    assert 0 < len(client.data) < 1000
    assert network.connect(1, client, Pace(0.001, 7, 0.0)) is None


def test_a_stall_holds_everything_up_and_loses_nothing() -> None:
    timeline, network = echoing(1)
    client = Client()
    link = network.connect(9092, client, Pace(0.001, 1000, 0.0))
    assert link is not None
    link.send(b"hello")
    link.stall(3)
    timeline.run_until(timeline.now + 2)
    assert client.data == b""
    timeline.run_until(timeline.now + 2)
    assert client.data == b"hello"
