"""Partitions: where batches are appended and read, here or in another process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from megabroker.errors import BrokerError
from megabroker.interfaces.storage import ILog
from megabroker.model import (
    AbortedTransaction,
    Acks,
    BatchHeader,
    ProducerDescription,
    ProducerIdentity,
    ReadResult,
    TimestampedOffset,
    Topic,
    TopicPartition,
    TransactionMarker,
)

__all__ = ["IPartition", "IPartitions", "IRemotePartition"]


class IPartition(Interface):
    """One partition that this node leads: the bounded queue, the log behind it, and who waits on it."""

    is_here: bool = Attribute("True; False for what ``IRemotePartition`` is.")
    topic: Topic = Attribute("The topic.")
    topic_partition: TopicPartition = Attribute("Its name and the partition's number.")
    index: int = Attribute("Partition number.")
    leader_epoch: int = Attribute("The current leader epoch.")
    start_offset: int = Attribute("First readable offset.")
    high_watermark: int = Attribute("Consumers see everything below.")
    last_stable_offset: int = Attribute("read_committed consumers see everything below.")
    needs_keys: bool = Attribute("Whether the topic is compacted, so that every record needs a key.")
    codec: tuple[int, int | None] | None = Attribute(
        "Number and level of the codec that batches are stored in; None for their producers'."
    )
    policy: Any = Attribute("What the topic's configuration means, ``core.topic_configs.TopicPolicy``.")
    append_time_ms: int = Attribute("Time given to the last appended batch; -1 under CreateTime.")
    log: ILog = Attribute("The log; for reading by time and for sizes.")
    fetched_bytes: int = Attribute("Records that were fetched; whoever sends them counts them.")

    def has_room(messages: int, size_bytes: int) -> bool:
        """Whether a batch fits the queue now. An empty queue has room for any one batch."""

    def when_room(callback: Callable[[], None]) -> None:
        """Call back once, in order of asking, when the queue has drained (or the partition is closed)."""

    def append(
        header: BatchHeader,
        data: bytearray | memoryview,
        acks: Acks,
        done: Callable[[BrokerError | None], None] | None,
    ) -> int:
        """Accept one batch. The caller has asked ``has_room`` first.

        Args:
            header: the parsed header, CRC already checked.
            data: the batch, writable; not to be touched again.
            acks: what ``done`` waits for.
            done: called once, never before this returns: None, or why the batch was not stored.
                May be None with ``Acks.NONE``.

        Returns:
            The base offset; for a repeat of an idempotent batch the original one.

        Raises:
            RequestError, StateError, StorageError: refused; ``done`` is not called.
        """

    def when_durable(end_offset: int, done: Callable[[BrokerError | None], None]) -> None:
        """Wait for more than ``append`` was told to: until all below ``end_offset`` is durable.

        To be asked in the turn of the ``append`` that gave the offset. ``done`` is called as that of an
        append with ``Acks.DURABLE``, and after that of the append.
        """

    def read(
        offset: int, max_bytes: int, *, committed: bool = False, cached_only: bool = False
    ) -> ReadResult:
        """Read batches below the high watermark (or last stable offset). Raises as ``ILog.read``."""

    def append_marker(marker: TransactionMarker, done: Callable[[BrokerError | None], None]) -> int:
        """End a producer's transaction here by a control batch; ``done`` is called when it is durable.

        Returns:
            The marker's offset.

        Raises:
            StateError: INVALID_PRODUCER_EPOCH when the marker's epoch is older than the producer's.
            StorageError: the log does not take it.
        """

    def delete_records(before_offset: int) -> int:
        """Make everything below an offset unreadable.

        Returns:
            The first offset readable then; it may be higher than asked for.

        Raises:
            RequestError: OFFSET_OUT_OF_RANGE when not within 0 and the high watermark.
            StateError: the partition is closed.
        """

    def aborted_transactions(from_offset: int, to_offset: int) -> Sequence[AbortedTransaction]:
        """Return the aborted transactions with records in a range, by their first offsets."""

    def open_transactions() -> Sequence[ProducerIdentity]:
        """Return the producers whose transactions have begun here and have no marker yet."""

    def remembers(producer_id: int) -> bool:
        """Whether anything is known of a producer here."""

    def is_repeat(header: BatchHeader) -> bool:
        """Whether a batch is one that is here already; of a transaction, of the one that is open."""

    def describe_producers() -> Sequence[ProducerDescription]:
        """Return every producer this partition remembers."""

    def describe_producer(producer_id: int) -> ProducerDescription | None:
        """Return one of them, or None."""

    def watch(callback: Callable[[], None]) -> Callable[[], None]:
        """Call back whenever the high watermark advances, a write failed or the partition closes.

        Returns:
            What ends the watch.
        """

    def watch_as(key: object, callback: Callable[[], None]) -> None:
        """Do the same until ``unwatch``, for who watches many partitions; a key has one callback."""

    def unwatch(key: object) -> None:
        """End the watch of a key, if there is one."""


class IRemotePartition(IPartition):
    """A partition that another process of this broker leads.

    What is said of offsets is what the leader said last. ``read`` raises Cold for what has to be fetched, and
    what it returns has a third part, the aborted transactions in it. ``append`` cannot return an offset; what
    it acknowledges is durable. All that is a leader's own business raises NOT_LEADER.
    """

    def send(
        header: BatchHeader,
        data: bytearray | memoryview,
        acks: Acks,
        stored: Callable[[int, BrokerError | None], None],
    ) -> None:
        """Append, and hear of the offset.

        Args:
            stored: called once and later, in the order of the calls: the base offset and None; or -1 and why
                the batch was not stored, which with PeerError may not be known.
        """

    def look(looked: Callable[[BrokerError | None], None]) -> None:
        """Ask the leader how far the partition is; call back once, when that is in the attributes."""

    def find(timestamp_ms: int) -> Deferred[TimestampedOffset | None]:
        """Ask the leader for the first record at or after a time; fails with BrokerError."""

    def delete_records_there(before_offset: int) -> Deferred[int]:
        """Have the leader make everything below an offset unreadable; as ``delete_records``."""


class IPartitions(Interface):
    """The partitions of all topics, for wires whose clients do not know who leads what."""

    def partition(topic: str, index: int) -> IPartition:
        """Return a partition, an ``IRemotePartition`` if another process leads it.

        Raises:
            RequestError: UNKNOWN_TOPIC or UNKNOWN_PARTITION.
            StorageError: its log is out of order.
        """
