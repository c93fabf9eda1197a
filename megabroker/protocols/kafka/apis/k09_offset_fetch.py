"""OffsetFetch (9): where groups stand.

**Behaviour.** Null topics mean every partition the group has committed. A partition without a commit has
offset -1 and no error, and so has every partition of a group nobody knows. Who asks for stable offsets gets
UNSTABLE_OFFSET_COMMIT for a partition whose offset an open transaction may change.

**Version notes.** 0 tells a partition without a commit by UNKNOWN_TOPIC_OR_PARTITION. Until 1 what is wrong
with the group is told at each partition, from 2 to 7 for the whole answer, from 8 for each of several groups,
each answered once. 9 may name a member to be checked, 10 names topics by id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from megabroker.access import Operation, ResourceType
from megabroker.core.groups.transactional import IUnstableOffsets
from megabroker.errors import BrokerError
from megabroker.model import CommittedOffset, TopicPartition
from megabroker.protocols.kafka.access.refusals import not_allowed
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.groups import check_group, group_error
from megabroker.protocols.kafka.schema import offset_fetch
from megabroker.protocols.kafka.topics import by_id

__all__ = ["handle"]

_ERROR_FOR_ALL = 2
_SEVERAL_GROUPS = 8
_BY_ID = 10

_NO_OFFSET = CommittedOffset(-1)
_NONE: Set[TopicPartition] = frozenset()

_OneTopic = offset_fetch.Response.Topic
_Wanted = offset_fetch.Request.Group
_Group = offset_fetch.Response.Group
_Topic = offset_fetch.Response.Group.Topic
_Partition = offset_fetch.Response.Group.Topic.Partition


def handle(context: Context, request: offset_fetch.Request) -> offset_fetch.Response:
    """Answer at once."""
    stable = request.require_stable
    if context.version < _SEVERAL_GROUPS:
        return _one_group(context, request)
    distinct: dict[str, _Wanted] = {}
    for wanted in request.groups:
        distinct.setdefault(wanted.group_id, wanted)
    return offset_fetch.Response(groups=[_answer_group(context, one, stable) for one in distinct.values()])


def _answer_group(context: Context, wanted: _Wanted, require_stable: bool) -> _Group:
    broker = context.broker
    group = _Group(group_id=wanted.group_id)
    try:
        if not context.may(Operation.DESCRIBE, ResourceType.GROUP, wanted.group_id):
            raise not_allowed(ResourceType.GROUP)
        check_group(context, wanted.group_id)
        if wanted.member_id is not None and wanted.member_epoch >= 0:
            broker.groups.check_member(wanted.group_id, wanted.member_id, wanted.member_epoch)
        unstable = IUnstableOffsets(broker.groups).unstable(wanted.group_id) if require_stable else _NONE
        if wanted.topics is None:
            group.topics = _everything(context, wanted.group_id, unstable)
        else:
            group.topics = _some(context, wanted.group_id, wanted.topics, unstable)
    except BrokerError as error:
        group.error_code = group_error(error)
    return group


def _everything(context: Context, group_id: str, unstable: Set[TopicPartition]) -> list[_Topic]:
    broker = context.broker
    topics: dict[str, _Topic] = {}
    offsets = {**dict.fromkeys(unstable, _NO_OFFSET), **broker.groups.committed(group_id, None)}
    for where in sorted(offsets):
        topic = topics.get(where.topic)
        if topic is None:
            known = broker.topics.get(where.topic)
            if known is None and context.version >= _BY_ID:
                continue
            if not _sees(context, where.topic, quiet=True):
                continue
            topic = topics[where.topic] = _Topic(name=where.topic)
            if known is not None:
                topic.topic_id = known.id.bytes
        topic.partitions.append(_look_up(offsets, where, unstable))
    return list(topics.values())


def _some(
    context: Context, group_id: str, wanted: Sequence[_Wanted.Topic], unstable: Set[TopicPartition]
) -> list[_Topic]:
    names: list[str | None] = [topic.name for topic in wanted]
    if context.version >= _BY_ID:
        known = [by_id(context.broker, topic.topic_id) for topic in wanted]
        names = [None if one is None else one.name for one in known]
    asked = {
        TopicPartition(name, index)
        for name, topic in zip(names, wanted, strict=True)
        if name is not None
        for index in topic.partition_indexes
    }
    offsets = context.broker.groups.committed(group_id, asked)
    rows = []
    hidden = {name for name in names if name is not None and not _sees(context, name)}
    for name, topic in zip(names, wanted, strict=True):
        row = _Topic(name=topic.name, topic_id=topic.topic_id)
        rows.append(row)
        for index in topic.partition_indexes:
            if name is None:
                partition = _found(index, _NO_OFFSET)
                partition.error_code = int(KafkaError.UNKNOWN_TOPIC_ID)
            elif name in hidden:
                partition = _found(index, _NO_OFFSET)
                partition.error_code = int(KafkaError.TOPIC_AUTHORIZATION_FAILED)
            else:
                partition = _look_up(offsets, TopicPartition(name, index), unstable)
            row.partitions.append(partition)
    return rows


def _sees(context: Context, name: str, *, quiet: bool = False) -> bool:
    return context.may(Operation.DESCRIBE, ResourceType.TOPIC, name, quiet=quiet)


def _look_up(
    offsets: Mapping[TopicPartition, CommittedOffset], where: TopicPartition, unstable: Set[TopicPartition]
) -> _Partition:
    if where in unstable:
        found = _found(where.partition, _NO_OFFSET)
        found.error_code = int(KafkaError.UNSTABLE_OFFSET_COMMIT)
        return found
    return _found(where.partition, offsets.get(where, _NO_OFFSET))


def _found(index: int, offset: CommittedOffset) -> _Partition:
    return _Partition(
        partition_index=index,
        committed_offset=offset.offset,
        committed_leader_epoch=offset.leader_epoch,
        metadata=offset.metadata,
    )


def _one_group(context: Context, request: offset_fetch.Request) -> offset_fetch.Response:
    """Answer the older form, in which the request is about one group."""
    topics = request.topics
    wanted = _Wanted(
        group_id=request.group_id,
        topics=None
        if topics is None
        else [_Wanted.Topic(name=one.name, partition_indexes=one.partition_indexes) for one in topics],
    )
    group = _answer_group(context, wanted, request.require_stable)
    if group.error_code and context.version < _ERROR_FOR_ALL:
        group.topics = _refused(wanted, group.error_code)
    response = offset_fetch.Response(error_code=group.error_code)
    for topic in group.topics:
        row = _OneTopic(name=topic.name)
        response.topics.append(row)
        for one in topic.partitions:
            code = one.error_code
            if context.version == 0 and code == 0 and one.committed_offset < 0:
                code = int(KafkaError.UNKNOWN_TOPIC_OR_PARTITION)
            row.partitions.append(
                _OneTopic.Partition(
                    partition_index=one.partition_index,
                    committed_offset=one.committed_offset,
                    committed_leader_epoch=one.committed_leader_epoch,
                    metadata=one.metadata,
                    error_code=code,
                )
            )
    return response


def _refused(wanted: _Wanted, code: int) -> list[_Topic]:
    rows = []
    for topic in wanted.topics or ():
        row = _Topic(name=topic.name)
        rows.append(row)
        for index in topic.partition_indexes:
            partition = _found(index, _NO_OFFSET)
            partition.error_code = code
            row.partitions.append(partition)
    return rows
