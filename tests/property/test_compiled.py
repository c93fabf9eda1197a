"""With the compiled part a broker says and stores, byte for byte, what it says and stores without it.

Two brokers on disk get the same bytes in the same pieces over the same connections. The one without the
compiled part is the oracle: whatever was sent, damaged or not, both answer the same, close the same
connections and have the same segments and indexes.
"""

from __future__ import annotations

import itertools
import struct
import unittest
from collections.abc import Sequence
from typing import Any

import attrs
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import build
from megabroker.codec.compression import GZIP
from megabroker.errors import BrokerError
from megabroker.protocols.kafka.schema import fetch, produce
from tests.unit.call_counting import COMPILED, Client, CountingCase, framed

_NOW_MS = 1_700_000_000_000
_DAY_MS = 86_400_000
_CONNECTIONS = 2
_TURNS = 4
_QUEUE = 24
_BY_ID = 13

VERSIONS = (3, 4, 7, 8, 9, 12, _BY_ID)
TIMES = (_NOW_MS, _NOW_MS, _NOW_MS + 1, _NOW_MS - 5, _NOW_MS + 2 * _DAY_MS, -1, 0)


@attrs.frozen
class Item:
    """Some requests in a row that differ in their correlation ids only.

    Attributes:
        flip: where, in thousandths of one's length, a byte is changed, and by what; 0 for not at all.
    """

    count: int = 1
    version: int = 12
    index: int = 0
    client: bytes = b"me"
    records: int = 1
    value_bytes: int = 100
    time_ms: int = _NOW_MS
    acks: int = 1
    codec: int = 0
    producer_id: int = -1
    other_topic: bool = False
    flip: tuple[int, int] = (0, 0)
    kind: str = "produce"


@attrs.frozen
class Step:
    """What one connection sends before anybody is read, and how that is cut up."""

    connection: int
    items: Sequence[Item]
    cuts: Sequence[int] = ()
    together: bool = False


items = st.builds(
    Item,
    count=st.sampled_from([1, 1, 2, 5, 12]),
    version=st.sampled_from([12, 12, 12, *VERSIONS]),
    index=st.sampled_from([0, 0, 0, 1, 2, -1]),
    client=st.sampled_from([b"me", b"me", b"you"]),
    records=st.integers(1, 3),
    value_bytes=st.sampled_from([0, 1, 100, 100, 5000]),
    time_ms=st.sampled_from(TIMES),
    acks=st.sampled_from([1, 1, 1, -1, 0, 2]),
    codec=st.sampled_from([0, 0, 0, GZIP]),
    producer_id=st.sampled_from([-1, -1, -1, -1, 7]),
    other_topic=st.sampled_from([False, False, False, True]),
    flip=st.one_of(
        st.just((0, 0)), st.just((0, 0)), st.just((0, 0)), st.tuples(st.integers(0, 999), st.integers(1, 255))
    ),
    kind=st.sampled_from(["produce"] * 6 + ["fetch", "garbage"]),
)
steps = st.builds(
    Step,
    connection=st.integers(0, _CONNECTIONS - 1),
    items=st.lists(items, min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 1000), max_size=3),
    together=st.booleans(),
)


class Side(CountingCase):
    """One of the two brokers."""

    __test__ = False
    config = f"partition_channel_buffer_size: {_QUEUE}\n"

    def runTest(self) -> None:
        """Nothing of its own."""

    def begin(self, name: str, small: bool = False) -> None:
        """Make topics and connections for one example; ``small`` segments are smaller than is allowed."""
        self.names = (name, name + "-other")
        self.topics = [self.done(self.service.core.topics.create(one, 2)) for one in self.names]
        for log in self.logs() if small else ():
            log.settings = attrs.evolve(log.settings, segment_bytes=2000, index_interval_bytes=200)
        self.clients = [Client(self.factory, self.reactor) for _ in range(_CONNECTIONS)]
        self.said = [b""] * _CONNECTIONS
        self.closed = [False] * _CONNECTIONS

    def logs(self) -> list[Any]:
        topics: Any = self.service.core.topics
        return [topics.partition(name, index).log for name, index in itertools.product(self.names, range(2))]

    def end(self) -> None:
        for client in self.clients:
            client.close()
        self.settle()
        for name in self.names:
            self.done(self.service.core.topics.delete(name))

    def bytes_of(self, step: Step) -> bytes:
        stream = bytearray()
        for item in step.items:
            for number in range(item.count):
                stream += self._request(item, number)
        return bytes(stream)

    def _request(self, item: Item, number: int) -> bytes:
        topic = self.topics[item.other_topic]
        if item.kind == "garbage":
            return struct.pack(">i", 9) + b"\x7f" * 9
        if item.kind == "fetch":
            Topic = fetch.Request.Topic
            wanted = Topic.Partition(partition=0, fetch_offset=0, partition_max_bytes=1000)
            asked = fetch.Request(
                max_bytes=1000, session_epoch=-1, topics=[Topic(topic=topic.name, partitions=[wanted])]
            )
            return framed(asked, 12, number)
        batch = build(
            [(None, b"x" * item.value_bytes, (), item.time_ms)] * item.records,
            compression=item.codec,
            producer_id=item.producer_id,
            producer_epoch=0 if item.producer_id >= 0 else -1,
            base_sequence=number * item.records if item.producer_id >= 0 else -1,
        )
        data = produce.Request.Topic.Partition(index=item.index, records=bytes(batch))
        named = produce.Request.Topic(name=topic.name, topic_id=topic.id.bytes, partition_data=[data])
        request = produce.Request(acks=item.acks, timeout_ms=1000, topic_data=[named])
        whole = bytearray(framed(request, item.version, number))
        whole = whole.replace(b"\0\2me", struct.pack(">h", len(item.client)) + item.client, 1)
        struct.pack_into(">i", whole, 0, len(whole) - 4)
        at, change = item.flip
        if change and item.version != _BY_ID:  # an id that is damaged is a matter of chance when told back
            whole[len(whole) * at // 1000] ^= change
        return bytes(whole)

    def send(self, connection: int, data: bytes) -> None:
        try:
            self.clients[connection].send(data)
        except OSError:
            self.closed[connection] = True

    def settle(self) -> None:
        """Do all there is to do, and hear what is said."""
        for _ in range(_TURNS):
            self.reactor.readable = True
            self.reactor.turn()
        for number, client in enumerate(self.clients):
            try:
                while data := client._socket.recv(1 << 20):
                    self.said[number] += data
                self.closed[number] = True
            except BlockingIOError:
                pass
            except OSError:
                self.closed[number] = True

    def outcome(self) -> dict[str, Any]:
        """Return all that can be seen, without what is a matter of chance."""
        said = self.said
        for topic in self.topics:
            said = [one.replace(topic.id.bytes, bytes(16)) for one in said]
        logs = []
        for log in self.logs():
            assert log.pending_bytes == 0
            sealed = log.segments.items[:-1]
            self.reactor.until(lambda sealed=sealed: all(segment.saved for segment in sealed))
            for segment in log.segments.items:
                notes = log.segments.index_of(segment)
                content = segment.read(0, segment.size) if segment.size else b""
                assert len(content) == segment.size
                logs.append(
                    (
                        *(str(log.topic_partition), segment.base_offset, bytes(content), segment.written),
                        *(segment.unindexed, segment.max_timestamp, segment.max_timestamp_offset),
                        *(list(notes.offsets), list(notes.positions)),
                        *(list(notes.times), list(notes.time_offsets)),
                    )
                )
        admission = self.service.broker.admission
        return {
            "said": said,
            "closed": list(self.closed),
            "logs": logs,
            "charged": admission.charged_bytes,
        }


@unittest.skipUnless(COMPILED, "the compiled part is not built (./dev compile)")
class CompiledTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sides: list[Any] = [Side("runTest"), Side("runTest")]
        for side, compiled in zip(self.sides, (False, True), strict=True):
            side.compiled = compiled
            side.addCleanup = self.addCleanup
            side.setUp()
        self.number = itertools.count()

    def taken(self) -> int:
        return int(self.sides[1].reactor.polling.turn.taken)

    def both(self, script: Sequence[Step], small: bool = False) -> dict[str, Any]:
        """Have both brokers go through a script; return what can be seen of it, which must be the same."""
        name = f"t{next(self.number):04}"
        outcomes = []
        for side in self.sides:
            side.begin(name, small)
            try:
                for step in script:
                    stream = side.bytes_of(step)
                    edges = sorted({0, len(stream), *(len(stream) * cut // 1000 for cut in step.cuts)})
                    for start, end in itertools.pairwise(edges):
                        side.send(step.connection, stream[start:end])
                        if not step.together:
                            side.settle()
                side.settle()
                outcomes.append(side.outcome())
            finally:
                side.end()
        self.assertEqual(*outcomes)
        found: dict[str, Any] = outcomes[0]
        return found

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @example([Step(0, [Item(5)]), Step(1, [Item(40)], cuts=[333])], False)
    @example([Step(0, [Item(3)]), Step(0, [Item(2), Item(1, flip=(990, 1)), Item(2)])], False)
    @given(st.lists(steps, min_size=1, max_size=6), st.booleans())
    def test_whatever_is_sent_the_outcome_is_the_same(self, script: list[Step], small: bool) -> None:
        self.both(script, small)

    def test_what_repeats_is_taken_by_the_compiled_part(self) -> None:
        for version in VERSIONS:
            before = self.taken()
            outcome = self.both(
                [Step(0, [Item(1, version=version)]), Step(0, [Item(20, version=version)], cuts=[501])]
            )
            self.assertGreaterEqual(self.taken() - before, 18)
            self.assertEqual(outcome["closed"], [False, False])

    def test_connections_meet_in_one_run(self) -> None:
        learn = [Step(number, [Item(1, client=b"me" * (number + 1))]) for number in range(_CONNECTIONS)]
        meet = [
            Step(number, [Item(4, client=b"me" * (number + 1))], together=True)
            for number in range(_CONNECTIONS)
        ]
        before = self.taken()
        self.both([*learn, *meet])
        self.assertEqual(self.taken() - before, 4 * _CONNECTIONS)

    def test_partitions_and_topics_in_turn_are_taken(self) -> None:
        turn = [Item(index=0), Item(index=1), Item(other_topic=True), Item(index=1), Item(index=0)]
        before = self.taken()
        self.both([Step(0, turn), Step(0, turn * 3)])
        self.assertEqual(self.taken() - before, len(turn) * 3)

    def test_every_damaged_byte_is_found(self) -> None:
        size = len(framed(produce.Request(), 12)) + 100
        for at in range(0, 1000, 1000 // size):
            self.both(
                [Step(0, [Item(1, value_bytes=1)]), Step(0, [Item(2), Item(1, flip=(at, 0x41)), Item(2)])]
            )

    def test_a_full_queue_parks_what_does_not_fit(self) -> None:
        outcome = self.both([Step(0, [Item(1)]), Step(0, [Item(3 * _QUEUE)])])
        self.assertEqual(outcome["closed"], [False, False])

    def test_a_deleted_topic_is_not_written(self) -> None:
        for side in self.sides:
            side.begin("gone")
            for _ in range(2):
                side.send(0, side.bytes_of(Step(0, [Item(1)])))
                side.settle()
            side.done(side.service.core.topics.delete("gone"))
            side.send(0, side.bytes_of(Step(0, [Item(2)])))
            side.settle()
            with self.assertRaises(BrokerError):
                side.service.core.topics.partition("gone", 0)
        self.assertEqual(self.sides[0].said, self.sides[1].said)

    def test_a_changed_topic_is_looked_at_anew(self) -> None:
        for configs in ({"message.timestamp.type": "LogAppendTime"}, {"cleanup.policy": "compact"}):
            said = []
            for side in self.sides:
                side.begin("changed")
                side.send(0, side.bytes_of(Step(0, [Item(3)])))
                side.settle()
                side.done(side.service.core.topics.set_configs("changed", configs))
                side.said[0] = b""
                side.send(0, side.bytes_of(Step(0, [Item(3)])))
                side.settle()
                said.append(len(side.said[0]))
                side.end()
            self.assertEqual(*said)
