"""What the tests of transactions share: partitions that keep markers, services over a store that fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.task import Clock

from megabroker.core.groups import GroupService, GroupSettings
from megabroker.core.producer_ids import ProducerIds
from megabroker.core.transactions import TransactionService, TransactionSettings
from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError, StorageError
from megabroker.model import CommittedOffset, ProducerIdentity, Topic, TopicPartition, TransactionMarker
from tests.unit.groups_harness import START_S, HeldStore, Outcome

__all__ = ["FakePartition", "FakeTopics", "Harness", "Outcome", "offset", "tp"]


def tp(index: int = 0, topic: str = "t") -> TopicPartition:
    return TopicPartition(topic, index)


def offset(number: int) -> CommittedOffset:
    return CommittedOffset(number)


class FakePartition:
    """A log of what transactions did: ("data" | "commit" | "abort", producer id, epoch)."""

    def __init__(self) -> None:
        self.log: list[tuple[str, int, int]] = []
        self.open: dict[int, int] = {}
        self.epochs: dict[int, int] = {}
        self.holding = False
        self.held: list[tuple[TransactionMarker, Callable[[BrokerError | None], None]]] = []
        self.error: BrokerError | None = None

    def append(self, identity: ProducerIdentity) -> None:
        """Store a transactional batch."""
        producer_id, epoch = identity
        assert epoch >= self.epochs.get(producer_id, 0)
        self.epochs[producer_id] = epoch
        self.open.setdefault(producer_id, epoch)
        self.log.append(("data", producer_id, epoch))

    def append_marker(self, marker: TransactionMarker, done: Callable[[BrokerError | None], None]) -> int:
        if self.error is not None:
            raise self.error
        if marker.producer_epoch < self.epochs.get(marker.producer_id, 0):
            raise StateError(ErrorCode.INVALID_PRODUCER_EPOCH)
        self.held.append((marker, done))
        if not self.holding:
            self.release()
        return len(self.log)

    def release(self, error: BrokerError | None = None) -> None:
        """Have the markers held on the disk, or say why they are not."""
        held, self.held = self.held, []
        for marker, done in held:
            if error is None:
                self.epochs[marker.producer_id] = marker.producer_epoch
                self.open.pop(marker.producer_id, None)
                word = "commit" if marker.commit else "abort"
                self.log.append((word, marker.producer_id, marker.producer_epoch))
            done(error)

    def open_transactions(self) -> Sequence[ProducerIdentity]:
        return [ProducerIdentity(*pair) for pair in self.open.items()]


class FakeTopics:
    """Topics of four partitions each."""

    def __init__(self) -> None:
        self.partitions: dict[TopicPartition, FakePartition] = {}
        self.names = ["t", "u"]

    def get(self, name: str) -> Topic | None:
        return Topic(name, None, 4) if name in self.names else None  # type: ignore[arg-type]

    def all(self) -> Sequence[Topic]:
        return [Topic(name, None, 4) for name in self.names]  # type: ignore[arg-type]

    def partition(self, topic: str, index: int) -> FakePartition:
        if topic not in self.names:
            raise RequestError(ErrorCode.UNKNOWN_TOPIC)
        return self.partitions.setdefault(TopicPartition(topic, index), FakePartition())


class Harness:
    """Services over a Clock; ``restart`` makes new ones over what the old ones stored."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.clock.advance(START_S)
        self.store = HeldStore()
        self.topics = FakeTopics()
        self.settings = TransactionSettings(**{"check_interval_ms": 0, **settings})
        self.block_size = 1000
        self.start()

    def start(self) -> None:
        numbers = itertools.count(1)
        self.groups = GroupService(
            self.clock,
            self.store,
            GroupSettings(offsets_check_interval_ms=0),
            lambda partition: partition.topic in self.topics.names and partition.partition < 4,
            new_member_id=lambda prefix: f"{prefix}-{next(numbers)}",
        )
        self.groups.load()
        self.ids = ProducerIds(self.store, self.block_size)
        self.ids.load()
        self.service = self.make_service()
        self.service.load()

    def make_service(self) -> TransactionService:
        return TransactionService(
            self.clock,
            self.store,
            self.settings,
            self.topics,
            self.groups.transactional,
            self.ids,
        )

    def crash(self) -> None:
        """Forget everything that was not stored; nothing of before is heard of again."""
        self.service.stop()
        self.groups.stop()
        self.store.held.clear()
        self.store.hold = False
        for partition in self.topics.partitions.values():
            partition.held.clear()
            partition.holding = False
            partition.error = None

    def restart(self) -> None:
        self.crash()
        self.start()

    def now_ms(self) -> int:
        return int(self.clock.seconds() * 1000)

    def advance(self, seconds: float, step: float = 0.5) -> None:
        while seconds > 0:
            self.clock.advance(min(step, seconds))
            seconds -= step

    def partition(self, index: int = 0, topic: str = "t") -> FakePartition:
        return self.topics.partition(topic, index)

    # --- requests ---------------------------------------------------------------------------------

    def init(
        self, known: ProducerIdentity | None = None, timeout_ms: int = 60_000, name: str = "x"
    ) -> Outcome:
        return Outcome(self.service.init_producer(name, timeout_ms, known))

    def producer(self, name: str = "x", timeout_ms: int = 60_000) -> ProducerIdentity:
        """Return the identity of a new producer, whatever was there before."""
        for _ in range(3):
            outcome = self.init(name=name, timeout_ms=timeout_ms)
            if not isinstance(outcome.results[0], BrokerError):
                break
        return outcome.value

    def add(self, identity: ProducerIdentity, *partitions: TopicPartition, name: str = "x") -> Outcome:
        return Outcome(self.service.add_partitions(name, identity, partitions or (tp(),)))

    def offsets(
        self,
        identity: ProducerIdentity,
        offsets: dict[TopicPartition, CommittedOffset],
        *,
        implicit: bool = False,
        group: str = "g",
        generation: int = -1,
        member: str = "",
    ) -> Outcome:
        return Outcome(
            self.service.commit_offsets(
                "x", identity, group, generation, member, None, offsets, implicit=implicit
            )
        )

    def end(
        self, identity: ProducerIdentity, commit: bool = True, bump: bool = False, name: str = "x"
    ) -> Outcome:
        return Outcome(self.service.end(name, identity, commit, bump_epoch=bump))

    def state(self, name: str = "x") -> str:
        described = self.service.describe(name)
        return "none" if described is None else described.state

    def committed(self, group: str = "g") -> dict[TopicPartition, int]:
        return {where: one.offset for where, one in self.groups.committed(group, None).items()}


def disk_error() -> StorageError:
    return StorageError(ErrorCode.STORAGE, "the disk is gone")
