"""Every command of the later dialect: its parameters, what a client must be allowed, what it is for.

Owns the table; HELP, the refusal of a wrong command, what clients may do, and docs/cursus.md come from it.
Never parses and never carries out anything.

    WORD name=value name=value ... [P<partition>:<offset>,...] [message=<the rest>]
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, NamedTuple

from megabroker.access import Operation, ResourceType

__all__ = ["WORDS", "Kind", "Need", "Parameter", "Word"]


class Kind(enum.Enum):
    """What a parameter's value is; the word is what a syntax shows."""

    NAME = "name"
    TEXT = "text"  # goes on to the next parameter, blanks included
    REST = "rest"  # all that follows, whatever it is
    COUNT = "N"  # 0 to 2**64 - 1
    NUMBER = "n"  # signed, 64 bits
    FLAG = "true|false"
    CHOICE = "choice"
    OFFSETS = "P<partition>:<offset>,..."


class Parameter(NamedTuple):
    """One parameter of a command.

    Attributes:
        default: its value where it is not given.
        choices: what it may be, with ``Kind.CHOICE``.
        also: other names it has.
        missing: the code if it is required and not there; ``missing_<name>`` if this is empty.
        invalid: the code for a wrong value; ``invalid_<name>`` if this is empty.
        least: the lowest number allowed.
        most: the highest.
    """

    name: str
    kind: Kind = Kind.NAME
    required: bool = False
    default: object = None
    choices: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    missing: str = ""
    invalid: str = ""
    least: int = 0
    most: int = (1 << 63) - 1

    @property
    def syntax(self) -> str:
        """How it is given."""
        if self.kind is Kind.OFFSETS:
            return str(self.kind.value)
        if self.kind is Kind.FLAG:
            value = str(self.kind.value)
        else:
            value = "|".join(self.choices) if self.choices else f"<{self.kind.value}>"
        shown = f"{self.name}={value}"
        return shown if self.required else f"[{shown}]"


class Need(NamedTuple):
    """What a client must be allowed to do with the resource that a parameter names."""

    operation: Operation
    resource_type: ResourceType
    parameter: str


class Word(NamedTuple):
    """One command.

    Attributes:
        handler: the name of the function that carries it out, in ``megabroker.protocols.cursus.later``.
        about: one sentence.
    """

    name: str
    handler: str
    about: str
    parameters: tuple[Parameter, ...] = ()
    needs: tuple[Need, ...] = ()

    @property
    def syntax(self) -> str:
        """How it is given, with all its parameters."""
        return " ".join((self.name, *(one.syntax for one in self.parameters)))


_READ_TOPIC = Need(Operation.READ, ResourceType.TOPIC, "topic")
_WRITE_TOPIC = Need(Operation.WRITE, ResourceType.TOPIC, "topic")
_DESCRIBE_TOPIC = Need(Operation.DESCRIBE, ResourceType.TOPIC, "topic")
_READ_GROUP = Need(Operation.READ, ResourceType.GROUP, "group")
_DESCRIBE_GROUP = Need(Operation.DESCRIBE, ResourceType.GROUP, "group")
_WRITE_ID = Need(Operation.WRITE, ResourceType.TRANSACTIONAL_ID, "transactional_id")
_DESCRIBE_ID = Need(Operation.DESCRIBE, ResourceType.TRANSACTIONAL_ID, "transactional_id")

_INT32 = (1 << 31) - 1
_TOPIC = Parameter("topic", required=True)
_GROUP = Parameter("group", required=True)
_MEMBER = Parameter("member", required=True)
_KEY = Parameter("key", required=True)
_PARTITION = Parameter("partition", Kind.COUNT, most=_INT32)
_WHICH = _PARTITION._replace(required=True)
_GENERATION = Parameter("generation", Kind.NUMBER, least=-1, most=_INT32)
_NOW = _GENERATION._replace(required=True)
_OFFSET = Parameter("offset", Kind.COUNT, required=True)
_MESSAGE = Parameter("message", Kind.REST, required=True)
_ID = Parameter("transactional_id", required=True, also=("txn", "transaction"))
_PRODUCER = Parameter("producerId", required=True, also=("producer_id",), missing="missing_producer_id")
_EPOCH = Parameter("epoch", Kind.NUMBER, default=0)
_SEQ = Parameter("seqNum", Kind.COUNT, default=0, invalid="invalid_seq_num")
_VERSION = Parameter("version", Kind.COUNT, required=True)
_BATCH = Parameter("batch", Kind.COUNT, default=8192, least=1, invalid="invalid_limit")
_ISOLATION = Parameter(
    "isolation", Kind.CHOICE, default="read_committed", choices=("read_committed", "read_uncommitted")
)
_OFFSETS = Parameter("offsets", Kind.OFFSETS, required=True, missing="no_valid_offsets")

_POLICY = (
    Parameter(
        "cleanup_policy",
        Kind.CHOICE,
        choices=("delete", "compact", "delete,compact"),
        invalid="invalid_topic_policy",
    ),
    Parameter("retention_hours", Kind.COUNT, most=_INT32),
    Parameter("retention_bytes", Kind.COUNT),
    Parameter("partitioner", Kind.CHOICE, choices=("hash_key",), invalid="unsupported_topic_policy"),
    Parameter("auth_policy", Kind.CHOICE, choices=("open",), invalid="unsupported_topic_policy"),
)


def _all(*words: Word) -> Mapping[str, Word]:
    return {word.name: word for word in words}


WORDS: Final[Mapping[str, Word]] = _all(
    Word(
        "CREATE",
        "topics.create",
        "Create a topic, or add partitions to it.",
        (
            _TOPIC,
            Parameter("partitions", Kind.COUNT, least=1, most=_INT32),
            Parameter("idempotent", Kind.FLAG, default=False),
            Parameter("event_sourcing", Kind.FLAG, default=False),
            Parameter("replication_factor", Kind.COUNT, least=1, most=_INT32),
            *_POLICY,
        ),
    ),
    Word("DELETE", "topics.delete", "Delete a topic and its messages.", (_TOPIC,)),
    Word("LIST", "topics.list_topics", "List all topics."),
    Word("DESCRIBE", "topics.describe", "Describe the partitions of a topic.", (_TOPIC,), (_DESCRIBE_TOPIC,)),
    Word(
        "PUBLISH",
        "publishing.publish",
        "Store a message.",
        (
            _TOPIC,
            Parameter("acks", Kind.CHOICE, choices=("0", "1", "-1", "all")),
            _PRODUCER,
            _PARTITION,
            Parameter("key"),
            _SEQ,
            _EPOCH,
            Parameter("isIdempotent", Kind.FLAG, default=False, invalid="invalid_is_idempotent"),
            _MESSAGE,
        ),
        (_WRITE_TOPIC,),
    ),
    Word(
        "CONSUME",
        "consuming.consume",
        "Read messages once.",
        (
            _TOPIC._replace(missing="invalid_consume_syntax"),
            _WHICH._replace(missing="invalid_consume_syntax"),
            _OFFSET._replace(missing="invalid_consume_syntax"),
            _MEMBER._replace(missing="invalid_consume_syntax"),
            Parameter("group", default="default-group"),
            _GENERATION,
            Parameter("autoOffsetReset", Kind.CHOICE, choices=("earliest", "latest")),
            _ISOLATION,
            _BATCH,
            Parameter("wait_ms", Kind.COUNT, default=0, most=60_000, invalid="invalid_limit"),
        ),
    ),
    Word(
        "STREAM",
        "consuming.stream",
        "Receive messages as they arrive.",
        (
            _TOPIC._replace(missing="invalid_stream_syntax"),
            _WHICH._replace(missing="invalid_stream_syntax"),
            _GROUP._replace(missing="invalid_stream_syntax"),
            Parameter("member"),
            _GENERATION,
            Parameter("offset", Kind.COUNT),
            Parameter("autoOffsetReset", Kind.CHOICE, choices=("earliest", "latest")),
            _ISOLATION,
            _BATCH,
        ),
        (_READ_TOPIC, _READ_GROUP),
    ),
    Word(
        "REGISTER_GROUP",
        "groups.register",
        "Register a group for a topic.",
        (_TOPIC, _GROUP),
        (_READ_GROUP, _READ_TOPIC),
    ),
    Word(
        "JOIN_GROUP",
        "groups.join",
        "Join a group, or its new generation.",
        (_TOPIC, _GROUP, _MEMBER, _GENERATION),
        (_READ_GROUP, _READ_TOPIC),
    ),
    Word(
        "SYNC_GROUP",
        "groups.sync",
        "Return the partitions of a member.",
        (_TOPIC, _GROUP, _MEMBER, _GENERATION),
        (_READ_GROUP,),
    ),
    Word(
        "HEARTBEAT",
        "groups.heartbeat",
        "Report that a member is alive.",
        (_TOPIC, _GROUP, _MEMBER, _NOW),
        (_READ_GROUP,),
    ),
    Word(
        "LEAVE_GROUP",
        "groups.leave",
        "Leave a group.",
        (_TOPIC, _GROUP, _MEMBER, _GENERATION),
        (_READ_GROUP,),
    ),
    Word(
        "FETCH_OFFSET",
        "groups.fetch_offset",
        "Return the committed offset of a group.",
        (_TOPIC, _WHICH, _GROUP),
        (_DESCRIBE_GROUP, _DESCRIBE_TOPIC),
    ),
    Word(
        "COMMIT_OFFSET",
        "groups.commit_offset",
        "Commit the offset of a group in a partition.",
        (_TOPIC, _WHICH, _GROUP, _OFFSET, _MEMBER, _NOW),
        (_READ_GROUP, _READ_TOPIC),
    ),
    Word(
        "BATCH_COMMIT",
        "groups.batch_commit",
        "Commit offsets in several partitions, all or none.",
        (_TOPIC, _GROUP, _MEMBER, _NOW, _OFFSETS._replace(invalid="invalid_batch_commit_entry")),
        (_READ_GROUP, _READ_TOPIC),
    ),
    Word(
        "LIST_OFFSETS",
        "topics.list_offsets",
        "Return where partitions begin and end.",
        (_TOPIC, _PARTITION),
        (_DESCRIBE_TOPIC,),
    ),
    Word("GROUP_STATUS", "groups.status", "Describe a group.", (_GROUP,), (_DESCRIBE_GROUP,)),
    Word("LIST_GROUPS", "groups.list_groups", "List all groups."),
    Word(
        "FIND_COORDINATOR",
        "topics.find_coordinator",
        "Return the coordinator of a group or a transaction.",
        (Parameter("group"), _ID._replace(required=False)),
    ),
    Word(
        "METADATA",
        "topics.metadata",
        "Return the leaders of the partitions of a topic.",
        (_TOPIC,),
        (_DESCRIBE_TOPIC,),
    ),
    Word(
        "INIT_PRODUCER_ID",
        "transactions.init_producer",
        "Get a producer id for a transactional id, and fence its previous producer.",
        (_ID,),
        (_WRITE_ID,),
    ),
    Word(
        "BEGIN_TXN",
        "transactions.begin",
        "Begin a transaction.",
        (_ID, _PRODUCER, _EPOCH),
        (_WRITE_ID,),
    ),
    Word(
        "TXN_PUBLISH",
        "transactions.publish",
        "Store a message that is visible after the transaction is committed.",
        (
            _ID,
            _TOPIC,
            Parameter("partition", Kind.NUMBER, least=-1, most=_INT32),
            _PRODUCER,
            _SEQ._replace(required=True, missing="invalid_seq_num", least=1, most=_INT32),
            _EPOCH,
            Parameter("key"),
            _MESSAGE,
        ),
        (_WRITE_ID, _WRITE_TOPIC),
    ),
    Word(
        "SEND_OFFSETS_TO_TXN",
        "transactions.send_offsets",
        "Commit offsets of a group with the transaction.",
        (
            _ID,
            _PRODUCER,
            _EPOCH,
            _TOPIC,
            _GROUP,
            _MEMBER,
            _NOW,
            _OFFSETS._replace(missing="invalid_txn_offsets", invalid="invalid_txn_offsets"),
        ),
        (_WRITE_ID, _READ_GROUP, _READ_TOPIC),
    ),
    Word(
        "END_TXN",
        "transactions.end",
        "Commit or abort a transaction.",
        (
            _ID,
            _PRODUCER,
            _EPOCH,
            Parameter(
                "result",
                Kind.CHOICE,
                default="commit",
                choices=("commit", "abort"),
                also=("action", "state"),
                invalid="invalid_transaction_result",
            ),
        ),
        (_WRITE_ID,),
    ),
    Word("TXN_STATUS", "transactions.status", "Return the state of a transaction.", (_ID,), (_DESCRIBE_ID,)),
    Word(
        "APPEND_STREAM",
        "event_streams.append",
        "Append an event to an aggregate's stream, if its version is the next one.",
        (
            _TOPIC,
            _KEY,
            _VERSION._replace(least=1),
            Parameter("event_type", default=""),
            Parameter("schema_version", Kind.COUNT, default=1, most=(1 << 32) - 1),
            _PRODUCER._replace(required=False),
            Parameter("metadata", Kind.TEXT, default=""),
            _MESSAGE,
        ),
        (_WRITE_TOPIC,),
    ),
    Word(
        "READ_STREAM",
        "event_streams.read",
        "Read an aggregate's events, and its snapshot if that replaces some of them.",
        (
            _TOPIC,
            _KEY,
            Parameter("from_version", Kind.COUNT, default=1, least=1),
            Parameter("limit", Kind.COUNT, least=1),
        ),
        (_READ_TOPIC,),
    ),
    Word(
        "STREAM_VERSION",
        "event_streams.version",
        "Return the number of events of an aggregate.",
        (_TOPIC, _KEY),
        (_READ_TOPIC,),
    ),
    Word(
        "SAVE_SNAPSHOT",
        "event_streams.save_snapshot",
        "Store a snapshot of an aggregate at a version.",
        (_TOPIC, _KEY, _VERSION, _MESSAGE),
        (_WRITE_TOPIC,),
    ),
    Word(
        "READ_SNAPSHOT",
        "event_streams.read_snapshot",
        "Return an aggregate's latest snapshot.",
        (_TOPIC, _KEY),
        (_READ_TOPIC,),
    ),
    Word("PROTOCOL_INFO", "negotiating.info", "Return the versions and features that the broker supports."),
    Word(
        "NEGOTIATE",
        "negotiating.negotiate",
        "Agree on the features of the connection.",
        (
            Parameter(
                "version",
                Kind.NUMBER,
                required=True,
                missing="missing_protocol_version",
                invalid="invalid_protocol_version",
                least=-(1 << 63),
            ),
            Parameter("features", default="", invalid="invalid_protocol_features"),
            Parameter("require_features", Kind.FLAG, default=False),
        ),
    ),
    Word(
        "AUTH",
        "negotiating.authenticate",
        "Authenticate the client.",
        (
            Parameter("principal", required=True, missing="invalid_auth"),
            Parameter("token", required=True, missing="invalid_auth"),
        ),
    ),
    Word("HELP", "negotiating.list_commands", "List all commands."),
)
"""Every command by its word, in the order of HELP."""
