"""StreamsGroupHeartbeat (88): join, live on in and leave a streams group (KIP-1071).

**Behaviour.** Member epoch 0 joins, -1 leaves. The broker makes the internal topics of the application,
decides their partitions, and hands out its tasks; until the topology is ready the status says what is
missing. Tasks are told when they have changed and to who joins. The answer comes when what it tells is
stored. Static members, offsets of tasks, warm-up tasks and sources by regular expression are
INVALID_REQUEST, as with Apache Kafka 4.3.

**Version notes.** There is only 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.model import HostPort
from megabroker.model.streams_groups import (
    InternalTopic,
    Role,
    StreamsAnswer,
    StreamsEndpoint,
    StreamsHeartbeat,
    Subtopology,
    TaskAssignment,
    TaskSet,
    Topology,
)
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.groups import check_group, client_host, client_id, group_error
from megabroker.protocols.kafka.schema import streams_group_heartbeat as wire

__all__ = ["handle"]

_MAX_ID_CHARS: Final = 4200
_MAX_TAGS: Final = 100

T = TypeVar("T")

_Endpoint = wire.Response.PartitionsByUserEndpoint


async def handle(context: Context, request: wire.Request) -> wire.Response:
    """Answer when the member's new state is stored, or refused."""
    try:
        check_group(context, request.group_id)
        _check(request)
        answer = await context.broker.groups.streams_heartbeat(_translated(context, request))
    except BrokerError as error:
        return wire.Response(error_code=group_error(error), error_message=error.message)
    return _told(answer)


def _check(request: wire.Request) -> None:
    """Refuse what is not served. Raises RequestError."""
    if request.instance_id is not None:
        raise RequestError(ErrorCode.INVALID_REQUEST, "streams groups have no static members")
    if request.task_offsets is not None or request.task_end_offsets is not None:
        raise RequestError(ErrorCode.INVALID_REQUEST, "offsets of tasks are not used")
    if request.warmup_tasks:
        raise RequestError(ErrorCode.INVALID_REQUEST, "there are no warm-up tasks")
    tasks = (request.active_tasks, request.standby_tasks, request.warmup_tasks)
    if any(one is not None for one in tasks) and any(one is None for one in tasks):
        raise RequestError(ErrorCode.INVALID_REQUEST, "tasks are said in all roles or in none")
    texts = (request.member_id, request.rack_id or "", request.process_id or "")
    if max(map(len, texts)) > _MAX_ID_CHARS or len(request.client_tags or ()) > _MAX_TAGS:
        raise RequestError(
            ErrorCode.INVALID_REQUEST,
            f"expected ids of at most {_MAX_ID_CHARS} characters and at most {_MAX_TAGS} tags",
        )
    if request.topology is not None and any(one.source_topic_regex for one in request.topology.subtopologies):
        raise RequestError(ErrorCode.INVALID_REQUEST, "source topics are named, not matched")


def _translated(context: Context, request: wire.Request) -> StreamsHeartbeat:
    owned = None
    if request.active_tasks is not None:
        owned = {
            **_tasks(Role.ACTIVE, request.active_tasks),
            **_tasks(Role.STANDBY, request.standby_tasks or ()),
        }
    endpoint = request.user_endpoint
    return StreamsHeartbeat(
        group_id=request.group_id,
        member_id=request.member_id,
        member_epoch=request.member_epoch,
        client_id=client_id(context),
        client_host=client_host(context),
        endpoint_epoch=request.endpoint_information_epoch,
        rack_id=request.rack_id,
        rebalance_timeout_ms=request.rebalance_timeout_ms,
        topology=None if request.topology is None else _topology(request.topology),
        owned=owned,
        process_id=request.process_id,
        endpoint=None if endpoint is None else HostPort(endpoint.host, endpoint.port),
        tags=None if request.client_tags is None else {tag.key: tag.value for tag in request.client_tags},
        shutdown=request.shutdown_application,
        principal=context.principal,
    )


def _tasks(role: Role, rows: Iterable[wire.TaskIds]) -> dict[TaskSet, frozenset[int]]:
    found: dict[TaskSet, frozenset[int]] = {}
    for row in rows:
        if row.partitions:
            tasks = TaskSet(role, row.subtopology_id)
            found[tasks] = found.get(tasks, frozenset()) | frozenset(row.partitions)
    return found


def _topology(row: wire.Request.Topology) -> Topology:
    return Topology(row.epoch, tuple(_subtopology(one) for one in row.subtopologies))


def _subtopology(row: wire.Request.Topology.Subtopology) -> Subtopology:
    repartitions = tuple(_internal(topic) for topic in row.repartition_source_topics)
    copartitioned = tuple(
        frozenset(
            [
                *(_at(row.source_topics, place) for place in group.source_topics),
                *(_at(repartitions, place).name for place in group.repartition_source_topics),
            ]
        )
        for group in row.copartition_groups
    )
    return Subtopology(
        row.subtopology_id,
        tuple(row.source_topics),
        tuple(row.repartition_sink_topics),
        repartitions,
        tuple(_internal(topic) for topic in row.state_changelog_topics),
        copartitioned,
    )


def _at(listed: Sequence[T], place: int) -> T:
    if not 0 <= place < len(listed):
        raise RequestError(
            ErrorCode.STREAMS_INVALID_TOPOLOGY, "a group of copartitioned topics names one that is not there"
        )
    return listed[place]


def _internal(row: wire.TopicInfo) -> InternalTopic:
    configs = {config.key: config.value for config in row.topic_configs}
    return InternalTopic(row.name, row.partitions, row.replication_factor, configs)


def _told(answer: StreamsAnswer) -> wire.Response:
    response = wire.Response(
        member_id=answer.member_id,
        member_epoch=answer.member_epoch,
        heartbeat_interval_ms=answer.heartbeat_interval_ms,
        status=[wire.Response.Status(status_code=code, status_detail=text) for code, text in answer.status],
        endpoint_information_epoch=answer.endpoint_epoch,
    )
    if answer.assigned is not None:
        response.active_tasks = _task_ids(Role.ACTIVE, answer.assigned)
        response.standby_tasks = _task_ids(Role.STANDBY, answer.assigned)
        response.warmup_tasks = _task_ids(Role.WARMUP, answer.assigned)
    if answer.endpoints is not None:
        response.partitions_by_user_endpoint = [_endpoint(one) for one in answer.endpoints]
    return response


def _task_ids(role: Role, assigned: TaskAssignment) -> list[wire.TaskIds]:
    return [
        wire.TaskIds(subtopology_id=tasks.subtopology, partitions=sorted(indexes))
        for tasks, indexes in sorted(assigned.items(), key=lambda item: item[0].subtopology)
        if tasks.role is role
    ]


def _endpoint(one: StreamsEndpoint) -> _Endpoint:
    return _Endpoint(
        user_endpoint=_Endpoint.UserEndpoint(host=one.address.host, port=one.address.port),
        active_partitions=_partitions(one.active),
        standby_partitions=_partitions(one.standby),
    )


def _partitions(topics: Mapping[str, Sequence[int]]) -> list[wire.TopicPartition]:
    return [wire.TopicPartition(topic=topic, partitions=list(indexes)) for topic, indexes in topics.items()]
