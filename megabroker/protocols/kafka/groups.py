"""What the requests about consumer groups need alike.

Owns no state. A group is answered for by the node that coordinates it; this module says when that is not
this one, and how an error of the broker reads to a group's member.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from megabroker.access import ResourceType
from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.topics import first_seen

__all__ = [
    "MAX_TEXT_BYTES",
    "check_group",
    "check_instance_id",
    "client_host",
    "client_id",
    "described",
    "fits",
    "group_error",
]

MAX_TEXT_BYTES: Final = 32_767
"""Longest string of the versions that are not flexible; what one client says, every other must be told."""

_MAX_CLIENT_ID_CHARS: Final = 4096
_INSTANCE_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)

# Members and commits retry what names the coordinator; storage errors would end most clients.
_AS_SEEN_BY_MEMBERS: Final = {
    ErrorCode.STORAGE: KafkaError.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.DISK_FULL: KafkaError.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.OVERLOADED: KafkaError.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.TIMED_OUT: KafkaError.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.UNREACHABLE: KafkaError.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.SHUTTING_DOWN: KafkaError.NOT_COORDINATOR,
}


def group_error(error: BrokerError) -> int:
    """Return the wire code for an error in a group's matters."""
    found = _AS_SEEN_BY_MEMBERS.get(error.code)
    return kafka_error(error) if found is None else int(found)


def described(
    context: Context, request: Any, describe: Callable[[Context, Any], None], group: Any
) -> list[Any]:
    """Return one described group for each id a request asks for, each id once.

    Args:
        request: of one of the kinds that describe groups whose members have epochs.
        describe: fills in a group. May raise BrokerError, which is then told of that group.
        group: the class of the answer's groups.
    """
    groups = []
    for group_id in first_seen(request.group_ids)[0]:
        row = group(group_id=group_id)
        groups.append(row)
        try:
            check_group(context, group_id)
            if not group_id:
                raise RequestError(ErrorCode.INVALID_GROUP, "the group id must not be empty")
            describe(context, row)
        except BrokerError as error:
            row.error_code = group_error(error)
            row.error_message = error.message
        else:
            if request.include_authorized_operations:
                row.authorized_operations = context.operations(ResourceType.GROUP, group_id)
    return groups


def check_group(context: Context, group_id: str) -> None:
    """Accept a group this node coordinates, under an id that every version can say.

    Raises:
        RequestError: INVALID_GROUP.
        StateError: NOT_COORDINATOR.
    """
    if not fits(group_id):
        raise RequestError(ErrorCode.INVALID_GROUP, f"a group id has at most {MAX_TEXT_BYTES} bytes")
    placement = context.broker.placement
    if placement.coordinator(group_id).id != placement.me.id:
        raise StateError(ErrorCode.NOT_COORDINATOR, "another node coordinates this group", retriable=True)


def check_instance_id(instance_id: str | None) -> None:
    """Accept a static member's id as Kafka does. Raises RequestError(INVALID_CONFIG)."""
    if instance_id is not None and (instance_id in (".", "..") or not _INSTANCE_ID.fullmatch(instance_id)):
        raise RequestError(
            ErrorCode.INVALID_CONFIG, "a group instance id has 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'"
        )


def fits(text: str) -> bool:
    """Whether every version can say ``text``."""
    return len(text) <= MAX_TEXT_BYTES // 4 or len(text.encode()) <= MAX_TEXT_BYTES


def client_id(context: Context) -> str:
    """Return what the client calls itself, cut so that a member id made of it can be said."""
    return context.client_id[:_MAX_CLIENT_ID_CHARS]


def client_host(context: Context) -> str:
    """Return where the client is, in the form of Kafka's tools."""
    return f"/{context.client_host}"
