"""Groups of every kind: their states and members."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from megabroker.access import Operation, ResourceType
from megabroker.errors import ErrorCode, RequestError
from megabroker.http.caller import Caller
from megabroker.http.paging import MOST_ROWS, PAGES, page, paged
from megabroker.http.routes import Call, Need, Route
from megabroker.http.schema import Integer, ListOf, Nullable, Object, Text, optional, required
from megabroker.model import GroupSummary
from megabroker.model.streams_groups import TaskAssignment

__all__ = ["DESCRIBE_GROUP", "ROUTES", "describe_group", "known_group", "visible_groups"]

_MOST_PARTITIONS: Final = 100_000

DESCRIBE_GROUP: Final = Need(Operation.DESCRIBE, ResourceType.GROUP, "group")
"""The right to see a group."""

_SUMMARY: Final = Object(
    {
        "group": required(Text(), "Name of the group."),
        "type": required(Text(), "classic, consumer, streams or share."),
        "state": required(Text(), "State of the group, by Kafka's name."),
        "protocol_type": required(Text(), "Protocol type; consumer for groups of consumers."),
    },
    "Group",
)

_ASSIGNED: Final = Object(
    {
        "topic": required(Text(), "Name of a topic, or of a subtopology."),
        "partitions": required(
            ListOf(Integer(0), maximum=_MOST_PARTITIONS), "Numbers of the partitions or tasks."
        ),
    },
    "Assigned",
)

_MEMBER: Final = Object(
    {
        "member": required(Text(), "Id of the member."),
        "instance": required(Nullable(Text()), "Instance id of a static member."),
        "client_id": required(Text(), "Client id."),
        "host": required(Text(), "Client address."),
        "epoch": required(Nullable(Integer()), "Member epoch; null in classic groups."),
        "topics": required(ListOf(Text(), maximum=_MOST_PARTITIONS), "Topics that the member subscribes to."),
        "pattern": required(Nullable(Text()), "Regular expression that the member subscribes with."),
        "assignment": required(ListOf(_ASSIGNED, maximum=_MOST_PARTITIONS), "Assigned partitions."),
    },
    "Member",
)

_GROUP: Final = Object(
    {
        **_SUMMARY.fields,
        "epoch": required(Nullable(Integer()), "Group epoch; null for classic groups."),
        "assignor": required(Text(), "Name of the assignor."),
        "coordinator": required(Integer(0), "Node that coordinates the group."),
        "members": required(ListOf(_MEMBER, maximum=MOST_ROWS), "Members on this page, sorted by id."),
        "next_page_token": required(Nullable(Text()), "page_token of the next page; null on the last page."),
    },
    "GroupDescription",
)


def visible_groups(caller: Caller) -> list[GroupSummary]:
    """Return the groups that the caller may see, by name."""
    sees_all = caller.may(Operation.DESCRIBE, quiet=True)
    return [
        group
        for group in sorted([*caller.broker.groups.all(), *caller.broker.shares.all()])
        if sees_all or caller.sees(ResourceType.GROUP, group.group_id)
    ]


def known_group(caller: Caller, name: str) -> GroupSummary:
    """Return a group. Raises RequestError (GROUP_NOT_FOUND)."""
    broker = caller.broker
    for group in broker.shares.all() if name in broker.shares else broker.groups.all():
        if group.group_id == name:
            return group
    raise RequestError(ErrorCode.GROUP_NOT_FOUND, f"no group is called {name[:200]!r}")


def show_group(group: GroupSummary) -> dict[str, Any]:
    """Return what a list has of a group."""
    return {
        "group": group.group_id,
        "type": group.group_type.lower(),
        "state": group.state,
        "protocol_type": group.protocol_type,
    }


def describe_group(caller: Caller, name: str) -> dict[str, Any]:
    """Return all that is to be said of a group. Raises BrokerError (GROUP_NOT_FOUND)."""
    group = known_group(caller, name)
    shown = show_group(group)
    describe = _DESCRIBED.get(shown["type"], _classic)
    epoch, assignor, members = describe(caller, name)
    return {
        **shown,
        "epoch": epoch,
        "assignor": assignor,
        "coordinator": caller.broker.placement.coordinator(name).id,
        "members": sorted(members, key=lambda one: str(one["member"])),
    }


def _classic(caller: Caller, name: str) -> tuple[int | None, str, list[Any]]:
    found = caller.broker.groups.describe(name)
    metadata = caller.broker.groups.consumer_metadata
    reads = metadata is not None and found.protocol_type == "consumer"
    members = []
    for one in found.members:
        topics: Iterable[str] = ()
        assignment: Mapping[str, Iterable[int]] = {}
        if reads and metadata is not None:
            subscription = metadata.read_subscription(one.metadata)
            topics = () if subscription is None else subscription.topics
            found_here = metadata.read_assignment(one.assignment) or {}
            assignment = {
                name: of for name, of in found_here.items() if caller.sees(ResourceType.TOPIC, name)
            }
        members.append(_member(caller, one, None, topics, None, assignment))
    return None, found.protocol_name, members


def _consumers(caller: Caller, name: str) -> tuple[int | None, str, list[Any]]:
    found = caller.broker.groups.describe_consumers(name)
    members = [
        _member(
            caller,
            one,
            one.member_epoch,
            one.topic_names,
            one.topic_pattern,
            _by_name(caller, one.assignment),
        )
        for one in found.members
    ]
    return found.group_epoch, found.assignor, members


def _shares(caller: Caller, name: str) -> tuple[int | None, str, list[Any]]:
    found = caller.broker.shares.describe(name)
    members = [
        _member(caller, one, one.member_epoch, one.topic_names, None, _by_name(caller, one.assignment))
        for one in found.members
    ]
    return found.group_epoch, found.assignor, members


def _streams(caller: Caller, name: str) -> tuple[int | None, str, list[Any]]:
    found = caller.broker.groups.describe_streams(name)
    members = [
        _member(caller, one, one.member_epoch, (), None, _tasks(one.assigned)) for one in found.members
    ]
    return found.group_epoch, "streams", members


def _tasks(assigned: TaskAssignment) -> dict[str, frozenset[int]]:
    return {f"{tasks.role.value} {tasks.subtopology}": numbers for tasks, numbers in assigned.items()}


_DESCRIBED: Final = {"classic": _classic, "consumer": _consumers, "share": _shares, "streams": _streams}


def _by_name(caller: Caller, assignment: Mapping[Any, frozenset[int]]) -> dict[str, frozenset[int]]:
    """Return an assignment by the names of topics; those that may not be seen are left out."""
    topics = ((caller.broker.topics.get_by_id(topic_id), found) for topic_id, found in assignment.items())
    return {
        topic.name: found
        for topic, found in topics
        if topic is not None and caller.sees(ResourceType.TOPIC, topic.name)
    }


def _member(
    caller: Caller,
    one: Any,
    epoch: int | None,
    topics: Iterable[str],
    pattern: str | None,
    assignment: Mapping[str, Iterable[int]],
) -> dict[str, Any]:
    return {
        "member": one.member_id,
        "instance": getattr(one, "instance_id", None),
        "client_id": one.client_id,
        "host": one.client_host.removeprefix("/"),
        "epoch": epoch,
        "topics": sorted(name for name in topics if caller.sees(ResourceType.TOPIC, name)),
        "pattern": pattern,
        "assignment": [
            {"topic": name, "partitions": sorted(numbers)} for name, numbers in sorted(assignment.items())
        ],
    }


def list_groups(call: Call) -> Any:
    """Return a page of the groups that the caller may see."""
    state, kind = call.query["state"], call.query["type"]
    groups = [
        group
        for group in visible_groups(call.caller)
        if (state is None or group.state.lower() == state.lower())
        and (kind is None or group.group_type.lower() == kind)
    ]
    return page(call, "groups", groups, lambda group: group.group_id, show_group)


def get_group(call: Call) -> Any:
    """Describe a group, with a page of its members."""
    found = describe_group(call.caller, call.path["group"])
    return {**found, **page(call, "members", found["members"], lambda one: one["member"], lambda one: one)}


async def delete_group(call: Call) -> Any:
    """Delete a group without members."""
    caller, name = call.caller, call.path["group"]
    broker = caller.broker
    await (broker.shares if name in broker.shares else broker.groups).delete(name)
    caller.changed("DeleteGroups", name)


ROUTES: Final = (
    Route(
        "GET",
        "/v1/groups",
        list_groups,
        "Groups, sorted by name.",
        paged("groups", _SUMMARY, "Groups"),
        query={
            "state": optional(Nullable(Text(0, 100)), "Only groups in this state."),
            "type": optional(
                Nullable(Text(choices=("classic", "consumer", "streams", "share"))),
                "Only groups of this type.",
            ),
            **PAGES,
        },
        asks="DESCRIBE on the cluster or on each group; other groups are omitted",
    ),
    Route(
        "GET",
        "/v1/groups/{group}",
        get_group,
        "A group and its members.",
        _GROUP,
        query=PAGES,
        needs=(DESCRIBE_GROUP,),
    ),
    Route(
        "DELETE",
        "/v1/groups/{group}",
        delete_group,
        "Delete a group without members, and its offsets.",
        needs=(Need(Operation.DELETE, ResourceType.GROUP, "group"),),
        status=204,
    ),
)
