"""Values that cross module boundaries.

Owns the broker's vocabulary as immutable values: topics, batch headers, offsets, nodes, group
membership. No behaviour beyond derived properties, no I/O, no Twisted. Values made once per request
are ``NamedTuple`` (cheapest to make and to hash); the others are frozen attrs classes.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import attrs

from megabroker.errors import BrokerError, Cold

__all__ = [
    "ANONYMOUS",
    "HTTP",
    "NAMED_PRODUCERS",
    "NO_LEADER_EPOCH",
    "NO_PRODUCER",
    "NO_TIMESTAMP",
    "PEER",
    "PEERS",
    "AbortedTransaction",
    "AcknowledgeType",
    "AcknowledgementBatch",
    "Acks",
    "AcquiredRecords",
    "BatchHeader",
    "Buffer",
    "Change",
    "CommittedOffset",
    "ConsumerGroupDescription",
    "ConsumerHeartbeat",
    "ConsumerHeartbeatAnswer",
    "ConsumerMember",
    "Durability",
    "FileRange",
    "GroupDescription",
    "GroupMember",
    "GroupSummary",
    "Header",
    "HostPort",
    "JoinRequest",
    "JoinedGroup",
    "JoinedMember",
    "LeavingMember",
    "Listener",
    "LogSettings",
    "LogSpan",
    "Node",
    "OpenFile",
    "Principal",
    "ProducerDescription",
    "ProducerIdentity",
    "ProducerSnapshot",
    "QuotaChange",
    "QuotaEntity",
    "ReadResult",
    "Record",
    "RunRoom",
    "ScramChange",
    "ScramCredential",
    "ShareGroupDescription",
    "ShareHeartbeat",
    "ShareMemberDescription",
    "SharePartitionOffset",
    "ShareState",
    "ShareStateBatch",
    "Subscription",
    "SyncRequest",
    "SyncedGroup",
    "TimestampType",
    "TimestampedOffset",
    "Topic",
    "TopicAssignment",
    "TopicChange",
    "TopicPartition",
    "TransactionDescription",
    "TransactionMarker",
    "Worker",
]

NO_TIMESTAMP = -1
NO_PRODUCER = -1
NO_LEADER_EPOCH = -1

NAMED_PRODUCERS = 1 << 62
"""Producer ids from here on are never handed out: they are hashes of what producers call themselves."""

Buffer = bytes | bytearray | memoryview


class TopicPartition(NamedTuple):
    """A partition of a topic, by name."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class Acks(enum.IntEnum):
    """When a produce is acknowledged; the values are Kafka's."""

    NONE = 0
    WRITTEN = 1
    DURABLE = -1


class Durability(enum.Enum):
    """What ``Acks.DURABLE`` waits for: the disk, or the operating system's cache."""

    FSYNC = "fsync"
    OS = "os"


class TimestampType(enum.Enum):
    """Whose clock stamps the records of a topic; the values are Kafka's configuration words."""

    CREATE_TIME = "CreateTime"
    LOG_APPEND_TIME = "LogAppendTime"


class BatchHeader(NamedTuple):
    """The fixed 61-byte head of a record batch v2, fields in wire order.

    Source: Kafka protocol guide, "Record Batch". ``base_offset`` and ``leader_epoch`` lie outside the
    CRC and are stamped by the log; all else is as the client sent it.
    """

    base_offset: int
    batch_length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole batch, its first twelve included."""
        return 12 + self.batch_length

    @property
    def last_offset(self) -> int:
        """Offset of the last record."""
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        """Offset of the record after this batch."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def compression(self) -> int:
        """Kafka's codec number: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd."""
        return self.attributes & 7

    @property
    def is_log_append_time(self) -> bool:
        """Whether the broker's clock stamped every record with ``max_timestamp``."""
        return bool(self.attributes & 8)

    @property
    def is_transactional(self) -> bool:
        """Whether the batch belongs to a transaction."""
        return bool(self.attributes & 16)

    @property
    def is_control(self) -> bool:
        """Whether the batch holds a transaction marker instead of data."""
        return bool(self.attributes & 32)


class Header(NamedTuple):
    """One record header."""

    key: str
    value: bytes | None


class Record(NamedTuple):
    """One record, decoded.

    Attributes:
        offset: its offset in the partition.
        timestamp_ms: epoch milliseconds, the producer's or the broker's as the topic has it.
    """

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()


class OpenFile(Protocol):
    """A file that stays readable for as long as somebody holds this object, deleted or not."""

    def fileno(self) -> int:
        """Return the descriptor, open for reading."""

    def read(self, position: int, length: int) -> bytes:
        """Read, waiting for the disk if need be; fewer bytes only at the end of the file. Raises OSError."""

    def cold(self, position: int, length: int) -> Cold | None:
        """Return None if a stretch can be read without waiting for the disk, else begin to read it."""

    def read_cached(self, position: int, length: int) -> Buffer:
        """Read without waiting for the disk; fewer bytes only at the end of the file.

        Raises:
            Cold: not all of it is in memory.
            OSError: it could not be read.
        """


class FileRange(NamedTuple):
    """A stretch of a file, fit for sendfile; holding it keeps the file open."""

    file: OpenFile
    position: int
    length: int


class RunRoom(NamedTuple):
    """What a run of batches may hold.

    Attributes:
        records: how many, at most.
        size_bytes: all batches together, at most.
        batch_bytes: each, at most.
        earliest_ms: what a batch's base timestamp must not be before, unless it is negative.
        latest_ms: what its greatest timestamp must not be after.
    """

    records: int
    size_bytes: int
    batch_bytes: int
    earliest_ms: int
    latest_ms: int


class ReadResult(NamedTuple):
    """What a log gives for one read: whole batches, the first holding the wanted offset.

    Attributes:
        data: the batches; empty bytes when there is nothing below the end offset.
        length: bytes in ``data``. The last batch may be cut off by the byte limit, as Kafka allows,
            but the first is always whole.
    """

    data: Buffer | FileRange
    length: int


class TimestampedOffset(NamedTuple):
    """An offset found by time."""

    offset: int
    timestamp_ms: int
    leader_epoch: int = NO_LEADER_EPOCH


class AbortedTransaction(NamedTuple):
    """A transaction whose records in one partition are not to be read by read_committed consumers.

    Attributes:
        last_offset: of its marker.
        last_stable_offset: the partition's, once the marker was written.
    """

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class TransactionMarker(NamedTuple):
    """The end of a producer's transaction in one partition: what a control batch says."""

    producer_id: int
    producer_epoch: int
    commit: bool
    coordinator_epoch: int


class ProducerDescription(NamedTuple):
    """An idempotent producer as one partition knows it; -1 where there is nothing to say."""

    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_timestamp_ms: int
    coordinator_epoch: int
    transaction_first_offset: int


class ProducerIdentity(NamedTuple):
    """What an idempotent or transactional producer writes under."""

    producer_id: int
    producer_epoch: int


@attrs.frozen
class TransactionDescription:
    """A transactional id as an administrator sees it; ``state`` is Kafka's word."""

    transactional_id: str
    state: str
    timeout_ms: int
    producer_id: int
    producer_epoch: int
    start_time_ms: int = -1
    partitions: Sequence[TopicPartition] = ()


class ProducerSnapshot(NamedTuple):
    """Last known state of one idempotent producer on one partition.

    Attributes:
        batches: (first sequence, last sequence, base offset, last offset, max timestamp) of up to five
            last batches, oldest first.
        transaction_first_offset: where its open transaction began, or -1.
    """

    producer_id: int
    producer_epoch: int
    batches: tuple[tuple[int, int, int, int, int], ...]
    transaction_first_offset: int = -1
    coordinator_epoch: int = -1


@attrs.frozen
class LogSettings:
    """How one partition's log is kept; the units are in the names, -1 means unlimited.

    Attributes:
        compact: whether only the newest record of each key is kept.
        delete_retention_ms: how long its deletion is kept, after it became the newest.
        min_compaction_lag_ms: how long a record is left alone.
        max_compaction_lag_ms: after how long it no longer waits for the log to be dirty enough.
        min_cleanable_dirty_ratio: share of the log, 0 to 1, that is not compacted yet and is worth it.
        file_delete_delay_ms: how long files of dropped segments are still there.
        segment_jitter_ms: up to how much earlier than after ``segment_ms`` a segment may end, at random.
        segment_index_bytes: size of an index file at which the segment ends.
        flush_messages: records written after which the log is synced, whatever the durability.
        flush_ms: the same in time.
        codec: number of the codec batches are stored in; None keeps the producer's.
        codec_level: what the codec is told; None is its default.
        max_batch_bytes: largest batch stored once it is in that codec.
    """

    segment_bytes: int = 1 << 30
    segment_ms: int = 7 * 24 * 3600 * 1000
    index_interval_bytes: int = 4096
    retention_ms: int = 7 * 24 * 3600 * 1000
    retention_bytes: int = -1
    compact: bool = False
    delete_retention_ms: int = 24 * 3600 * 1000
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = 2**63 - 1
    min_cleanable_dirty_ratio: float = 0.5
    file_delete_delay_ms: int = 0
    segment_jitter_ms: int = 0
    segment_index_bytes: int = 10 << 20
    flush_messages: int = 2**63 - 1
    flush_ms: int = 2**63 - 1
    codec: int | None = None
    codec_level: int | None = None
    max_batch_bytes: int = 2**31 - 1


@attrs.frozen
class Topic:
    """A topic as clients know it.

    Attributes:
        configs: only what was set on the topic, by Kafka's configuration names; defaults are not here.
        leader_epoch: of all its partitions; above 0 for a topic that another broker led before.
    """

    name: str
    id: UUID
    partitions: int
    configs: Mapping[str, str] = attrs.field(factory=dict)
    internal: bool = False
    leader_epoch: int = 0


class HostPort(NamedTuple):
    """Where a client connects to."""

    host: str
    port: int


@attrs.frozen
class Listener:
    """One advertised listener of a node.

    Attributes:
        protocol: the plugin's name, for example ``kafka``.
        name: the listener's name within it.
    """

    protocol: str
    name: str
    address: HostPort


@attrs.frozen
class Node:
    """A broker process as clients see it."""

    id: int
    rack: str | None = None
    listeners: tuple[Listener, ...] = ()

    def address(self, protocol: str, name: str) -> HostPort | None:
        """Return the advertised address of the listener ``name``, else of the protocol's first one."""
        found: HostPort | None = None
        for listener in self.listeners:
            if listener.protocol == protocol:
                if listener.name == name:
                    return listener.address
                found = found or listener.address
        return found


PEERS = ("", "")
"""Stands for protocol and listener where the other processes of the same broker connect."""

HTTP = ("http", "")
"""Stands for them where the broker is administered over HTTP."""


@attrs.frozen
class Worker:
    """One of the processes that are a broker together.

    Attributes:
        index: which of them; 0 controls and coordinates.
        nodes: all of them.
        sockets: where each takes the requests of the others, the path of a Unix socket.
        descriptors: open sockets that listen for this one, by protocol and name of the listener; what takes
            the requests of the others is ``PEERS``, what is administered over HTTP ``HTTP``.
    """

    index: int
    nodes: tuple[Node, ...]
    sockets: tuple[str, ...]
    descriptors: Mapping[tuple[str, str], int]

    @property
    def me(self) -> Node:
        """The node that this one is."""
        return self.nodes[self.index]


class TopicChange(enum.IntEnum):
    """What is to become of a topic."""

    CREATE = 0
    GROW = 1
    DELETE = 2


class Change(NamedTuple):
    """One row of the metadata store to be put (``value`` is JSON-like) or, with None, deleted."""

    table: str
    key: str
    value: Any | None


class CommittedOffset(NamedTuple):
    """A consumer group's position in one partition."""

    offset: int
    leader_epoch: int = NO_LEADER_EPOCH
    metadata: str = ""
    commit_time_ms: int = NO_TIMESTAMP
    expire_time_ms: int = NO_TIMESTAMP


@attrs.frozen
class JoinRequest:
    """A member asking into a classic consumer group.

    Attributes:
        member_id: empty on a first join.
        protocols: (name, opaque metadata) in the member's order of preference.
        require_known_member_id: answer a first join with a fresh id to come back with (JoinGroup v4+).
    """

    group_id: str
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: tuple[tuple[str, bytes], ...]
    require_known_member_id: bool = False
    supports_skipping_assignment: bool = False


class Subscription(NamedTuple):
    """What a consumer says of itself in the metadata it joins a classic group with.

    Attributes:
        version: of the format it writes, in which its assignment is to be written.
        owned: partitions by topic that it still has; empty for those that give up all before they join.
    """

    version: int
    topics: frozenset[str]
    owned: Mapping[str, frozenset[int]]
    rack_id: str | None = None


class JoinedMember(NamedTuple):
    """A member as the group's leader is told of it."""

    member_id: str
    instance_id: str | None
    metadata: bytes


@attrs.frozen
class JoinedGroup:
    """The answer to a join; ``members`` is empty for all but the leader."""

    generation: int
    protocol_type: str
    protocol_name: str | None
    leader: str
    member_id: str
    members: tuple[JoinedMember, ...] = ()
    skip_assignment: bool = False


@attrs.frozen
class SyncRequest:
    """A member asking for its assignment; the leader brings everybody's."""

    group_id: str
    generation: int
    member_id: str
    instance_id: str | None
    protocol_type: str | None
    protocol_name: str | None
    assignments: Mapping[str, bytes]


@attrs.frozen
class SyncedGroup:
    """The answer to a sync."""

    protocol_type: str
    protocol_name: str | None
    assignment: bytes


class LeavingMember(NamedTuple):
    """A member asking out, by id or by static instance."""

    member_id: str
    instance_id: str | None
    reason: str | None = None


class GroupSummary(NamedTuple):
    """One line of a group listing; ``state`` and ``group_type`` are Kafka's words."""

    group_id: str
    protocol_type: str
    state: str
    group_type: str


@attrs.frozen
class GroupMember:
    """A member as an administrator sees it."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes


@attrs.frozen
class GroupDescription:
    """A group as an administrator sees it; an unknown group has the state ``Dead``."""

    group_id: str
    state: str
    protocol_type: str
    protocol_name: str
    members: Sequence[GroupMember] = ()
    error: BrokerError | None = None


TopicAssignment = Mapping[UUID, frozenset[int]]
"""Partitions by topic id; a topic without partitions is absent."""


class Principal(NamedTuple):
    """Who a client is, by Kafka's names: a type, ``User`` for all that authenticate here, and a name."""

    type: str
    name: str

    def __str__(self) -> str:
        return f"{self.type}:{self.name}"


ANONYMOUS = Principal("User", "ANONYMOUS")
"""Whoever has not said who it is; the name is Kafka's."""

PEER = Principal("Broker", "peer")
"""Another process of this broker, which may do everything; no client is of this type."""

QuotaEntity = tuple[tuple[str, str | None], ...]
"""Whom a quota is for: pairs of kind and name, sorted by kind; the name None means the default."""


@attrs.frozen
class ConsumerHeartbeat:
    """A member of a group of the consumer protocol (KIP-848) joining, living on or leaving.

    Attributes:
        member_epoch: 0 joins, -1 leaves, -2 leaves for a while (static members).
        rebalance_timeout_ms: -1 is "as before", as None is in the others that can be None.
        topic_pattern: a regular expression; empty takes the one before back.
        owned: what the member still has.
    """

    group_id: str
    member_id: str
    member_epoch: int
    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    rebalance_timeout_ms: int = -1
    topic_names: frozenset[str] | None = None
    topic_pattern: str | None = None
    assignor: str | None = None
    owned: TopicAssignment | None = None
    principal: Principal = ANONYMOUS


@attrs.frozen
class ConsumerHeartbeatAnswer:
    """What the member is to be and to have; ``assignment`` is None while that does not change."""

    member_id: str
    member_epoch: int
    heartbeat_interval_ms: int
    assignment: TopicAssignment | None = None


@attrs.frozen
class ConsumerMember:
    """A member of a group of the consumer protocol as an administrator sees it.

    Attributes:
        classic: whether it speaks the classic protocol.
    """

    member_id: str
    instance_id: str | None
    rack_id: str | None
    member_epoch: int
    client_id: str
    client_host: str
    topic_names: Sequence[str]
    topic_pattern: str | None
    assignment: TopicAssignment
    target: TopicAssignment
    classic: bool = False


@attrs.frozen
class ConsumerGroupDescription:
    """A group of the consumer protocol as an administrator sees it; ``state`` is Kafka's word."""

    group_id: str
    state: str
    group_epoch: int
    assignment_epoch: int
    assignor: str
    members: Sequence[ConsumerMember] = ()


@attrs.frozen
class ShareHeartbeat:
    """A member of a share group (KIP-932) joining, living on or leaving.

    Attributes:
        member_epoch: 0 joins, -1 leaves.
        rack_id: None is "as before", as in ``topic_names``.
    """

    group_id: str
    member_id: str
    member_epoch: int
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topic_names: frozenset[str] | None = None


class LogSpan(NamedTuple):
    """A batch in a log as a share group looks at it.

    Attributes:
        last: offset of its last record.
        readable: whether it holds records that may be delivered; markers and what was aborted do not.
    """

    first: int
    last: int
    readable: bool = True


class AcquiredRecords(NamedTuple):
    """Records handed to one member of a share group, all for the ``delivery_count``-th time."""

    first_offset: int
    last_offset: int
    delivery_count: int


class AcknowledgeType(enum.IntEnum):
    """What a member says of a record it has acquired; the numbers are KIP-932's and KIP-1222's."""

    GAP = 0
    ACCEPT = 1
    RELEASE = 2
    REJECT = 3
    RENEW = 4


class AcknowledgementBatch(NamedTuple):
    """What a member says of neighbouring records: one type each, or one for all."""

    first_offset: int
    last_offset: int
    types: Sequence[int]


class ScramCredential(NamedTuple):
    """What checks a user's password by SCRAM (RFC 5802), without being it."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes


class ScramChange(NamedTuple):
    """A credential to keep for a user, or with None the one to forget; mechanisms by their SASL names."""

    user: str
    mechanism: str
    credential: ScramCredential | None


class QuotaChange(NamedTuple):
    """Quotas to set for an entity, by Kafka's names of them; those with None are removed."""

    entity: QuotaEntity
    values: Mapping[str, float | None]


class ShareStateBatch(NamedTuple):
    """What is stored of neighbouring records in flight: KIP-932's number of their state, and deliveries."""

    first_offset: int
    last_offset: int
    delivery_state: int
    delivery_count: int


class ShareState(NamedTuple):
    """What is stored of one partition as a share group consumes it.

    Attributes:
        state_epoch: how often it was begun anew by an administrator.
        leader_epoch: the partition's when that was stored.
        start_offset: the first record that is not done with.
        complete_count: records behind it that are.
    """

    state_epoch: int
    leader_epoch: int
    start_offset: int
    complete_count: int
    batches: Sequence[ShareStateBatch] = ()


class SharePartitionOffset(NamedTuple):
    """How far a share group is in one partition; -1 stands for what is not known."""

    start_offset: int = -1
    leader_epoch: int = 0
    lag: int = -1


@attrs.frozen
class ShareMemberDescription:
    """A member of a share group as an administrator sees it."""

    member_id: str
    rack_id: str | None
    member_epoch: int
    client_id: str
    client_host: str
    topic_names: Sequence[str]
    assignment: TopicAssignment


@attrs.frozen
class ShareGroupDescription:
    """A share group as an administrator sees it; ``state`` is Kafka's word."""

    group_id: str
    state: str
    group_epoch: int
    assignment_epoch: int
    assignor: str
    members: Sequence[ShareMemberDescription] = ()
