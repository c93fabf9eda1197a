"""How much room groups take: how many there are, what their members say of themselves, their offsets.

Owns the bounds over all groups of a kind together; those of one group are its automaton's. What members say
is not counted exactly as they come and go: what is taken is added to an upper bound, and only when that no
longer fits everything is weighed anew, at most once a second. So a group that rebalances costs one addition
a member, and nobody is refused for what others have taken back more than a second ago.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from twisted.logger import Logger

from megabroker.core.groups.errors import refusal
from megabroker.errors import ErrorCode
from megabroker.model import ConsumerHeartbeat, JoinRequest, ShareHeartbeat, SyncRequest
from megabroker.model.streams_groups import StreamsHeartbeat, Topology

if TYPE_CHECKING:
    from megabroker.core.groups.consumer_members import ConsumerMember
    from megabroker.core.groups.members import Member
    from megabroker.core.groups.streams.members import StreamsMember

__all__ = [
    "MEMBER_BYTES",
    "Room",
    "classic_bytes",
    "consumer_bytes",
    "named_bytes",
    "said_bytes",
    "streams_bytes",
    "topology_bytes",
]

_log = Logger()

MEMBER_BYTES: Final = 1_000
"""What a member costs that says nothing."""

_WEIGHED_ANEW_MS: Final = 1_000


class Room:
    """The room that groups of one kind, or of several, have together.

    Args:
        groups: returns how many there are.
        weigh: returns what all members say now, in bytes.

    Attributes:
        refused_groups: how often ``max_groups`` has refused something.
        refused_members: how often ``max_member_bytes`` has.
        refused_offsets: how many offsets ``max_offsets`` has.
    """

    def __init__(
        self,
        max_groups: int,
        max_member_bytes: int,
        groups: Callable[[], int],
        weigh: Callable[[], int],
        now_ms: Callable[[], int],
    ) -> None:
        self._max_groups = max_groups
        self._max_member_bytes = max_member_bytes
        self._groups = groups
        self._weigh = weigh
        self._now_ms = now_ms
        self._at_most = 0
        self._weighed_ms: int | None = None
        self.refused_groups = 0
        self.refused_members = 0
        self.refused_offsets = 0

    def check_group(self) -> None:
        """Raise StateError(GROUP_FULL) unless there may be one more group."""
        if self._groups() >= self._max_groups:
            self.refused_groups += 1
            self._tell("groups.max_groups", self.refused_groups)
            raise refusal(
                ErrorCode.GROUP_FULL, f"there are {self._max_groups} groups already (groups.max_groups)"
            )

    def take(self, size_bytes: int) -> None:
        """Take what a member says. Raises StateError(GROUP_FULL) unless there is room."""
        if self._weighed_ms is None or self._at_most + size_bytes > self._max_member_bytes:
            self._weigh_anew()
        if self._at_most + size_bytes > self._max_member_bytes:
            self.refused_members += 1
            self._tell("groups.max_member_bytes", self.refused_members)
            raise refusal(
                ErrorCode.GROUP_FULL,
                f"what members say takes {self._max_member_bytes} bytes already (groups.max_member_bytes)",
            )
        self._at_most += size_bytes

    def refuse_offsets(self, count: int) -> None:
        """Count offsets that there is no room for."""
        before, self.refused_offsets = self.refused_offsets, self.refused_offsets + count
        if before.bit_length() != self.refused_offsets.bit_length():
            _log.warn("groups.max_offsets has refused {count} offset(s) so far", count=self.refused_offsets)

    def _weigh_anew(self) -> None:
        now_ms = self._now_ms()
        if self._weighed_ms is None or not 0 <= now_ms - self._weighed_ms < _WEIGHED_ANEW_MS:
            self._weighed_ms = now_ms
            self._at_most = self._weigh()

    def _tell(self, key: str, count: int) -> None:
        """Log a refusal, ever more rarely."""
        if count & (count - 1) == 0:
            _log.warn("{key} has refused members or commits ({count} so far)", key=key, count=count)


def said_bytes(
    request: JoinRequest | SyncRequest | ConsumerHeartbeat | StreamsHeartbeat | ShareHeartbeat,
) -> int:
    """Return what a request would have kept of its member, about; 0 for one that says nothing new."""
    if isinstance(request, JoinRequest):
        return MEMBER_BYTES + _texts(*(part for pair in request.protocols for part in pair))
    if isinstance(request, SyncRequest):
        return _texts(*request.assignments.values())
    if isinstance(request, StreamsHeartbeat):
        topology = 0 if request.topology is None else topology_bytes(request.topology)
        tags = request.tags or {}
        joins = MEMBER_BYTES if request.member_epoch == 0 else 0
        return joins + topology + _texts(*tags, *tags.values())
    pattern = None if isinstance(request, ShareHeartbeat) else request.topic_pattern
    if request.topic_names is None and pattern is None:
        return 0
    return MEMBER_BYTES + _texts(*(request.topic_names or ()), pattern or "")


def classic_bytes(members: Iterable[Member]) -> int:
    """Return what members of a classic group say, and what their leader has said of them, about."""
    return sum(
        MEMBER_BYTES + _texts(member.assignment, *(part for pair in member.protocols for part in pair))
        for member in members
    )


def consumer_bytes(members: Iterable[ConsumerMember]) -> int:
    """Return what members of a group of the consumer protocol say, about."""
    return sum(
        MEMBER_BYTES
        + _texts(member.topic_pattern, *member.topic_names)
        + (0 if member.classic is None else _texts(*(data for _, data in member.classic.protocols)))
        for member in members
    )


def streams_bytes(topology: Topology | None, members: Iterable[StreamsMember]) -> int:
    """Return what a streams group is, and what its members say, about."""
    said = sum(MEMBER_BYTES + _texts(*member.tags, *member.tags.values()) for member in members)
    return said if topology is None else said + topology_bytes(topology)


def named_bytes(members: Iterable[Iterable[str]]) -> int:
    """Return what members take that say nothing but names, about."""
    return sum(MEMBER_BYTES + _texts(*names) for names in members)


def topology_bytes(topology: Topology) -> int:
    """Return what a topology takes, about."""
    return sum(
        MEMBER_BYTES
        + _texts(*part.sources, *part.sinks)
        + sum(
            _texts(topic.name, *topic.configs, *topic.configs.values())
            for topic in (*part.repartitions, *part.changelogs)
        )
        for part in topology.subtopologies
    )


def _texts(*parts: str | bytes) -> int:
    return sum(100 + len(part) for part in parts)
