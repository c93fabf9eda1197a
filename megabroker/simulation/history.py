"""What clients did and saw, and what was done to the broker, in the order of true time.

Owns the vocabulary that `rules` are written in. Records are known by their *names*, which their values begin
with: no two are alike, but for what is sent again. A name that ends in ``@`` and something has that for its
key. A partition is (topic, number). Times are seconds; an event is written down when its outcome is known,
``sent`` is when it was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

__all__ = [
    "Accepted",
    "Acked",
    "Acquired",
    "Assigned",
    "Batch",
    "CommitAcked",
    "CommitSent",
    "Configured",
    "Damaged",
    "DeletionAsked",
    "Died",
    "Event",
    "Fetched",
    "History",
    "LetGo",
    "OffsetRead",
    "Partition",
    "PowerLost",
    "Released",
    "Repeated",
    "Sent",
    "StartSeen",
    "SyncFailed",
    "TopicKnown",
    "TransactionEnded",
    "TransactionEnding",
    "TransactionOffset",
    "Troubled",
]

Partition = tuple[str, int]
FINAL = "final"
"""The name of who reads everything when all faults are over."""


class Sent(NamedTuple):
    """A batch is sent for the first time; ``transaction`` is 0 for none.

    Attributes:
        once: whether the broker has promised to store it once at most.
    """

    time: float
    producer: str
    partition: Partition
    names: tuple[str, ...]
    acks: int
    once: bool
    transaction: int


class Acked(NamedTuple):
    """A batch was acknowledged; ``base_offset`` is -1 where that was not told."""

    time: float
    producer: str
    partition: Partition
    names: tuple[str, ...]
    base_offset: int


class Repeated(NamedTuple):
    """A message that carries no number of its own is sent again."""

    time: float
    producer: str
    partition: Partition
    names: tuple[str, ...]


class TransactionEnding(NamedTuple):
    """A producer asks for the end of a transaction for the first time."""

    time: float
    transaction: int
    commit: bool


class TransactionEnded(NamedTuple):
    """The outcome of a transaction as its producer knows it: ``committed``, ``aborted``, ``unknown``."""

    time: float
    transaction: int
    outcome: str


class TransactionOffset(NamedTuple):
    """An offset was committed within a transaction."""

    time: float
    transaction: int
    group: str
    partition: Partition
    offset: int


class Batch(NamedTuple):
    """A batch as it was read; ``names`` of its records by offset, none of a control batch."""

    base_offset: int
    last_offset: int
    names: tuple[tuple[int, str], ...]
    control: bool
    size_bytes: int = 0


class Fetched(NamedTuple):
    """What a reader was sent.

    Attributes:
        committed: whether it reads committed records only; aborted ones are left out of ``batches`` then.
    """

    time: float
    sent: float
    reader: str
    committed: bool
    partition: Partition
    offset: int
    high_watermark: int
    stable_offset: int
    batches: tuple[Batch, ...]


class Assigned(NamedTuple):
    """A member of a group was given partitions for a generation of it."""

    time: float
    group: str
    generation: int
    member: str
    partitions: tuple[Partition, ...]


class Released(NamedTuple):
    """A member of a group of the consumer protocol has given up all but these, or is no member any more."""

    time: float
    group: str
    member: str
    partitions: tuple[Partition, ...]


class CommitSent(NamedTuple):
    """A member commits an offset."""

    time: float
    group: str
    partition: Partition
    offset: int


class CommitAcked(NamedTuple):
    """That was acknowledged."""

    time: float
    group: str
    partition: Partition
    offset: int


class OffsetRead(NamedTuple):
    """A committed offset as it was read; -1 for none."""

    time: float
    sent: float
    reader: str
    group: str
    partition: Partition
    offset: int


class TopicKnown(NamedTuple):
    """A topic's making or deleting was acknowledged, or seen at the end (by ``final``)."""

    time: float
    reader: str
    topic: str
    exists: bool


class Configured(NamedTuple):
    """How much of a topic is to be kept, from when it was asked for: all (-1) or so many bytes."""

    time: float
    topic: str
    compact: bool
    retention_bytes: int


class StartSeen(NamedTuple):
    """Where a log begins, as it was told."""

    time: float
    sent: float
    reader: str
    partition: Partition
    offset: int


class DeletionAsked(NamedTuple):
    """Somebody asks for the deletion of all records below an offset."""

    time: float
    partition: Partition
    before: int


class Acquired(NamedTuple):
    """A member of a share group was given records; nobody else may have them before ``until`` at least."""

    time: float
    sent: float
    until: float
    group: str
    member: str
    partition: Partition
    first_offset: int
    last_offset: int


class LetGo(NamedTuple):
    """From here on a member of a share group may not have these any more."""

    time: float
    group: str
    member: str
    partition: Partition
    first_offset: int
    last_offset: int


class Accepted(NamedTuple):
    """That a member of a share group is done with these was acknowledged."""

    time: float
    group: str
    partition: Partition
    first_offset: int
    last_offset: int


class Died(NamedTuple):
    """The broker's process has ended."""

    time: float


class Troubled(NamedTuple):
    """From here on calls to the disk may fail for a while."""

    time: float


class PowerLost(NamedTuple):
    """The machine's power was cut."""

    time: float


class SyncFailed(NamedTuple):
    """A sync failed: what was not on the disk may never be."""

    time: float


class Damaged(NamedTuple):
    """Somebody else changed what the disk holds of these offsets."""

    time: float
    partition: Partition
    first_offset: int
    last_offset: int


Event = (
    Sent
    | Acked
    | TransactionEnding
    | TransactionEnded
    | TransactionOffset
    | Fetched
    | Assigned
    | Released
    | CommitSent
    | CommitAcked
    | OffsetRead
    | TopicKnown
    | Repeated
    | Configured
    | StartSeen
    | DeletionAsked
    | Acquired
    | LetGo
    | Accepted
    | Died
    | Troubled
    | PowerLost
    | SyncFailed
    | Damaged
)
_E = TypeVar("_E")


class History:
    """All events of a run.

    Args:
        synced: whether the broker promises more than the page cache (``durability: fsync``).
    """

    def __init__(self, *, synced: bool, events: Iterable[Event] = ()) -> None:
        self.synced = synced
        self.events: list[Event] = list(events)

    def of(self, kind: type[_E]) -> Iterator[_E]:
        """Yield the events of one kind."""
        for event in self.events:
            if isinstance(event, kind):
                yield event
