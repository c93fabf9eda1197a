"""StreamsGroupDescribe (89): state, topology and members of streams groups (KIP-1071).

**Behaviour.** Each group is answered once. Groups nobody knows and those of other kinds are
GROUP_ID_NOT_FOUND. Internal topics are shown with the partitions that were decided for them.

**Version notes.** There is only 0.
"""

from __future__ import annotations

from megabroker.model.streams_groups import (
    InternalTopic,
    Role,
    StreamsMemberDescription,
    Subtopology,
    TaskAssignment,
    Topology,
)
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.groups import described
from megabroker.protocols.kafka.schema import streams_group_describe as wire

__all__ = ["handle"]

_Group = wire.Response.Group
_Member = wire.Response.Group.Member
_Topology = wire.Response.Group.Topology


def handle(context: Context, request: wire.Request) -> wire.Response:
    """Answer at once."""
    return wire.Response(groups=described(context, request, _describe, _Group))


def _describe(context: Context, group: wire.Response.Group) -> None:
    found = context.broker.groups.describe_streams(group.group_id)
    group.group_state = found.state
    group.group_epoch = found.group_epoch
    group.assignment_epoch = found.assignment_epoch
    group.topology = _topology(found.topology)
    group.members = [_member(member) for member in found.members]


def _topology(topology: Topology) -> wire.Response.Group.Topology:
    return _Topology(
        epoch=topology.epoch, subtopologies=[_subtopology(one) for one in topology.subtopologies]
    )


def _subtopology(part: Subtopology) -> wire.Response.Group.Topology.Subtopology:
    return _Topology.Subtopology(
        subtopology_id=part.id,
        source_topics=list(part.sources),
        repartition_sink_topics=list(part.sinks),
        state_changelog_topics=[_internal(topic) for topic in part.changelogs],
        repartition_source_topics=[_internal(topic) for topic in part.repartitions],
    )


def _internal(topic: InternalTopic) -> wire.TopicInfo:
    return wire.TopicInfo(
        name=topic.name,
        partitions=topic.partitions,
        replication_factor=topic.replication_factor,
        topic_configs=[wire.KeyValue(key=key, value=value) for key, value in sorted(topic.configs.items())],
    )


def _member(member: StreamsMemberDescription) -> wire.Response.Group.Member:
    endpoint = member.endpoint
    return _Member(
        member_id=member.member_id,
        member_epoch=member.member_epoch,
        rack_id=member.rack_id,
        client_id=member.client_id,
        client_host=member.client_host,
        topology_epoch=member.topology_epoch,
        process_id=member.process_id,
        user_endpoint=None
        if endpoint is None
        else _Member.UserEndpoint(host=endpoint.host, port=endpoint.port),
        client_tags=[wire.KeyValue(key=key, value=value) for key, value in sorted(member.tags.items())],
        assignment=_assignment(member.assigned),
        target_assignment=_assignment(member.target),
    )


def _assignment(tasks: TaskAssignment) -> wire.Assignment:
    found: dict[Role, list[wire.TaskIds]] = {role: [] for role in Role}
    for (role, part), indexes in sorted(tasks.items(), key=lambda item: item[0].subtopology):
        found[role].append(wire.TaskIds(subtopology_id=part, partitions=sorted(indexes)))
    return wire.Assignment(
        active_tasks=found[Role.ACTIVE],
        standby_tasks=found[Role.STANDBY],
        warmup_tasks=found[Role.WARMUP],
    )
