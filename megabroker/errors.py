"""The error tree of the broker.

Owns every exception that crosses a module boundary. A ``BrokerError`` carries an ``ErrorCode``, the
broker's own vocabulary; each wire protocol maps these codes to its wire in one table and must never
invent another source of truth. ``ProtocolError`` is what a codec raises on hostile or damaged input,
and nothing else. ``Cold`` is no failure: what was asked for is on its way from the disk.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

__all__ = [
    "AuthenticationError",
    "BrokerError",
    "Cold",
    "ConfigError",
    "DataDirectoryLocked",
    "ErrorCode",
    "Fault",
    "LimitError",
    "PeerError",
    "ProtocolError",
    "RequestError",
    "StateError",
    "StorageError",
]


class ErrorCode(enum.Enum):
    """What went wrong, in the broker's own terms; the value is the stable name used in logs."""

    INVALID_REQUEST = "invalid-request"
    INVALID_TOPIC = "invalid-topic"
    UNKNOWN_TOPIC = "unknown-topic"
    UNKNOWN_TOPIC_ID = "unknown-topic-id"
    UNKNOWN_PARTITION = "unknown-partition"
    TOPIC_EXISTS = "topic-exists"
    INVALID_PARTITIONS = "invalid-partitions"
    INVALID_REPLICATION_FACTOR = "invalid-replication-factor"
    INVALID_REPLICA_ASSIGNMENT = "invalid-replica-assignment"
    INVALID_CONFIG = "invalid-config"
    TOPIC_LIMIT = "topic-limit"
    POLICY_VIOLATION = "policy-violation"
    NOT_LEADER = "not-leader"
    NOT_ENOUGH_REPLICAS = "not-enough-replicas"
    FENCED_LEADER_EPOCH = "fenced-leader-epoch"
    UNKNOWN_LEADER_EPOCH = "unknown-leader-epoch"
    OFFSET_OUT_OF_RANGE = "offset-out-of-range"
    CORRUPT_BATCH = "corrupt-batch"
    INVALID_RECORD = "invalid-record"
    INVALID_TIMESTAMP = "invalid-timestamp"
    UNSUPPORTED_COMPRESSION = "unsupported-compression"
    MESSAGE_TOO_LARGE = "message-too-large"
    STORAGE = "storage"
    DISK_FULL = "disk-full"
    OVERLOADED = "overloaded"
    TIMED_OUT = "timed-out"
    UNREACHABLE = "unreachable"
    SHUTTING_DOWN = "shutting-down"
    NOT_COORDINATOR = "not-coordinator"
    COORDINATOR_LOADING = "coordinator-loading"
    INVALID_GROUP = "invalid-group"
    GROUP_NOT_FOUND = "group-not-found"
    GROUP_NOT_EMPTY = "group-not-empty"
    GROUP_FULL = "group-full"
    UNKNOWN_MEMBER = "unknown-member"
    MEMBER_ID_REQUIRED = "member-id-required"
    FENCED_INSTANCE = "fenced-instance"
    ILLEGAL_GENERATION = "illegal-generation"
    INCONSISTENT_PROTOCOL = "inconsistent-protocol"
    INVALID_SESSION_TIMEOUT = "invalid-session-timeout"
    REBALANCE_IN_PROGRESS = "rebalance-in-progress"
    OFFSET_METADATA_TOO_LARGE = "offset-metadata-too-large"
    OFFSET_LIMIT = "offset-limit"
    SUBSCRIBED_TO_TOPIC = "subscribed-to-topic"
    FENCED_MEMBER_EPOCH = "fenced-member-epoch"
    STALE_MEMBER_EPOCH = "stale-member-epoch"
    UNRELEASED_INSTANCE = "unreleased-instance"
    UNSUPPORTED_ASSIGNOR = "unsupported-assignor"
    INVALID_PATTERN = "invalid-pattern"
    STREAMS_INVALID_TOPOLOGY = "streams-invalid-topology"
    INVALID_RECORD_STATE = "invalid-record-state"
    SHARE_SESSION_NOT_FOUND = "share-session-not-found"
    INVALID_SHARE_SESSION_EPOCH = "invalid-share-session-epoch"
    SHARE_SESSION_LIMIT = "share-session-limit"
    FENCED_STATE_EPOCH = "fenced-state-epoch"
    OUT_OF_ORDER_SEQUENCE = "out-of-order-sequence"
    UNKNOWN_PRODUCER = "unknown-producer"
    INVALID_PRODUCER_EPOCH = "invalid-producer-epoch"
    PRODUCER_FENCED = "producer-fenced"
    INVALID_PRODUCER_ID = "invalid-producer-id"
    CONCURRENT_TRANSACTIONS = "concurrent-transactions"
    TRANSACTIONAL_ID_NOT_FOUND = "transactional-id-not-found"
    TRANSACTION_ABORTABLE = "transaction-abortable"
    INVALID_TXN_STATE = "invalid-txn-state"
    INVALID_TXN_TIMEOUT = "invalid-txn-timeout"
    NOT_AUTHENTICATED = "not-authenticated"
    TOPIC_NOT_ALLOWED = "topic-not-allowed"
    GROUP_NOT_ALLOWED = "group-not-allowed"
    CLUSTER_NOT_ALLOWED = "cluster-not-allowed"
    TRANSACTIONAL_ID_NOT_ALLOWED = "transactional-id-not-allowed"
    UNSUPPORTED = "unsupported"
    INTERNAL = "internal"


class BrokerError(Exception):
    """A refusal or failure with a code that every protocol can translate.

    Args:
        code: what went wrong.
        message: one sentence for a person, saying what was wrong and what would be right.
        retriable: whether the same request may succeed later without being changed.
    """

    retriable_by_default = False

    def __init__(self, code: ErrorCode, message: str = "", *, retriable: bool | None = None) -> None:
        super().__init__(message or code.value)
        self.code = code
        self.message = message or code.value
        self.retriable = self.retriable_by_default if retriable is None else retriable


class RequestError(BrokerError):
    """The request is wrong and stays wrong: the caller has to change it."""


class AuthenticationError(RequestError):
    """A client is not who it says; ``message`` is for our log and never for the client."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.NOT_AUTHENTICATED, message)


class StateError(BrokerError):
    """The request is well-formed but does not fit the present state of the broker."""


class PeerError(StateError):
    """Another process of this broker did not answer: UNREACHABLE or TIMED_OUT.

    Attributes:
        sent: whether the request may have been carried out; False when it certainly was not.
    """

    retriable_by_default = True

    def __init__(self, code: ErrorCode, message: str, *, sent: bool) -> None:
        super().__init__(code, message)
        self.sent = sent


class StorageError(BrokerError):
    """The disk, or what stands for it, failed."""

    retriable_by_default = True


class ProtocolError(Exception):
    """Bytes from a peer that are not the protocol they claim to be; the connection is at fault."""


class LimitError(ProtocolError):
    """So many bytes of a peer's, or so many requests, that a limit is broken.

    Attributes:
        key: the limit's, in the configuration; None for that of the connection's longest frame.
    """

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class Cold(Exception):
    """What was asked for lies on the disk and not in memory; it is being read, and can be asked for again.

    Only who asked not to wait meets it. It is a ``Room``: a connection may park a request on it.
    """

    def __init__(self) -> None:
        super().__init__("it has to be read from the disk first")
        self._callbacks: list[Callable[[], None]] = []
        self._over = False

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back once, in the reactor, when it is worth asking again; at once if it is by now."""
        if self._over:
            callback()
        else:
            self._callbacks.append(callback)

    def over(self) -> list[Callable[[], None]]:
        """It has been read: return whom to call back."""
        self._over = True
        callbacks, self._callbacks = self._callbacks, []
        return callbacks


class DataDirectoryLocked(Exception):
    """Another broker holds the data directory; the message says which process."""


class Fault:
    """One thing wrong in a configuration file.

    Attributes:
        path: dotted path of the key, for example ``protocols.kafka.listeners[0].endpoint``.
        value: what the file holds there.
        expected: what would be right, as a phrase that completes "expected ...".
    """

    __slots__ = ("expected", "path", "value")

    def __init__(self, path: str, value: object, expected: str) -> None:
        self.path = path
        self.value = value
        self.expected = expected

    def __str__(self) -> str:
        found = "nothing" if self.value is None else repr(self.value)
        return f"{self.path}: {found}: expected {self.expected}"

    def __repr__(self) -> str:
        return f"Fault({self.path!r}, {self.value!r}, {self.expected!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fault):
            return NotImplemented
        return (self.path, self.value, self.expected) == (other.path, other.value, other.expected)

    __hash__ = None  # type: ignore[assignment]


class ConfigError(Exception):
    """A configuration that cannot be used; carries every fault found, not only the first."""

    def __init__(self, faults: list[Fault], source: str = "") -> None:
        self.faults = faults
        self.source = source
        head = f"{source}: {len(faults)} fault(s)" if source else f"{len(faults)} fault(s)"
        super().__init__("\n".join([head, *(f"  {fault}" for fault in faults)]))
