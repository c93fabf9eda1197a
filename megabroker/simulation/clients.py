"""What all simulated clients share: names for records, requests, and when to stop.

Owns the client's view of the run: ``Stage`` is what clients are given of the world, ``Client`` one of them.
A client is a coroutine that goes on until the stage closes; whatever it asked for and does not know the
outcome of stays unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred

from megabroker.codec.batch import RecordInput, build
from megabroker.protocols.kafka.schema import fetch, produce
from megabroker.simulation.clock import Timeline
from megabroker.simulation.history import CommitSent, Event, History, Partition, TransactionOffset
from megabroker.simulation.network import Network, Pace
from megabroker.simulation.rules import Violation
from megabroker.simulation.wire import Connection, Unanswered, sleep

__all__ = ["RETRIABLE", "Client", "Refused", "Stage", "make_batch"]

RETRIABLE: Final = frozenset({2, 3, 5, 6, 7, 9, 13, 14, 15, 16, 19, 20, 51, 56, 89})
"""Kafka's error codes after which a client asks again."""

_PRODUCE_VERSIONS: Final = (3, 7, 8, 9, 11)
_FETCH_VERSIONS: Final = (4, 7, 10, 11, 12)
_LONGEST_PADDING: Final = 600
_KEYS: Final = 6


class Refused(Exception):
    """The broker said no, finally.

    Attributes:
        code: Kafka's.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"error code {code}")
        self.code = code


class Stage:
    """What clients are given of the world.

    Attributes:
        open: whether clients go on; closed, they finish what they are at or give it up.
        partitions: that are there all the time.
        keyed: of these, those of compacted topics.
        trimmed: of these, those from which records may be deleted.
        note: takes what goes into the history.
        say: takes what goes into the trace only.
        violated: takes what a client sees to be wrong by itself.
        unknown_topics: of which nobody knows whether they are there.
    """

    def __init__(
        self,
        timeline: Timeline,
        network: Network,
        history: History,
        say: Callable[[str, object], None],
        violated: Callable[[Violation], None],
    ) -> None:
        self.violated = violated
        self.unknown_topics: set[str] = set()
        self.timeline = timeline
        self.network = network
        self.history = history
        self.say = say
        self.open = True
        self.partitions: list[Partition] = []
        self.keyed: set[Partition] = set()
        self.trimmed: list[Partition] = []
        self.transactions = 0
        self.counts: Counter[str] = Counter()

    def keyless(self) -> list[Partition]:
        """Return partitions that take messages without a key."""
        return [one for one in self.partitions if one not in self.keyed]

    @property
    def now(self) -> float:
        """The true time."""
        return self.timeline.now

    def note(self, event: Event) -> None:
        """Add to the history."""
        self.history.events.append(event)
        self.counts[type(event).__name__] += 1
        self.say("history", event)

    def groups(self) -> list[str]:
        """Return the groups that offsets were committed for."""
        events = self.history.events
        return sorted({event.group for event in events if isinstance(event, CommitSent | TransactionOffset)})

    def next_transaction(self) -> int:
        """Return a number that no other transaction has."""
        self.transactions += 1
        return self.transactions


def make_batch(
    names: Sequence[str],
    dice: Random,
    timestamp_ms: int,
    producer: tuple[int, int, int],
    *,
    transactional: bool,
) -> bytes:
    """Encode a batch of records that are called so; ``producer`` is id, epoch, first sequence."""
    records: list[RecordInput] = [
        (
            name.rpartition("@")[2].encode(),
            name.encode() + b" " + dice.randbytes(dice.randrange(_LONGEST_PADDING)),
            (),
            timestamp_ms,
        )
        for name in names
    ]
    return bytes(
        build(
            records,
            producer_id=producer[0],
            producer_epoch=producer[1],
            base_sequence=producer[2],
            attributes=0x10 if transactional else 0,
            compression=1 if dice.random() < 0.1 else 0,
        )
    )


class Client:
    """One client; ``run`` is its life."""

    def __init__(self, stage: Stage, name: str, dice: Random) -> None:
        self.stage = stage
        self.name = name
        self.dice = dice
        self.produce_version = dice.choice(_PRODUCE_VERSIONS)
        self.fetch_version = dice.choice(_FETCH_VERSIONS)
        self.connection = self.connect()
        self._named = 0

    def connect(self) -> Connection:
        """Return another connection of this client's."""
        slow = self.dice.random() < 0.15
        pace = Pace(
            self.dice.choice((0.0002, 0.001, 0.005)),
            self.dice.choice((512, 2048)) if slow else 1 << 20,
            self.dice.choice((0.0, 0.02, 0.2)),
        )
        return Connection(self.stage.network, pace)

    async def run(self) -> None:
        """Live."""
        raise NotImplementedError

    def sleep(self, seconds: float) -> Deferred[None]:
        """Return what fires after about so many seconds."""
        return sleep(self.stage.timeline, seconds * (0.5 + self.dice.random()))

    def new_names(self, count: int, partition: Partition | None = None) -> tuple[str, ...]:
        """Return names that no other records have; for a compacted partition they say one of few keys."""
        self._named += count
        names = (f"{self.name}.{number}" for number in range(self._named - count, self._named))
        if partition not in self.stage.keyed:
            return tuple(names)
        return tuple(f"{name}@{self.dice.randrange(_KEYS)}" for name in names)

    async def ask(self, key: int, version: int, message: Any, timeout_seconds: float = 0.0) -> Any:
        """Send a request and return the answer. Raises Unanswered."""
        return await self.connection.request(key, version, message, timeout_seconds)

    async def insist(
        self, key: int, version: int, make: Callable[[], Any], code: Callable[[Any], int], attempts: int = 40
    ) -> Any:
        """Ask until there is an answer that is final, and return it.

        Raises:
            Unanswered: there was none in so many attempts; it may have been carried out.
            Refused: the answer was an error.
        """
        unknown = Unanswered("the broker never was ready")
        for _ in range(attempts):
            try:
                answer = await self.ask(key, version, make())
            except Unanswered as error:
                unknown = error
            else:
                found = code(answer)
                if not found:
                    return answer
                if found not in RETRIABLE:
                    raise Refused(found)
            if not self.stage.open:
                break
            await self.sleep(0.1)
        raise unknown

    def produce(
        self, partition: Partition, batch: bytes, acks: int, transactional_id: str | None, version: int = 0
    ) -> Deferred[Any]:
        """Send a batch; fires with the partition's part of the answer, or fails with Unanswered."""
        kind = produce.Request.Topic
        topic = kind(
            name=partition[0].partition("#")[0],
            partition_data=[kind.Partition(index=partition[1], records=batch)],
        )
        request = produce.Request(
            transactional_id=transactional_id, acks=acks, timeout_ms=5000, topic_data=[topic]
        )
        done = self.connection.request(0, version or self.produce_version, request)
        return done.addCallback(lambda answer: answer.responses[0].partition_responses[0])

    def fetch(
        self,
        connection: Connection,
        partition: Partition,
        offset: int,
        *,
        committed: bool,
        wait_ms: int = 300,
    ) -> Deferred[Any]:
        """Ask for batches; fires with the partition's part of the answer, or fails with Unanswered."""
        kind = fetch.Request.Topic
        wanted = kind.Partition(
            partition=partition[1],
            fetch_offset=offset,
            partition_max_bytes=self.dice.choice((2000, 20_000, 1 << 20)),
        )
        request = fetch.Request(
            max_wait_ms=wait_ms,
            min_bytes=1,
            max_bytes=1 << 20,
            isolation_level=int(committed),
            topics=[kind(topic=partition[0].partition("#")[0], partitions=[wanted])],
        )
        done = connection.request(1, self.fetch_version, request)
        return done.addCallback(lambda answer: answer.responses[0].partitions[0])
