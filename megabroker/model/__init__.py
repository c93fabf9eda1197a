"""Values that cross module boundaries.

Owns the broker's vocabulary as immutable values: topics, batch headers, offsets, nodes, group
membership. No behaviour beyond derived properties, no I/O, no Twisted. Values made once per request
are ``NamedTuple`` (cheapest to make and to hash); the others are frozen attrs classes.

Each subject has a module; whoever uses a value imports it from here. Those of streams groups, which no plugin
needs, are imported from ``streams_groups``.
"""

from __future__ import annotations

from megabroker.model.classic_groups import (
    CommittedOffset,
    GroupDescription,
    GroupMember,
    GroupSummary,
    JoinedGroup,
    JoinedMember,
    JoinRequest,
    LeavingMember,
    Subscription,
    SyncedGroup,
    SyncRequest,
)
from megabroker.model.clients import (
    ANONYMOUS,
    PEER,
    Principal,
    QuotaChange,
    QuotaEntity,
    ScramChange,
    ScramCredential,
)
from megabroker.model.consumer_groups import (
    ConsumerGroupDescription,
    ConsumerHeartbeat,
    ConsumerHeartbeatAnswer,
    ConsumerMember,
    TopicAssignment,
)
from megabroker.model.nodes import HTTP, PEERS, HostPort, Listener, Node, Worker
from megabroker.model.producers import (
    NAMED_PRODUCERS,
    AbortedTransaction,
    ProducerDescription,
    ProducerIdentity,
    ProducerSnapshot,
    TransactionDescription,
    TransactionMarker,
)
from megabroker.model.records import (
    NO_LEADER_EPOCH,
    NO_PRODUCER,
    NO_TIMESTAMP,
    BatchHeader,
    Buffer,
    Header,
    Record,
    TimestampType,
)
from megabroker.model.share_groups import (
    AcknowledgementBatch,
    AcknowledgeType,
    AcquiredRecords,
    LogSpan,
    ShareGroupDescription,
    ShareHeartbeat,
    ShareMemberDescription,
    SharePartitionOffset,
    ShareState,
    ShareStateBatch,
)
from megabroker.model.storage import (
    Acks,
    Change,
    Durability,
    FileRange,
    LogSettings,
    OpenFile,
    ReadResult,
    RunRoom,
    TimestampedOffset,
)
from megabroker.model.topics import Topic, TopicChange, TopicPartition

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
