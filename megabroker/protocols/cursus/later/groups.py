"""Groups of the later dialect: groups of the consumer protocol (KIP-848), seen by all wires.

A member here is a member there: the broker assigns, the generation of this dialect is the member's epoch, and
members of this dialect share a group with consumers of Kafka's. As clients of this dialect are told of new
partitions by joining again, a heartbeat whose answer would bring news is answered GEN_MISMATCH; the join that
follows gives up what the member had and takes what is its own.

Owns the words and replies. The groups are the core's, and nothing is kept here.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any, Final

from megabroker.access import Operation, ResourceType
from megabroker.errors import BrokerError, ErrorCode
from megabroker.interfaces import IBroker
from megabroker.model import (
    CommittedOffset,
    ConsumerHeartbeat,
    ConsumerMember,
    Principal,
    TopicAssignment,
    TopicPartition,
)
from megabroker.protocols.cursus.later.calling import Call, Reply
from megabroker.protocols.cursus.later.errands import Carried, Errand, found_topic
from megabroker.protocols.cursus.later.refusals import Refusal
from megabroker.protocols.cursus.later.words import Need

__all__ = [
    "batch_commit",
    "commit_offset",
    "errands",
    "fetch_offset",
    "heartbeat",
    "join",
    "leave",
    "list_groups",
    "register",
    "status",
    "sync",
]

_CLIENT_ID: Final = "cursus"
_REBALANCE_TIMEOUT_MS: Final = 60_000
_JOIN_EPOCH: Final = 0
_LEAVE_EPOCH: Final = -1
_SUFFIXES: Final = 10_000
_TRIES: Final = 20
_LONG_SUFFIX_BYTES: Final = 8
_SEES = Need(Operation.DESCRIBE, ResourceType.GROUP, "")
_SEES_TOPIC = Need(Operation.DESCRIBE, ResourceType.TOPIC, "")


async def register(call: Call) -> Reply:
    """REGISTER_GROUP: a group is there from its first member or offset on, and needs no more."""
    found_topic(call.broker, call["topic"])
    return f"OK group={call['group']} topic={call['topic']} registered=true"


async def join(call: Call) -> Reply:
    """JOIN_GROUP."""
    found_topic(call.broker, call["topic"])
    client = call.client
    fields = await call.office.at_coordinator(
        call["group"], "join", **call.values, principal=list(client.principal), host=client.peer_host
    )
    resumed = " resumed=true" if fields["resumed"] else ""
    return (
        f"OK generation={fields['generation']} member={fields['member']} "
        f"assignments={_listed(fields['assignments'])}{resumed}"
    )


async def sync(call: Call) -> Reply:
    """SYNC_GROUP."""
    fields = await call.office.at_coordinator(call["group"], "sync", **call.values)
    return (
        f"OK generation={fields['generation']} member={call['member']} "
        f"assignments={_listed(fields['assignments'])}"
    )


async def heartbeat(call: Call) -> Reply:
    """HEARTBEAT."""
    await call.office.at_coordinator(call["group"], "heartbeat", **call.values)
    return f"OK member={call['member']} generation={call['generation']}"


async def leave(call: Call) -> Reply:
    """LEAVE_GROUP."""
    await call.office.at_coordinator(call["group"], "leave", **call.values)
    return f"OK group={call['group']} member={call['member']} left=true"


async def fetch_offset(call: Call) -> Reply:
    """FETCH_OFFSET: the beginning where nothing is committed."""
    found_topic(call.broker, call["topic"])
    fields = await call.office.at_coordinator(call["group"], "fetch_offset", **call.values)
    return f"OK offset={fields['offset'] or 0}"


async def commit_offset(call: Call) -> Reply:
    """COMMIT_OFFSET."""
    offsets = {call["partition"]: call["offset"]}
    await _commit(call, offsets)
    return "OK"


async def batch_commit(call: Call) -> Reply:
    """BATCH_COMMIT."""
    await _commit(call, call["offsets"])
    return f"OK batched={len(call['offsets'])}"


async def _commit(call: Call, offsets: Mapping[int, int]) -> None:
    found_topic(call.broker, call["topic"])
    values = {**call.values, "offsets": list(offsets.items())}
    await call.office.at_coordinator(call["group"], "commit", **values)


async def status(call: Call) -> Reply:
    """GROUP_STATUS: of the topics those that the client may know of, and their partitions."""
    fields = await call.office.at_coordinator(call["group"], "group_status", **call.values)
    topics = {name: count for name, count in fields["topics"].items() if call.sees(_SEES_TOPIC, name)}
    members = [
        {
            "member_id": member,
            "assignments": sorted(index for name in topics for index in owned.get(name, ())),
        }
        for member, owned in fields["members"]
    ]
    described = {
        "status": "OK",
        "group_name": call["group"],
        "topic_name": ",".join(topics),
        "state": fields["state"],
        "generation": fields["generation"],
        "member_count": len(members),
        "partition_count": sum(topics.values()),
        "members": members,
    }
    return json.dumps(described, separators=(",", ":"), ensure_ascii=False)


async def list_groups(call: Call) -> Reply:
    """LIST_GROUPS: those that the client may know of."""
    fields = await call.office.at_coordinator("", "list_groups")
    names = [name for name in fields["groups"] if call.sees(_SEES, name)]
    return f"OK count={len(names)} groups={','.join(names)}"


def _listed(partitions: list[int]) -> str:
    return f"[{' '.join(map(str, partitions))}]"


# --- where groups are coordinated ------------------------------------------------------------------


class _Groups:
    def __init__(self, broker: IBroker) -> None:
        self._broker = broker
        self._groups = broker.groups

    def _member(self, fields: Mapping[str, Any], generation: int | None) -> ConsumerMember:
        """Return the member a command is of. Raises Refusal unless it is one, in its generation."""
        group, name = fields["group"], fields["member"]
        try:
            member = self._groups.consumer_member(group, name)
        except BrokerError as error:
            if error.code is not ErrorCode.GROUP_NOT_FOUND:
                raise
            raise Refusal("group_not_found", group=group) from None
        if member is None:
            raise Refusal("member_not_found", member=name, group=group)
        if generation is not None and generation >= 0 and generation != member.member_epoch:
            raise _mismatch(fields, member.member_epoch)
        return member

    def _assigned(self, topic_name: str, assignment: TopicAssignment | None) -> list[int]:
        topic = self._broker.topics.get(topic_name)
        return [] if topic is None or assignment is None else sorted(assignment.get(topic.id, ()))

    async def join(self, fields: Mapping[str, Any], _: bytes) -> Carried:
        """Join, join again, or say which generation a member is in (when the command does)."""
        generation = fields["generation"]
        if generation is not None and generation >= 0:
            member = self._member(fields, generation)
            assigned = self._assigned(fields["topic"], member.assignment)
            return _joined(member.member_id, generation, assigned, resumed=True), b""
        answer = await self._groups.consumer_heartbeat(
            ConsumerHeartbeat(
                fields["group"],
                self._id_for(fields["group"], fields["member"]),
                _JOIN_EPOCH,
                client_id=_CLIENT_ID,
                client_host=f"/{fields['host']}",
                rebalance_timeout_ms=_REBALANCE_TIMEOUT_MS,
                topic_names=frozenset({fields["topic"]}),
                owned={},
                principal=Principal(*fields["principal"]),
            )
        )
        assigned = self._assigned(fields["topic"], answer.assignment)
        return _joined(answer.member_id, answer.member_epoch, assigned, resumed=False), b""

    def _id_for(self, group: str, name: str) -> str:
        """Return a member's own id, or a new one that begins with its name."""
        for _ in range(_TRIES):
            new = f"{name}-{secrets.randbelow(_SUFFIXES):04d}"
            try:
                if self._groups.consumer_member(group, name) is not None:
                    return name
                if self._groups.consumer_member(group, new) is None:
                    return new
            except BrokerError:
                return new
        # A group may have more members of one name than there are short suffixes.
        return f"{name}-{secrets.token_hex(_LONG_SUFFIX_BYTES)}"

    async def sync(self, fields: Mapping[str, Any], _: bytes) -> Carried:
        """Return what a member has."""
        member = self._member(fields, fields["generation"])
        assigned = self._assigned(fields["topic"], member.assignment)
        return {"generation": member.member_epoch, "assignments": assigned}, b""

    async def heartbeat(self, fields: Mapping[str, Any], _: bytes) -> Carried:
        """Keep a member in its group, unless there is news for it."""
        generation = self._member(fields, fields["generation"]).member_epoch
        answer = await self._groups.consumer_heartbeat(
            ConsumerHeartbeat(fields["group"], fields["member"], generation, client_id=_CLIENT_ID)
        )
        if answer.assignment is not None or answer.member_epoch != generation:
            raise _mismatch(fields, answer.member_epoch)
        return {}, b""

    async def leave(self, fields: Mapping[str, Any], _: bytes) -> Carried:
        """Take a member out of its group."""
        self._member(fields, fields["generation"])
        await self._groups.consumer_heartbeat(
            ConsumerHeartbeat(fields["group"], fields["member"], _LEAVE_EPOCH, client_id=_CLIENT_ID)
        )
        return {}, b""

    async def fetch_offset(self, fields: Mapping[str, Any], _: bytes) -> Carried:
        """Return what is committed, None if nothing is."""
        place = TopicPartition(fields["topic"], fields["partition"])
        found = self._groups.committed(fields["group"], [place]).get(place)
        return {"offset": None if found is None else found.offset}, b""

    async def commit(self, fields: Mapping[str, Any], _: bytes) -> Carried:
        """Commit offsets of partitions that the member has, none of them backwards; all or none."""
        offsets = self._judged(fields)
        stored = await self._groups.commit(
            fields["group"], fields["generation"], fields["member"], None, offsets
        )
        for place, code in stored.items():
            if code is not None:
                raise Refusal("broker_error", code.value, partition=place.partition)
        return {}, b""

    def _judged(self, fields: Mapping[str, Any]) -> dict[TopicPartition, CommittedOffset]:
        topic, group = fields["topic"], fields["group"]
        member = self._member(fields, fields["generation"])
        owned = self._assigned(topic, member.assignment)
        offsets = {TopicPartition(topic, index): offset for index, offset in fields["offsets"]}
        committed = self._groups.committed(group, offsets)
        for place, offset in offsets.items():
            if place.partition not in owned:
                raise Refusal(
                    "NOT_OWNER",
                    partition=place.partition,
                    member=fields["member"],
                    group=group,
                    generation=fields["generation"],
                )
            before = committed.get(place)
            if before is not None and offset < before.offset:
                raise Refusal(
                    "offset_regression", partition=place.partition, current=before.offset, requested=offset
                )
        return {place: CommittedOffset(offset) for place, offset in offsets.items()}

    async def group_status(self, fields: Mapping[str, Any], _: bytes) -> Carried:
        """Describe a group of either of Kafka's protocols."""
        group = fields["group"]
        try:
            found = self._groups.describe_consumers(group)
        except BrokerError:
            return self._classic_status(group), b""
        names = sorted({name for member in found.members for name in member.topic_names})
        members = [
            (member.member_id, {name: self._assigned(name, member.assignment) for name in names})
            for member in found.members
        ]
        return {
            "state": found.state,
            "generation": found.group_epoch,
            "topics": {name: self._partitions_of(name) for name in names},
            "members": members,
        }, b""

    def _classic_status(self, group: str) -> Mapping[str, Any]:
        if group not in self._groups:
            raise Refusal("group_not_found", group=group)
        found = self._groups.describe(group)
        return {
            "state": found.state,
            "generation": -1,
            "topics": {},
            "members": [(member.member_id, {}) for member in found.members],
        }

    def _partitions_of(self, name: str) -> int:
        topic = self._broker.topics.get(name)
        return 0 if topic is None else topic.partitions

    async def list_groups(self, fields: Mapping[str, Any], _: bytes) -> Carried:
        """Return every group."""
        return {"groups": [group.group_id for group in self._groups.all()]}, b""


def _joined(member: str, generation: int, assigned: list[int], *, resumed: bool) -> Mapping[str, Any]:
    return {"member": member, "generation": generation, "assignments": assigned, "resumed": resumed}


def _mismatch(fields: Mapping[str, Any], current: int) -> Refusal:
    return Refusal(
        "GEN_MISMATCH",
        current=current,
        requested=fields["generation"],
        group=fields["group"],
        member=fields["member"],
    )


def errands(broker: IBroker) -> Mapping[str, Errand]:
    """Return what is carried out where groups are coordinated."""
    groups = _Groups(broker)
    return {
        "join": groups.join,
        "sync": groups.sync,
        "heartbeat": groups.heartbeat,
        "leave": groups.leave,
        "fetch_offset": groups.fetch_offset,
        "commit": groups.commit,
        "group_status": groups.group_status,
        "list_groups": groups.list_groups,
    }
