"""Every zope Interface of the broker: the seams along which it can be extended.

Owns the contracts between floors. Protocols speak to ``IBroker``; the core speaks to ``ILogStore``,
``IMetadataStore``, ``IWindowStore`` and ``IPlacement``; third parties provide ``IProtocolPlugin``.
Unless a docstring says otherwise, everything here is called in, and calls back in, the reactor thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence, Set
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from zope.interface import Attribute, Interface

from megabroker.access import Acl, AclFilter, Operation, ResourceType
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import (
    AbortedTransaction,
    AcknowledgementBatch,
    Acks,
    AcquiredRecords,
    BatchHeader,
    Change,
    CommittedOffset,
    ConsumerGroupDescription,
    ConsumerHeartbeat,
    ConsumerHeartbeatAnswer,
    ConsumerMember,
    GroupDescription,
    GroupSummary,
    JoinedGroup,
    JoinRequest,
    LeavingMember,
    Listener,
    LogSettings,
    LogSpan,
    Node,
    Principal,
    ProducerDescription,
    ProducerIdentity,
    ProducerSnapshot,
    QuotaChange,
    QuotaEntity,
    ReadResult,
    RunRoom,
    ScramChange,
    ScramCredential,
    ShareGroupDescription,
    ShareHeartbeat,
    SharePartitionOffset,
    Subscription,
    SyncedGroup,
    SyncRequest,
    TimestampedOffset,
    Topic,
    TopicPartition,
    TransactionDescription,
    TransactionMarker,
)
from megabroker.streams import StreamsAnswer, StreamsGroupDescription, StreamsHeartbeat

__all__ = [
    "IAuthentication",
    "IAuthorizer",
    "IBroker",
    "IBrokerConfigs",
    "IClientMetrics",
    "IConsumerMetadata",
    "ICredentials",
    "IDedup",
    "IErrands",
    "IGroupService",
    "ILog",
    "ILogListener",
    "ILogStore",
    "ILoggers",
    "IManagedFactory",
    "IMetadataStore",
    "IMetrics",
    "IPartition",
    "IPartitions",
    "IPeers",
    "IPlacement",
    "IProducerState",
    "IProtocolPlugin",
    "IPublisher",
    "IPublishers",
    "IRemotePartition",
    "IRun",
    "IShareConsumer",
    "ISharePeers",
    "IShareService",
    "ITakesRuns",
    "ITopicService",
    "ITransactionPeers",
    "ITransactionService",
    "IWindowStore",
]


# --- storage, as the core sees it ---------------------------------------------------------------


class ILogListener(Interface):
    """Told by a log how far its writing has come; called at most once per log and reactor turn."""

    def progressed(written_offset: int, durable_offset: int) -> None:
        """Everything below ``written_offset`` is in the file, below ``durable_offset`` on the disk."""

    def failed(from_offset: int, error: BrokerError) -> None:
        """Everything accepted from ``from_offset`` on was not written and its offsets are free again.

        The log has already gone back: its ``next_offset`` equals ``from_offset``.
        """


class IProducerState(Interface):
    """Producer state of one partition, derived from its log and kept beside it."""

    def replay(header: BatchHeader, marker: TransactionMarker | None = None) -> None:
        """Take note of a batch found in the log during recovery, in offset order. Any thread.

        Args:
            marker: what the batch says, if it is the end of a transaction.
        """

    def restore(snapshot: Sequence[ProducerSnapshot]) -> None:
        """Begin from a stored snapshot. Any thread."""

    def snapshot() -> Sequence[ProducerSnapshot]:
        """Return the state after the last accepted batch."""

    def first_unstable_offset() -> int:
        """Return where the earliest undecided transaction begins; beyond every offset if there is none."""


class ILog(Interface):
    """One partition's log: record batches v2 in offset order, written behind and read in place.

    Append has two stages. *Ordered*: ``append`` fixes the offset and returns. *Durable*: the listener
    hears that the bytes are in the file, then that they are on the disk. Knows nothing of topics'
    meaning, of groups or of who may read.
    """

    start_offset: int = Attribute("First offset still readable.")
    next_offset: int = Attribute("Offset the next accepted record gets.")
    written_offset: int = Attribute("Everything below is in the file.")
    durable_offset: int = Attribute("Everything below is on the disk.")
    pending_bytes: int = Attribute("Bytes accepted and not yet written.")
    size_bytes: int = Attribute("Bytes accepted and not deleted, all segments.")
    appended_batches: int = Attribute("Batches written since it was opened.")
    removed_bytes: int = Attribute("Bytes deleted since it was opened, by retention, compaction and request.")
    settings: LogSettings = Attribute("How the log is kept; assign to change it.")
    place: str = Attribute("The data directory it is in, as an absolute path; empty if it is in none.")

    def append(
        header: BatchHeader, data: bytearray | memoryview, leader_epoch: int, append_time_ms: int | None
    ) -> int:
        """Accept one batch, stamp base offset and leader epoch into ``data``, queue it for writing.

        Args:
            header: the parsed header of ``data``; CRC and bounds are already checked by the caller.
            data: the whole batch, writable; the log keeps it, the caller must not touch it again.
            append_time_ms: when set, the batch is re-stamped as LogAppendTime with this time.

        Returns:
            The batch's base offset. Never waits and never calls the listener before returning.

        Raises:
            StorageError: the log is closed, deleted or failed.
        """

    def append_run(run: IRun, leader_epoch: int) -> int:
        """Accept all batches of a run, which are of no idempotent producers; as ``append``."""

    def append_marker(
        marker: TransactionMarker, leader_epoch: int, now_ms: int, first_offset: int, stable_offset: int
    ) -> int:
        """Accept the control batch that ends a transaction; as ``append``.

        Args:
            first_offset: where the transaction it ends began in this log, or -1.
            stable_offset: where the earliest other open transaction began, or -1.
        """

    def aborted(from_offset: int, to_offset: int) -> Sequence[AbortedTransaction]:
        """Return the aborted transactions with records in a range, by their first offsets."""

    def end_of(result: ReadResult, *, cached_only: bool = False) -> int:
        """Return an offset that everything ``read`` has just returned lies below, and not much else.

        Raises:
            StorageError: the file could not be read.
            Cold: with ``cached_only``, as ``read`` raises it.
        """

    def read(offset: int, max_bytes: int, end_offset: int, *, cached_only: bool = False) -> ReadResult:
        """Return batches from the one holding ``offset`` (or the next, after a hole) to ``end_offset``.

        The first batch is returned whole even when larger than ``max_bytes``. Never returns a batch that
        begins at or beyond ``end_offset``, nor one not yet written.

        Raises:
            RequestError: OFFSET_OUT_OF_RANGE when outside [start_offset, written_offset].
            StorageError: the file could not be read.
            Cold: with ``cached_only``, this would have waited for the disk. What was missing is being read;
                whether a ``FileRange`` is in memory is for the file to say.
        """

    def offset_for_time(timestamp_ms: int, *, cached_only: bool = False) -> TimestampedOffset | None:
        """Return the first record whose timestamp is at or after ``timestamp_ms``, below written_offset.

        Raises as ``read``.
        """

    def latest_timestamp(*, cached_only: bool = False) -> TimestampedOffset | None:
        """Return the record with the greatest timestamp, or None for an empty log. Raises as ``read``."""

    def epoch_end_offset(leader_epoch: int) -> tuple[int, int]:
        """Return (greatest epoch <= ``leader_epoch``, end offset of it), or (-1, -1) when unknown."""

    def advance_start(offset: int) -> None:
        """Make everything below ``offset`` unreadable; whole segments below it are deleted later."""

    def enforce_retention(now_ms: int) -> int:
        """Roll an over-age segment, drop segments beyond the retention settings; return how many."""

    def flush() -> Deferred[None]:
        """Fire when everything accepted up to now is on the disk; fail with StorageError if not."""


class ILogStore(Interface):
    """All logs of one broker process."""

    def open() -> None:
        """Take the data directory and prepare for ``log``. Blocking, before the reactor serves.

        Raises:
            DataDirectoryLocked: another process holds it.
            StorageError: it cannot be used.
        """

    def log(
        topic: Topic,
        partition: int,
        settings: LogSettings,
        listener: ILogListener,
        producers: IProducerState,
    ) -> ILog:
        """Open the log of one partition, creating or recovering it. Blocking; may run in any one thread.

        Raises:
            StorageError: it cannot be created or read.
        """

    def partitions() -> Iterable[tuple[TopicPartition, UUID | None]]:
        """Yield every partition found in the store, with its topic id where it is known."""

    def delete(topic_partition: TopicPartition) -> Deferred[None]:
        """Close and remove one partition's log; ranges handed out stay readable."""

    def close() -> Deferred[None]:
        """Write and fsync all that was accepted, mark the store cleanly closed, release it."""


class IMetadataStore(Interface):
    """Small rows that must not be lost: topics, group offsets, producer-id blocks.

    A row is (table, key, JSON-like value). State is read once, at start; after that the services' own
    memory is the truth and the store only follows. Of several processes each is so with the rows that it
    writes, and reads those of another again when that one says so.
    """

    def open() -> None:
        """Open, creating if need be. Blocking. Raises StorageError."""

    def rows(table: str, keys: Collection[str] | None = None) -> Mapping[str, Any]:
        """Return all rows of a table, or those of them with ``keys``. Blocking."""

    def write(changes: Sequence[Change]) -> Deferred[None]:
        """Apply all of ``changes`` atomically, in call order; fire when committed.

        Calls of one reactor turn are committed together, off the reactor thread. Fails with StorageError.
        """

    def advance(table: str, key: str, count: int) -> Deferred[int]:
        """Raise the number in a row, 0 where there is none; fire when committed, with what it was.

        No process that does so gets what another has got. In order with ``write``; fails with StorageError.
        """

    def close() -> Deferred[None]:
        """Commit what is pending and close."""


class IWindowStore(Interface):
    """Keeps the deduplication window over a restart: a journal of (scope, id, time)."""

    def load(since_ms: int) -> Iterable[tuple[int, int, int]]:
        """Yield (scope, message id, time in ms) of entries not older than ``since_ms``. Blocking."""

    def append(entries: Sequence[tuple[int, int, int]]) -> None:
        """Add entries; they survive kill -9 once this returns. Raises StorageError."""

    def expire(before_ms: int) -> None:
        """Forget entries older than ``before_ms``, at the store's own granularity."""

    def close() -> None:
        """Release files."""


# --- the core, as protocols see it --------------------------------------------------------------


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


class IRun(Interface):
    """Batches in a row, of several requests, that go to one partition together.

    Call it with None when all are stored, or with the error why they are not.
    """

    records = Attribute("How many records there are in all batches.")
    requests = Attribute("How many requests there are, each with a batch.")
    size_bytes = Attribute("How long all batches are.")
    received_bytes = Attribute("How long all requests are, their sizes included.")
    sent_bytes = Attribute("How much of their answers has been sent past what counts the rest.")
    began = Attribute("When the turn that brought them did; for whoever appends them.")
    data = Attribute("The batches, writable; whoever keeps it calls ``given``.")
    connections = Attribute("Who is to be answered.")

    def __call__(error: BrokerError | None) -> None:
        """Answer."""

    def stamp(base_offset: int, leader_epoch: int) -> None:
        """Write offsets, from ``base_offset`` on, and the leader epoch into all batches."""

    def note(segment: Any, position: int, interval: int) -> None:
        """Have a segment note all batches, of which the first is at ``position``, one after the other."""

    def sizes() -> Sequence[int]:
        """Return how long each batch is."""

    def given() -> None:
        """Say that ``data`` is somebody else's now."""


class ITakesRuns(Interface):
    """A partition that takes many batches in one call."""

    def open_run(acks: Acks) -> RunRoom | None:
        """Say what a run may hold if it is appended before anything else is.

        Returns:
            None where batches must come one by one, because they have to be looked at, or refused, or others
            wait for room.
        """

    def append_run(run: IRun, acks: Acks) -> None:
        """Accept all of a run, whose batches are of no idempotent producers.

        Raises:
            StateError, StorageError: refused; the run is not called.
        """


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


class IPublisher(Interface):
    """Takes messages whose ids another process decides about; satisfies ``Room``."""

    has_room: bool = Attribute("Whether a message may be published now.")

    def when_room(callback: Callable[[], None]) -> None:
        """Call back once when there is room."""

    def publish(
        topic: str,
        message_id: int,
        data: bytes,
        acks: Acks,
        outcome: Callable[[BrokerError | None], None],
    ) -> None:
        """Have a message stored unless its id is known.

        Args:
            acks: what the outcome waits for; not ``Acks.NONE``.
            outcome: called once and later, in the order of the calls, with None or an error; PeerError says
                that it may be stored all the same.
        """


class IPublishers(Interface):
    """Who decides whether a message's id is new: exactly one process for all ids of a topic."""

    def elsewhere(topic: str) -> IPublisher | None:
        """Return who takes the topic's messages; None if this process decides."""


class ITopicService(IPartitions):
    """All topics."""

    def get(name: str) -> Topic | None:
        """Return a topic by name."""

    def get_by_id(topic_id: UUID) -> Topic | None:
        """Return a topic by id."""

    def deleted_lately(name: str) -> bool:
        """Whether a topic of this name was deleted so lately that some may still look for it to be gone."""

    def all() -> Sequence[Topic]:
        """Return every topic, by name."""

    def partition(topic: str, index: int) -> IPartition:
        """Return a partition that this node leads.

        Raises:
            RequestError: UNKNOWN_TOPIC or UNKNOWN_PARTITION.
            StateError: NOT_LEADER.
            StorageError: its log is out of order.
        """

    def led(topic: str) -> Sequence[IPartition | None]:
        """Return the partitions of a topic by number, None where another node leads or the log is out of
        order.

        The sequence is shared and kept up: once the topic is changed or deleted it has no partitions more,
        and is to be asked for anew.
        """

    def validate(name: str, partitions: int, configs: Mapping[str, str | None]) -> None:
        """Raise RequestError or StateError if ``create`` would refuse."""

    def create(
        name: str, partitions: int, configs: Mapping[str, str | None] | None = None
    ) -> Deferred[Topic]:
        """Create a topic; fire when it is stored and its partitions serve.

        Fails with RequestError (INVALID_TOPIC, INVALID_PARTITIONS, INVALID_CONFIG), StateError (TOPIC_EXISTS,
        TOPIC_LIMIT) or StorageError.
        """

    def check_truncation(name: str) -> None:
        """Raise RequestError unless records of a topic may be deleted by their offsets.

        UNKNOWN_TOPIC, INVALID_TOPIC for the broker's own, POLICY_VIOLATION for one that is only compacted.
        """

    def check_growth(name: str, total: int) -> int:
        """Return how many partitions ``create_partitions`` would add; raise as it fails."""

    def create_partitions(name: str, total: int) -> Deferred[Topic]:
        """Grow a topic to ``total`` partitions; fails with INVALID_PARTITIONS when that is no growth."""

    def delete(name: str) -> Deferred[None]:
        """Delete a topic and its data; fails with UNKNOWN_TOPIC."""

    def set_configs(name: str, configs: Mapping[str, str]) -> Deferred[Topic]:
        """Replace what is set on a topic; fails with UNKNOWN_TOPIC or INVALID_CONFIG."""

    configs: Any = Attribute(
        "The table of topic configurations with this broker's defaults, "
        "``megabroker.core.topic_configs.TopicConfigs``."
    )

    def config(name: str, key: str) -> str:
        """Return one effective topic configuration value by Kafka's name, defaults included."""


class IConsumerMetadata(Interface):
    """Reads and writes what consumers put into the opaque bytes of classic groups. Never raises."""

    def read_subscription(metadata: bytes) -> Subscription | None:
        """Read what a member joined with; None when that cannot be told."""

    def read_assignment(assignment: bytes) -> Mapping[str, frozenset[int]] | None:
        """Read the partitions by topic that a member was assigned; None when that cannot be told."""

    def write_assignment(version: int, partitions: Mapping[str, frozenset[int]]) -> bytes:
        """Write what a member is assigned, in a version it can read."""


class IGroupService(Interface):
    """Consumer groups of both protocols and their committed offsets, for those this node coordinates."""

    consumer_metadata: IConsumerMetadata | None = Attribute(
        "Reads and writes what consumers say in classic groups; a wire sets it. Without it no group changes "
        "its protocol while it has members."
    )
    is_share: Callable[[str], bool] = Attribute("Whether a share group has a name, which is then not free.")

    def __contains__(group_id: str) -> bool:
        """Whether there is such a group, with members or with offsets only."""

    subscribed_topics: Callable[[str, bytes], Set[str] | None] | None = Attribute(
        "Reads the topics out of a member's subscription (protocol type, metadata); a wire sets it."
    )

    def join(request: JoinRequest) -> Deferred[JoinedGroup]:
        """Join or rejoin; fires when the rebalance is complete.

        Fails with StateError or RequestError: MEMBER_ID_REQUIRED and FENCED_INSTANCE among them. The error of
        MEMBER_ID_REQUIRED carries the new id as its attribute ``member_id``.
        """

    def sync(request: SyncRequest) -> Deferred[SyncedGroup]:
        """Fetch the assignment; fires when the leader has brought it. Fails with BrokerError."""

    def heartbeat(group_id: str, generation: int, member_id: str, instance_id: str | None) -> None:
        """Keep a session alive. Raises BrokerError (REBALANCE_IN_PROGRESS included)."""

    def leave(group_id: str, members: Sequence[LeavingMember]) -> Sequence[BrokerError | None]:
        """Remove members; one outcome each. Raises BrokerError for the group as a whole."""

    def commit(
        group_id: str,
        generation: int,
        member_id: str,
        instance_id: str | None,
        offsets: Mapping[TopicPartition, CommittedOffset],
    ) -> Deferred[Mapping[TopicPartition, ErrorCode | None]]:
        """Store offsets; fires when they are on disk. Fails with BrokerError for the group as a whole.

        A generation below 0 with an empty member id is a commit from outside the group protocol.
        """

    def committed(
        group_id: str, partitions: Iterable[TopicPartition] | None
    ) -> Mapping[TopicPartition, CommittedOffset]:
        """Return the committed offsets asked for (all, with None); partitions without one are absent."""

    def check_member(group_id: str, member_id: str, member_epoch: int) -> None:
        """Raise BrokerError unless this member may read the group's offsets (OffsetFetch v9+)."""

    def consumer_heartbeat(request: ConsumerHeartbeat) -> Deferred[ConsumerHeartbeatAnswer]:
        """Join, stay in or leave a group of the consumer protocol (KIP-848); fires when that is stored.

        Fails with BrokerError: FENCED_MEMBER_EPOCH, UNKNOWN_MEMBER, UNRELEASED_INSTANCE, FENCED_INSTANCE,
        UNSUPPORTED_ASSIGNOR, INVALID_PATTERN, GROUP_FULL and GROUP_NOT_FOUND among them.
        """

    def streams_heartbeat(request: StreamsHeartbeat) -> Deferred[StreamsAnswer]:
        """Join, stay in or leave a streams group (KIP-1071); fires when that is stored.

        Fails with BrokerError: FENCED_MEMBER_EPOCH, UNKNOWN_MEMBER, STREAMS_INVALID_TOPOLOGY,
        INVALID_REQUEST, GROUP_FULL and GROUP_NOT_FOUND among them.
        """

    def describe(group_id: str) -> GroupDescription:
        """Describe one classic group."""

    def describe_consumers(group_id: str) -> ConsumerGroupDescription:
        """Describe one group of the consumer protocol. Raises BrokerError (GROUP_NOT_FOUND)."""

    def consumer_member(group_id: str, member_id: str) -> ConsumerMember | None:
        """Return one member of a group of the consumer protocol. Raises BrokerError (GROUP_NOT_FOUND)."""

    def describe_streams(group_id: str) -> StreamsGroupDescription:
        """Describe one streams group. Raises BrokerError (GROUP_NOT_FOUND)."""

    def all() -> Sequence[GroupSummary]:
        """List every group."""

    def delete(group_id: str) -> Deferred[None]:
        """Delete an empty group and its offsets. Fails with GROUP_NOT_FOUND or GROUP_NOT_EMPTY."""

    def delete_offsets(
        group_id: str, partitions: Sequence[TopicPartition]
    ) -> Deferred[Mapping[TopicPartition, ErrorCode | None]]:
        """Delete offsets of partitions nobody in the group is subscribed to."""

    def topic_deleted(topic: str) -> None:
        """Forget the offsets of a topic."""


class IShareConsumer(Interface):
    """A member of a share group in one partition, for wires that read records one by one.

    The member reads the log from ``next_offset`` on, tells what it found, and is told what of it is its own:

        offset = consumer.next_offset()
        ...                                  # RecordReader gives the records from there on
        consumer.acquire(offset, spans, 100)
    """

    def next_offset() -> int | None:
        """Return from where records can be had, which the log need not have yet; None if nowhere now.

        Raises:
            StateError: TOPIC_LIMIT, groups consume too many partitions.
        """

    def acquire(from_offset: int, spans: Sequence[LogSpan], max_records: int) -> Sequence[AcquiredRecords]:
        """Make records the member's, for as long as the group's configuration says.

        Args:
            from_offset: what ``next_offset`` gave, in the same turn.
            spans: the records found from there on, in order; what lies between them is never delivered.

        Returns:
            What of them is the member's now, ``max_records`` at most, and how often it was delivered.
        """

    def acknowledge(batches: Sequence[AcknowledgementBatch]) -> Deferred[None]:
        """Say what has become of records, all or none; fires when that is stored.

        Fails with RequestError, or StateError (INVALID_RECORD_STATE: they are not the member's any more).
        """

    def close() -> None:
        """Give back what the member still has, and be called back no more."""


class IShareService(Interface):
    """Share groups (KIP-932), for those this node coordinates, and what they have acquired here."""

    configs: Any = Attribute("Configurations of all groups: ``megabroker.core.groups.configs``.")
    partitions: Any = Attribute("Records in flight: ``megabroker.core.shares.partitions``.")
    sessions: Any = Attribute("Share sessions: ``megabroker.core.shares.sessions``.")

    def __contains__(group_id: str) -> bool:
        """Whether there is such a group, with members or with offsets only."""

    def check_name(group_id: str) -> None:
        """Raise StateError (GROUP_NOT_FOUND) if a group of another kind has this name."""

    def heartbeat(request: ShareHeartbeat) -> Deferred[ConsumerHeartbeatAnswer]:
        """Join, stay in or leave a share group; fires when that is stored.

        Fails with BrokerError: UNKNOWN_MEMBER, FENCED_MEMBER_EPOCH, GROUP_FULL, GROUP_NOT_FOUND (which a
        group of another kind is too) among them.
        """

    def consumer(
        group_id: str, member_id: str, partition: IPartition, callback: Callable[[], None]
    ) -> IShareConsumer:
        """Return a member's share of a partition led here, for wires without share sessions.

        A group that has consumed nothing of the partition begins where its log does. Such members are not
        among those that the group is described with.

        Args:
            callback: called whenever there may be more to be had.

        Raises:
            StateError: NOT_LEADER; GROUP_NOT_FOUND, a group of another kind has the name.
        """

    def end_session(group_id: str, member_id: str) -> Any | None:
        """End a member's share session and take back what it has acquired; return the session, if any."""

    def connection_closed(owner: object) -> None:
        """End the share sessions of a connection and take back what their members have acquired."""

    def vouched(group_id: str) -> Deferred[None] | None:
        """Say whether there is such a group, if that is not known here.

        Returns:
            None where it is; else what fires when the coordinator knows it, and fails with GROUP_NOT_FOUND.
        """

    def offsets(
        group_id: str, places: Sequence[tuple[UUID, int]] | None
    ) -> Deferred[Mapping[tuple[UUID, int], SharePartitionOffset]]:
        """Say how far a group is in partitions, (topic id, number) each; with None in all it consumes."""

    def asked_by_leader(group_id: str) -> None:
        """Take note that another leader keeps something of a group. Raises StateError(GROUP_NOT_FOUND)."""

    def number(group_id: str, number: int) -> int:
        """Take note of the number of a change the coordinator asks for; return the highest of the group."""

    def gone(group_id: str) -> None:
        """Forget that there is such a group; its coordinator has deleted it."""

    def describe(group_id: str) -> ShareGroupDescription:
        """Describe one group. Raises BrokerError (GROUP_NOT_FOUND)."""

    def all() -> Sequence[GroupSummary]:
        """List every share group."""

    def delete(group_id: str) -> Deferred[None]:
        """Delete a group without members and all that is known of it.

        Fails with GROUP_NOT_FOUND or GROUP_NOT_EMPTY.
        """

    def set_offsets(group_id: str, offsets: Mapping[TopicPartition, int]) -> Deferred[None]:
        """Have a group without members, new perhaps, begin at other offsets; fires when that is stored."""

    def delete_offsets(group_id: str, topics: Iterable[str]) -> Deferred[Mapping[str, ErrorCode | None]]:
        """Forget how far a group without members is in topics; UNKNOWN_TOPIC where nothing is known."""

    def topic_deleted(topic: str) -> None:
        """Forget what groups have acquired of a topic."""


class ITransactionService(Interface):
    """Transactions of the producers whose transactional ids this node coordinates, and producer ids.

    A failed Deferred carries a BrokerError: INVALID_TXN_STATE, PRODUCER_FENCED, INVALID_PRODUCER_EPOCH,
    INVALID_PRODUCER_ID, CONCURRENT_TRANSACTIONS, INVALID_TXN_TIMEOUT, COORDINATOR_LOADING among them.
    """

    coordinator_epoch: int = Attribute("What every transaction marker made here carries.")
    marker_generation: int = Attribute(
        "The highest generation of another process's requests with markers that was carried out here."
    )

    def init_producer(
        transactional_id: str | None, timeout_ms: int, known: ProducerIdentity | None
    ) -> Deferred[ProducerIdentity]:
        """Give a producer its identity, fence those before it and abort what they left open.

        Args:
            known: what the producer believes it is, to be continued with a higher epoch (KIP-360).
        """

    def add_partitions(
        transactional_id: str,
        identity: ProducerIdentity,
        partitions: Sequence[TopicPartition],
        *,
        verify_only: bool = False,
    ) -> Deferred[Mapping[TopicPartition, ErrorCode | None]]:
        """Add partitions to the open transaction, beginning it; fires when that is stored."""

    def admit(
        transactional_id: str, identity: ProducerIdentity, partition: TopicPartition, *, implicit: bool
    ) -> Any | None:
        """Ask whether transactional batches may be appended now (KIP-890).

        Args:
            implicit: whether the partition is to be added if it is not part of the transaction yet.

        Returns:
            None when they may; else something with ``when_room(callback)`` that says when to ask again.

        Raises:
            StateError: they may not.
        """

    def add_offsets(transactional_id: str, identity: ProducerIdentity, group_id: str) -> Deferred[None]:
        """Make a group's offsets part of the open transaction."""

    def commit_offsets(
        transactional_id: str,
        identity: ProducerIdentity,
        group_id: str,
        generation: int,
        member_id: str,
        instance_id: str | None,
        offsets: Mapping[TopicPartition, CommittedOffset],
        *,
        implicit: bool = False,
    ) -> Deferred[Mapping[TopicPartition, ErrorCode | None]]:
        """Keep offsets to be committed with the transaction; fires when they are stored."""

    def end(
        transactional_id: str, identity: ProducerIdentity, commit: bool, *, bump_epoch: bool
    ) -> Deferred[ProducerIdentity]:
        """Commit or abort; fires when the outcome is certain, with the identity to go on with."""

    def abort(transactional_id: str) -> Deferred[None]:
        """Abort an open transaction for its producer, which is fenced; fires when that is certain.

        Fails with INVALID_TXN_STATE where none is open, and with TRANSACTIONAL_ID_NOT_FOUND.
        """

    def ending(partition: TopicPartition, producer_id: int) -> None:
        """Take note that a marker for a producer is about to be appended to a partition led here."""

    def unexplained(
        open_transactions: Sequence[tuple[TopicPartition, ProducerIdentity]],
    ) -> Sequence[tuple[TopicPartition, ProducerIdentity]]:
        """Return which of what is open in partitions is part of no transaction; nobody will end it.

        Raises:
            StateError: NOT_COORDINATOR.
        """

    def describe(transactional_id: str) -> TransactionDescription | None:
        """Describe one transactional id, or None."""

    def all() -> Sequence[TransactionDescription]:
        """Describe every transactional id."""


class IDedup(Interface):
    """The 30-minute window of message ids already stored."""

    def seen(topic: str, message_id: int) -> bool:
        """Whether the id was confirmed for this scope within the window."""

    def claim(topic: str, message_id: int, outcome: Callable[[BrokerError | None], None]) -> bool:
        """Claim an id for storing.

        Returns:
            True: store the message, then call ``confirm`` or ``release`` once, whatever becomes of the
            client. ``outcome`` is not called.
            False: it is stored already, or somebody is storing it; ``outcome`` is called with the result,
            at once or later.
        """

    def acknowledge(topic: str, message_ids: Sequence[int]) -> None:
        """The claimed messages may be answered for, and may yet be lost: tell who waits and who comes.

        Still claimed: ``confirm`` or ``release`` follows.
        """

    def confirm(
        topic: str, message_ids: Sequence[int], done: Callable[[BrokerError | None], None] | None = None
    ) -> None:
        """The claimed messages are as durable as the broker promises: remember them for the window.

        ``done``, like everybody who waits for one of them, is called with None when that survives kill -9.
        """

    def release(topic: str, message_ids: Sequence[int], error: BrokerError) -> None:
        """The claimed messages are not stored, or no more: the next one may claim them."""


class IPlacement(Interface):
    """Which node does what; the answer of a single process is always "me"."""

    me: Node = Attribute("This node.")

    def nodes() -> Sequence[Node]:
        """Return every live node."""

    def controller() -> Node:
        """Return the node that takes topic changes."""

    def leader(topic_partition: TopicPartition) -> Node:
        """Return the node that leads a partition."""

    def coordinator(key: str) -> Node:
        """Return the node that coordinates a group or transactional id."""


class IPeers(Interface):
    """The other processes of this broker, asked in the protocol of Apache Kafka; messages are its wire's."""

    def ask(
        node_id: int,
        key: int,
        version: int,
        request: Any,
        *,
        timeout_seconds: float = 30.0,
        repeat: bool = False,
        for_client: bool = False,
    ) -> Deferred[Any]:
        """Send a request message; fire with the response message.

        Requests that wait at the same time overtake each other. Cancelling is allowed.

        Args:
            key: the API key; ``version`` that of request and answer.
            repeat: send it again if the connection is lost before the answer, which a request must bear; a
                few times, as what ends every connection might be the request.
            for_client: have it wait with what clients want done, and not before what processes need.

        Fails with PeerError (UNREACHABLE, TIMED_OUT), StateError (OVERLOADED) or ProtocolError.
        """

    def errand(node_id: int, wire: str, errand: bytes) -> Deferred[bytes]:
        """Have a wire of another process carry something out; see ``IErrands``. Fails with BrokerError."""


class IErrands(Interface):
    """What a wire carries out for the same wire of other processes, in words of its own."""

    def serve(errand: bytes) -> Awaitable[bytes]:
        """Carry something out; the result is what the other process gets.

        Raises:
            BrokerError: it cannot be.
        """


class ITransactionPeers(Interface):
    """What transactions need of the other processes of this broker: their coordinator, or their leaders."""

    def add_partitions(
        transactional_id: str,
        identity: ProducerIdentity,
        partitions: Sequence[TopicPartition],
        *,
        verify_only: bool,
    ) -> Deferred[Mapping[TopicPartition, ErrorCode | None]]:
        """Ask the coordinator; see ``ITransactionService.add_partitions``. Fails with BrokerError."""

    def unexplained(
        open_transactions: Sequence[tuple[TopicPartition, ProducerIdentity]],
    ) -> Deferred[Sequence[tuple[TopicPartition, ProducerIdentity]]]:
        """Ask the coordinator which of these are part of no transaction. Fails with BrokerError."""

    def write_marker(
        marker: TransactionMarker,
        partition: TopicPartition,
        done: Callable[[BrokerError | None], None],
    ) -> None:
        """Have the leader of a partition end a transaction there.

        ``done`` is called once, not at once: None when the marker is durable; the leader's own refusal; or
        PeerError when it did not answer. The marker may then be written, and must be asked for again; no
        earlier asking takes effect after a later one was answered.
        """


class ISharePeers(Interface):
    """What share groups need of the other processes of this broker. A partition is (topic id, number).

    A failed Deferred carries a BrokerError, PeerError among them: it may then be done in part.
    """

    def leads(place: tuple[UUID, int]) -> bool:
        """Whether this process leads a partition, or nobody does because its topic is not known."""

    def vouch(group_id: str) -> Deferred[None]:
        """Ask the coordinator whether there is such a share group; fails with GROUP_NOT_FOUND."""

    def offsets(
        group_id: str, places: Sequence[tuple[UUID, int]] | None
    ) -> Deferred[Mapping[tuple[UUID, int], SharePartitionOffset]]:
        """Ask the other leaders how far a group is in partitions of theirs; None for all it consumes."""

    def begin_at(group_id: str, offsets: Mapping[tuple[UUID, int], int]) -> Deferred[None]:
        """Have the other leaders begin a group anew in partitions of theirs; fires when that is stored."""

    def forget(group_id: str, places: Sequence[tuple[UUID, int]] | None) -> Deferred[None]:
        """Have the other leaders forget partitions; None for all, and the group with them."""


class ILoggers(Interface):
    """The levels of the log while it runs; levels are names of ``twisted.logger.LogLevel``."""

    def levels() -> Mapping[str, str]:
        """Return every logger there is, the empty name being all, and the level in force for it."""

    def set(level: str | None, name: str = "") -> None:
        """Have events of ``level`` and above written; None goes back to what holds for all."""


class IMetrics(Interface):
    """The numbers of this process, as Prometheus reads them."""

    def render(accept: str) -> Deferred[tuple[str, bytes]]:
        """Fire with the content type and the text of all metrics.

        Args:
            accept: the Accept header's value, empty if there is none: OpenMetrics for who asks for it.
        """


class IBrokerConfigs(Interface):
    """Configurations of brokers that can be changed while they run (KIP-226), by Kafka's names."""

    file: Any = Attribute("What the configuration file says, ``megabroker.config.schema.Config``.")
    loggers: ILoggers = Attribute("The levels of the log.")

    def dynamic(*, for_all: bool) -> Mapping[str, str]:
        """Return what is set for all brokers, or for this one."""

    def validate(configs: Mapping[str, str], *, for_all: bool) -> None:
        """Raise RequestError(INVALID_REQUEST) unless all of it can be set."""

    def set(configs: Mapping[str, str], *, for_all: bool) -> Deferred[None]:
        """Replace what is set; fires when it is stored and in force. Fails with BrokerError."""


class IClientMetrics(Interface):
    """Subscriptions to the metrics of clients (KIP-714), by name; each has values by Kafka's names."""

    def names() -> Sequence[str]:
        """Return the names of all subscriptions, sorted."""

    def of(name: str) -> Mapping[str, str]:
        """Return what is set; nothing if there is no such subscription."""

    def validate(configs: Mapping[str, str]) -> None:
        """Raise RequestError (INVALID_REQUEST, INVALID_CONFIG) unless all of it can be set."""

    def set(name: str, configs: Mapping[str, str]) -> Deferred[None]:
        """Replace what is set, or remove it with nothing; fires when stored. Fails with BrokerError."""


class ICredentials(Interface):
    """What checks the passwords of users."""

    def users() -> Sequence[str]:
        """Return everyone who has a credential, sorted."""

    def of(user: str) -> Mapping[str, ScramCredential]:
        """Return a user's credentials by mechanism, the SASL name of it; nothing for nobody."""

    def change(changes: Sequence[ScramChange]) -> Deferred[None]:
        """Make all of the changes or none; fires when they are stored. Fails with BrokerError."""


class IAuthentication(Interface):
    """Who clients are; what they say of it, each wire in its own words, is proven here."""

    def begin(mechanism: str) -> Any:
        """Return a new ``megabroker.core.authentication.exchanges.Exchange`` of a SASL mechanism."""

    def step(exchange: Any, message: bytes) -> Deferred[Any]:
        """Take a client's message; fires with a ``Step``. Fails with AuthenticationError, in no hurry."""

    def password(user: str, password: str) -> Deferred[Principal]:
        """Check a password; fires with whose it is. Fails with AuthenticationError, in no hurry."""

    def token(text: str) -> Deferred[Principal]:
        """Check a token of an identity provider; fires and fails as ``password``."""


class IAuthorizer(Interface):
    """Who may do what, by Kafka's access rules. Every wire asks here, and nothing else decides."""

    enabled: bool = Attribute("Whether rules decide; else everybody may do everything.")

    def allowed(
        principal: Principal,
        host: str,
        operation: Operation,
        resource_type: ResourceType,
        name: str,
        *,
        quiet: bool = False,
    ) -> bool:
        """Say whether somebody may do something with one resource.

        Args:
            host: the address the client has.
            quiet: do not put a refusal in the audit log: nothing was refused, something is just not told.
        """

    def allowed_some(
        principal: Principal, host: str, operation: Operation, resource_type: ResourceType
    ) -> bool:
        """Say whether somebody may do something with any resource of a type (KIP-679)."""

    def operations(
        principal: Principal, host: str, resource_type: ResourceType, name: str
    ) -> Collection[Operation]:
        """Return all that somebody may do with one resource."""

    def describe(wanted: AclFilter) -> Sequence[Acl]:
        """Return the rules that are meant."""

    def create(acls: Sequence[Acl]) -> Deferred[Sequence[BrokerError | None]]:
        """Add rules; fires when they are in force, with why each was refused. Fails with StorageError."""

    def delete(filters: Sequence[AclFilter]) -> Deferred[Sequence[Sequence[Acl]]]:
        """Remove rules; fires with those that each filter meant. Fails with BrokerError."""


class IMutations(Interface):
    """The changes of topics that one request makes, counted in partitions (KIP-599)."""

    throttle_ms: int = Attribute("How long the client has to wait now, in milliseconds.")

    def record(partitions: int) -> None:
        """Count what is about to be changed. Raises StateError(OVERLOADED) if it must not be."""


class IMeter(Interface):
    """The quotas that hold for a client.

    What counts something returns for how many milliseconds the client must be heard no more, 0 for not.
    """

    limits_produce: bool = Attribute("Whether a request that produces may have to wait.")
    fetch_bytes: int = Attribute("The most that can be read at once without exceeding the quota at once.")

    def produced(size_bytes: int) -> int:
        """Count a request that produces."""

    def consumed(size_bytes: int) -> int:
        """Count records that are sent in any case."""

    def may_consume(size_bytes: int) -> int:
        """Count records that are not sent if the client has to wait; they are then not counted."""

    def worked(seconds: float) -> int:
        """Count time spent on a request."""

    def mutations(*, strict: bool) -> IMutations | None:
        """Return what counts the changes of a request, or None if they are not limited.

        Args:
            strict: refuse what exceeds the quota, as clients expect who know the error; else they wait.
        """


class IQuotas(Interface):
    """How much clients may use, by user, client id and address; the names are Kafka's."""

    limits_clients: bool = Attribute("Whether there are quotas of users or client ids at all.")
    limits_addresses: bool = Attribute("Whether there are quotas of addresses at all.")
    generation: int = Attribute("Changes whenever a quota is set or removed, and with ``renew``.")

    def renew() -> None:
        """Have everybody look anew who remembers that a client is not limited, or may do something."""

    def all() -> Mapping[QuotaEntity, Mapping[str, float]]:
        """Return what is set."""

    def check(change: QuotaChange) -> None:
        """Raise RequestError(INVALID_REQUEST) unless this can be set."""

    def change(changes: Sequence[QuotaChange]) -> Deferred[None]:
        """Make all of the changes or none; fires when they are stored. Fails with BrokerError."""

    def meter(user: str, client_id: str) -> IMeter | None:
        """Return the quotas that hold for a client, or None; not to be kept beyond a request."""

    def connection_ms(address: str) -> int:
        """Count a connection; return after how many milliseconds it must be closed, 0 if it may stay."""


class IBroker(Interface):
    """What a protocol gets: the whole core, knowing no wire."""

    cluster_id: str = Attribute("Identity of the cluster, 22 characters of base64.")
    topics: ITopicService = Attribute("Topics, and the partitions that this process leads.")
    partitions: IPartitions = Attribute("All partitions; the topics, where this process leads them all.")
    publishers: IPublishers | None = Attribute("Who decides about message ids; None if this process does.")
    groups: IGroupService = Attribute("Consumer groups.")
    shares: IShareService = Attribute("Share groups.")
    transactions: ITransactionService = Attribute("Transactions and producer identities.")
    dedup: IDedup = Attribute("The deduplication window.")
    placement: IPlacement = Attribute("Nodes and who leads what.")
    configs: IBrokerConfigs = Attribute("Configurations that administrators change.")
    client_metrics: IClientMetrics = Attribute("What administrators want to know of clients.")
    credentials: ICredentials = Attribute("What checks the passwords of users.")
    authentication: IAuthentication | None = Attribute("Who clients are; None where nobody asks.")
    authorizer: IAuthorizer = Attribute("Who may do what.")
    audit: Any = Attribute("Where refusals and changes are logged, ``megabroker.core.audit.Audit``.")
    quotas: IQuotas = Attribute("How much clients may use.")
    peers: IPeers | None = Attribute("The other processes of this broker; None if there are none.")
    errands: dict[str, IErrands] = Attribute("What wires carry out for other processes, by the wire's name.")
    following: Any = Attribute("What follows rows that others write, ``megabroker.core.following``.")
    settings: Any = Attribute(
        "The broker's configuration as it is in force, ``megabroker.config.schema.Config``."
    )
    reactor: Any = Attribute("The reactor or clock: time and delayed calls.")
    turns: Any = Attribute(
        "What is done once at the end of a reactor's turn, ``megabroker.net.turns.Turns``."
    )
    admission: Any = Attribute("Shared connection and memory limits, ``megabroker.net.admission.Admission``.")

    def now_ms() -> int:
        """Return the time in epoch milliseconds, from the injected clock."""

    def allocate_producer_id() -> Deferred[int]:
        """Fire with a producer id never given out before."""


# --- plugins -------------------------------------------------------------------------------------


class IProtocolPlugin(Interface):
    """Describes a wire protocol, lazily: nothing is imported until a configuration names it.

    Installed as a module ``megabroker/plugins/<x>_plugin.py`` of any distribution, found by
    ``megabroker.plugin.discover``. ``megabroker.plugin.ProtocolPlugin`` provides it ready made.
    A plugin that never uses Twisted's TLS itself may say so by an attribute ``needs_tls`` that is False. One
    whose clients choose the node they talk to says so by an attribute ``own_ports`` that is True: then each
    of several workers listens on ports of its own, else all of them take the connections of one port.
    """

    name: str = Attribute("The key under ``protocols:`` in the configuration.")
    version: int = Attribute(
        "Version of the interface for plugins that this one is written for; see ``megabroker.plugin``."
    )
    default_endpoint: str = Attribute("Twisted endpoint string used when the configuration names none.")

    def settings_class() -> type[Any]:
        """Return the attrs class of the settings, its fields made with ``megabroker.config.fields``."""

    def factory(broker: IBroker, settings: Any, listener: Listener) -> IProtocolFactory:
        """Return the Twisted factory for one listener."""


class IManagedFactory(IProtocolFactory):
    """A factory whose connections the broker stops in order.

    Also a promise that its protocols run on the broker's own transport (``megabroker.net.transport``).
    Factories without this interface get Twisted's transport, and their connections are closed when the
    ports are.
    """

    def drain(seconds: float) -> Deferred[None]:
        """Take no more requests, answer those taken, close; fire when every connection is gone.

        Connections still there after ``seconds`` are aborted.
        """
