"""Guards and refusals of single requests that are like no other."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any

from megabroker.access import CLUSTER_NAME, Operation, ResourceType
from megabroker.protocols.kafka.access.guards import then
from megabroker.protocols.kafka.access.refusals import CODES, by_row, item_class, mirrored, plain
from megabroker.protocols.kafka.dispatch import Context, Handler
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema.fields import Message, Struct
from megabroker.protocols.kafka.schema.registry import APIS
from megabroker.protocols.kafka.topics import first_seen

__all__ = [
    "add_partitions_to_txn",
    "bring_topology",
    "hide_configs_of_new_topics",
    "hide_groups_of_hidden_topics",
    "hide_offsets_of_hidden_topics",
    "hide_topics_of_transactions",
    "init_producer_id",
    "refuse_credentials",
    "refuse_join",
    "refuse_replica_log_dirs",
    "subscribe",
    "write_txn_markers",
]

_Answer = Message | Awaitable[Message]

_CLUSTER_REFUSED = CODES[ResourceType.CLUSTER]
_TOPIC_REFUSED = CODES[ResourceType.TOPIC]
_SEVERAL_TRANSACTIONS = 4
_NULLABLE_PROTOCOL = 7
_HIDDEN = "The group has described topic(s) that the client is not authorized to describe."


def _on_cluster(context: Context, operation: Operation, *, quiet: bool = False) -> bool:
    return context.may(operation, ResourceType.CLUSTER, CLUSTER_NAME, quiet=quiet)


def _sees(context: Context, topic: str) -> bool:
    return context.may(Operation.DESCRIBE, ResourceType.TOPIC, topic, quiet=True)


# --- producers ------------------------------------------------------------------------------------


def init_producer_id(context: Context, request: Any, handle: Handler) -> _Answer:
    """A transactional id needs WRITE; without one, some topic must be writable (KIP-679)."""
    transactional_id, kind = request.transactional_id, ResourceType.TRANSACTIONAL_ID
    if transactional_id is not None:
        if not context.may(Operation.WRITE, kind, transactional_id) or (
            request.enable2_pc and not context.may(Operation.TWO_PHASE_COMMIT, kind, transactional_id)
        ):
            return _no_producer(context, request, CODES[kind])
    elif not _on_cluster(context, Operation.IDEMPOTENT_WRITE, quiet=True) and not (
        context.broker.authorizer.allowed_some(
            context.principal, context.client_host, Operation.WRITE, ResourceType.TOPIC
        )
    ):
        _on_cluster(context, Operation.IDEMPOTENT_WRITE)  # once more, for the audit log
        return _no_producer(context, request, _CLUSTER_REFUSED)
    return handle(context, request)


def _no_producer(context: Context, request: Any, code: int) -> Message:
    response: Any = plain(context, request, code)
    response.producer_id = response.producer_epoch = -1
    return response  # type: ignore[no-any-return]


def add_partitions_to_txn(context: Context, request: Any, handle: Handler) -> _Answer:
    """Clients need WRITE for the id and every topic; the later form is for brokers."""
    if context.version >= _SEVERAL_TRANSACTIONS:
        if not _on_cluster(context, Operation.CLUSTER_ACTION):
            return plain(context, request, _CLUSTER_REFUSED)
        return handle(context, request)
    kind = ResourceType.TRANSACTIONAL_ID
    topics = request.v3_and_below_topics
    code_of = dict.fromkeys((topic.name for topic in topics), int(KafkaError.OPERATION_NOT_ATTEMPTED))
    if not context.may(Operation.WRITE, kind, request.v3_and_below_transactional_id):
        code_of = dict.fromkeys(code_of, CODES[kind])
    else:
        refused = [name for name in code_of if not context.may(Operation.WRITE, ResourceType.TOPIC, name)]
        if not refused:
            return handle(context, request)
        code_of.update(dict.fromkeys(refused, _TOPIC_REFUSED))
    response: Any = APIS[context.key].response()
    row_class = item_class(type(response), "results_by_topic_v3_and_below")
    response.results_by_topic_v3_and_below = [
        mirrored(row_class, topic, code_of[topic.name]) for topic in topics
    ]
    return response  # type: ignore[no-any-return]


def write_txn_markers(context: Context, request: Any, handle: Handler) -> _Answer:
    """Administrators may end a hanging transaction; brokers may end any."""
    if _on_cluster(context, Operation.ALTER, quiet=True) or _on_cluster(context, Operation.CLUSTER_ACTION):
        return handle(context, request)
    return by_row("markers", "markers")(context, request, _CLUSTER_REFUSED)


def hide_topics_of_transactions(context: Context, request: Any, handle: Handler) -> _Answer:
    """Leave topics out that the client may not see."""

    def hide(response: Any) -> None:
        for row in response.transaction_states:
            row.topics = [topic for topic in row.topics if _sees(context, topic.topic)]

    return then(handle(context, request), hide)


# --- topics ---------------------------------------------------------------------------------------


def hide_configs_of_new_topics(context: Context, request: Any, handle: Handler) -> _Answer:
    """Who may not see a topic's configuration is not told that of one it makes (KIP-525)."""

    def hide(response: Any) -> None:
        for row in response.topics:
            if row.error_code or context.may(
                Operation.DESCRIBE_CONFIGS, ResourceType.TOPIC, row.name, quiet=True
            ):
                continue
            row.topic_config_error_code = _TOPIC_REFUSED
            row.num_partitions = row.replication_factor = -1
            row.configs = []

    return then(handle(context, request), hide)


# --- groups ---------------------------------------------------------------------------------------


def refuse_join(context: Context, request: Any, code: int) -> Message:
    """JoinGroup's refusal: older versions have no way to say that there is no protocol."""
    response: Any = plain(context, request, code)
    response.protocol_name = None if context.version >= _NULLABLE_PROTOCOL else ""
    return response  # type: ignore[no-any-return]


def subscribe(context: Context, request: Any, handle: Handler) -> _Answer:
    """A member subscribes to topics that it may see, or to none."""
    return _with_topics(context, request, handle, request.subscribed_topic_names or ())


def bring_topology(context: Context, request: Any, handle: Handler) -> _Answer:
    """A member of a streams group may see the topics of its topology; the group asks who may make them."""
    if request.topology is None:
        return handle(context, request)
    names: list[str] = []
    for part in request.topology.subtopologies:
        names += [*part.source_topics, *part.repartition_sink_topics]
        names += [one.name for one in (*part.repartition_source_topics, *part.state_changelog_topics)]
    return _with_topics(context, request, handle, names)


def _with_topics(context: Context, request: Any, handle: Handler, names: Iterable[str]) -> _Answer:
    for name in first_seen(names)[0]:
        if not context.may(Operation.DESCRIBE, ResourceType.TOPIC, name):
            return plain(context, request, _TOPIC_REFUSED)
    return handle(context, request)


def hide_groups_of_hidden_topics(context: Context, request: Any, handle: Handler) -> _Answer:
    """A group with a topic that the client may not see is not described."""

    def hide(response: Any) -> None:
        kind: Any = item_class(type(response), "groups")
        response.groups = [
            group
            if all(_sees(context, name) for name in _topics_in(group))
            else kind(group_id=group.group_id, error_code=_TOPIC_REFUSED, error_message=_HIDDEN)
            for group in response.groups
        ]

    return then(handle(context, request), hide)


def _topics_in(group: Any) -> set[str]:
    """Return the topics that the description of a group names."""
    topology = getattr(group, "topology", None)
    if topology is not None:
        found: set[str] = set()
        for part in topology.subtopologies or ():
            found.update(part.source_topics, part.repartition_sink_topics)
            found.update(one.name for one in part.repartition_source_topics)
            found.update(one.name for one in part.state_changelog_topics)
        return found
    return {
        row.topic_name
        for member in group.members
        for assignment in (member.assignment, getattr(member, "target_assignment", None))
        for row in getattr(assignment, "topic_partitions", ())
    }


def hide_offsets_of_hidden_topics(context: Context, request: Any, handle: Handler) -> _Answer:
    """Share groups' offsets: topics asked for by name are refused one by one, others left out."""
    refused: dict[str, list[Struct]] = {}
    kind = item_class(item_class(APIS[context.key].response, "groups"), "topics")
    for group in request.groups:
        if group.topics is not None:
            may = [one for one in group.topics if _sees(context, one.topic_name)]
            refused[group.group_id] = [
                mirrored(kind, one, _TOPIC_REFUSED)
                for one in group.topics
                if not _sees(context, one.topic_name)
            ]
            group.topics = may

    def hide(response: Any) -> None:
        for group in response.groups:
            if not group.error_code:
                group.topics = [topic for topic in group.topics if _sees(context, topic.topic_name)]
                group.topics += refused.get(group.group_id, ())

    return then(handle(context, request), hide)


# --- refusals -------------------------------------------------------------------------------------


def refuse_replica_log_dirs(context: Context, request: Any, code: int) -> Message:
    """AlterReplicaLogDirs's refusal: its topics are named within directories."""
    response: Any = APIS[context.key].response()
    kind = item_class(type(response), "results")
    response.results = [mirrored(kind, topic, code) for one in request.dirs for topic in one.topics]
    return response  # type: ignore[no-any-return]


def refuse_credentials(context: Context, request: Any, code: int) -> Message:
    """AlterUserScramCredentials's refusal: each user is told once."""
    response: Any = APIS[context.key].response()
    kind = item_class(type(response), "results")
    users = first_seen(one.name for one in (*request.deletions, *request.upsertions))[0]
    response.results = [mirrored(kind, user, code) for user in users]
    return response  # type: ignore[no-any-return]
