"""Share groups across processes: the coordinator asked by leaders, leaders told by the coordinator.

Owns who is asked about which partitions; see ``ISharePeers``. What concerns several leaders is asked of all
at once and fails when one of them fails; it can be asked again as a whole, and what was asked before and is
late is then no longer carried out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from twisted.internet.defer import Deferred, DeferredList
from zope.interface import implementer

from megabroker.errors import ErrorCode, PeerError
from megabroker.interfaces import IPeers, IPlacement, ISharePeers, ITopicService
from megabroker.model import SharePartitionOffset, TopicPartition
from megabroker.protocols.kafka.schema import keep_share_partitions, vouch_share_group
from megabroker.protocols.kafka.schema.keep_share_partitions import BEGIN, DESCRIBE, FORGET
from megabroker.protocols.kafka.schema.told_error import error_of

__all__ = ["SharePeers"]

_VOUCH: Final = 1016
_KEEP: Final = 1017
_SECONDS: Final = 5.0

_Place = tuple[UUID, int]
_Named = keep_share_partitions.Request.Partition


@implementer(ISharePeers)
class SharePeers:
    """Asks the other processes."""

    def __init__(self, peers: IPeers, placement: IPlacement, topics: ITopicService) -> None:
        self._peers = peers
        self._placement = placement
        self._topics = topics
        # Above those of the process before, unless the clock was set back; then the leader says so.
        self._number = time.time_ns()

    def leads(self, place: _Place) -> bool:
        """Whether a partition is led here; so is, for want of a leader, one of no topic."""
        return self._leader(place) == self._placement.me.id

    def _leader(self, place: _Place) -> int:
        topic = self._topics.get_by_id(place[0])
        if topic is None:
            return self._placement.me.id
        return self._placement.leader(TopicPartition(topic.name, place[1])).id

    def vouch(self, group_id: str) -> Deferred[None]:
        """See ``ISharePeers.vouch``."""
        return self._ask(
            self._placement.coordinator(group_id).id, _VOUCH, vouch_share_group.Request(group_id=group_id)
        )

    def offsets(
        self, group_id: str, places: Sequence[_Place] | None
    ) -> Deferred[Mapping[_Place, SharePartitionOffset]]:
        """See ``ISharePeers.offsets``."""
        named = None if places is None else [_named(place) for place in places]
        return self._keep(DESCRIBE, group_id, named).addCallback(_offsets)

    def begin_at(self, group_id: str, offsets: Mapping[_Place, int]) -> Deferred[None]:
        """See ``ISharePeers.begin_at``."""
        named = [_named(place, offset) for place, offset in offsets.items()]
        return self._keep(BEGIN, group_id, named).addCallback(_nothing)

    def forget(self, group_id: str, places: Sequence[_Place] | None) -> Deferred[None]:
        """See ``ISharePeers.forget``."""
        named = None if places is None else [_named(place) for place in places]
        return self._keep(FORGET, group_id, named).addCallback(_nothing)

    def _keep(self, action: int, group_id: str, named: list[_Named] | None) -> Deferred[list[Any]]:
        """Ask all leaders concerned; fire with their answers, or fail with the first failure."""
        by_node: dict[int, list[_Named] | None] = {}
        if named is None:
            me = self._placement.me.id
            by_node = {node.id: None for node in self._placement.nodes() if node.id != me}
        for one in named or ():
            node_id = self._leader((UUID(bytes=one.topic_id), one.index))
            theirs = by_node.setdefault(node_id, [])
            assert theirs is not None
            theirs.append(one)
        self._number += 1
        asked = []
        for node_id, theirs in by_node.items():
            request = keep_share_partitions.Request(
                number=self._number, action=action, group_id=group_id, partitions=theirs
            )
            asked.append(self._ask(node_id, _KEEP, request).addCallback(self._in_time, request.number))
        return DeferredList(asked, consumeErrors=True).addCallback(_all_good)

    def _in_time(self, response: keep_share_partitions.Response, number: int) -> Any:
        if response.number > number:
            self._number = max(self._number, response.number)
            raise PeerError(ErrorCode.UNREACHABLE, "the group was changed by a later request", sent=False)
        return response

    def _ask(self, node_id: int, key: int, request: Any) -> Deferred[Any]:
        asked = self._peers.ask(node_id, key, 0, request, timeout_seconds=_SECONDS, repeat=True)
        return asked.addCallback(_checked)


def _named(place: _Place, start_offset: int = -1) -> _Named:
    return _Named(topic_id=place[0].bytes, index=place[1], start_offset=start_offset)


def _checked(response: Any) -> Any:
    error = error_of(response.error)
    if error is not None:
        raise error
    return response


def _all_good(results: list[tuple[bool, Any]]) -> list[Any]:
    for good, result in results:
        if not good:
            result.raiseException()
    return [result for _, result in results]


def _offsets(responses: list[keep_share_partitions.Response]) -> Mapping[_Place, SharePartitionOffset]:
    return {
        (UUID(bytes=bytes(one.topic_id)), one.index): SharePartitionOffset(
            one.start_offset, one.leader_epoch, one.lag
        )
        for response in responses
        for one in response.partitions
    }


def _nothing(_: object) -> None:
    """It is done."""
