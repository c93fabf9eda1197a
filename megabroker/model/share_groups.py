"""Share groups (KIP-932)."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

import attrs

from megabroker.model.consumer_groups import TopicAssignment

__all__ = [
    "AcknowledgeType",
    "AcknowledgementBatch",
    "AcquiredRecords",
    "LogSpan",
    "ShareGroupDescription",
    "ShareHeartbeat",
    "ShareMemberDescription",
    "SharePartitionOffset",
    "ShareState",
    "ShareStateBatch",
]


@attrs.frozen
class ShareHeartbeat:
    """A member of a share group (KIP-932) joining, living on or leaving.

    Attributes:
        member_epoch: 0 joins, -1 leaves.
        rack_id: None is "as before", as in ``topic_names``.
    """

    group_id: str
    member_id: str
    member_epoch: int
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topic_names: frozenset[str] | None = None


class LogSpan(NamedTuple):
    """A batch in a log as a share group looks at it.

    Attributes:
        last: offset of its last record.
        readable: whether it holds records that may be delivered; markers and what was aborted do not.
    """

    first: int
    last: int
    readable: bool = True


class AcquiredRecords(NamedTuple):
    """Records handed to one member of a share group, all for the ``delivery_count``-th time."""

    first_offset: int
    last_offset: int
    delivery_count: int


class AcknowledgeType(enum.IntEnum):
    """What a member says of a record it has acquired; the numbers are KIP-932's and KIP-1222's."""

    GAP = 0
    ACCEPT = 1
    RELEASE = 2
    REJECT = 3
    RENEW = 4


class AcknowledgementBatch(NamedTuple):
    """What a member says of neighbouring records: one type each, or one for all."""

    first_offset: int
    last_offset: int
    types: Sequence[int]


class ShareStateBatch(NamedTuple):
    """What is stored of neighbouring records in flight: KIP-932's number of their state, and deliveries."""

    first_offset: int
    last_offset: int
    delivery_state: int
    delivery_count: int


class ShareState(NamedTuple):
    """What is stored of one partition as a share group consumes it.

    Attributes:
        state_epoch: how often it was begun anew by an administrator.
        leader_epoch: the partition's when that was stored.
        start_offset: the first record that is not done with.
        complete_count: records behind it that are.
    """

    state_epoch: int
    leader_epoch: int
    start_offset: int
    complete_count: int
    batches: Sequence[ShareStateBatch] = ()


class SharePartitionOffset(NamedTuple):
    """How far a share group is in one partition; -1 stands for what is not known."""

    start_offset: int = -1
    leader_epoch: int = 0
    lag: int = -1


@attrs.frozen
class ShareMemberDescription:
    """A member of a share group as an administrator sees it."""

    member_id: str
    rack_id: str | None
    member_epoch: int
    client_id: str
    client_host: str
    topic_names: Sequence[str]
    assignment: TopicAssignment


@attrs.frozen
class ShareGroupDescription:
    """A share group as an administrator sees it; ``state`` is Kafka's word."""

    group_id: str
    state: str
    group_epoch: int
    assignment_epoch: int
    assignor: str
    members: Sequence[ShareMemberDescription] = ()
