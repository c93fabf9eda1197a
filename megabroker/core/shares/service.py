"""The share groups of a broker: members, sessions and what has been acquired, put together.

Owns which share groups there are and what concerns a group as a whole: names, offsets set by administrators,
deletion. Membership is ``members_service``'s, records in flight are ``partitions``', sessions ``sessions``'.

Of several processes each keeps what has been acquired of the partitions it leads, and the coordinator the
members; what concerns a group as a whole reaches the leaders over ``ISharePeers``. A leader that has a group
asked of it which it does not know asks the coordinator, once.

A name belongs to one kind of group: as long as a share group is there, with members or with nothing but
offsets, it is no consumer group, and the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from megabroker.core.groups.configs import GroupConfigs
from megabroker.core.groups.errors import refusal, stopped
from megabroker.core.groups.offsets import OrderedWrites
from megabroker.core.groups.room import Room
from megabroker.core.shares.assignor import SIMPLE
from megabroker.core.shares.consuming import ShareConsumer
from megabroker.core.shares.live import SHARE_PARTITIONS_TABLE, Place
from megabroker.core.shares.members_service import SHARE_GROUPS_TABLE, ShareMembers
from megabroker.core.shares.partitions import SharePartitions
from megabroker.core.shares.sessions import ShareSession, ShareSessions
from megabroker.core.shares.settings import ShareSettings
from megabroker.core.timers import TimerWheel
from megabroker.errors import BrokerError, ErrorCode
from megabroker.interfaces import IMetadataStore, IPartition, ISharePeers, IShareService, ITopicService
from megabroker.model import (
    ConsumerHeartbeatAnswer,
    GroupSummary,
    ShareGroupDescription,
    ShareHeartbeat,
    SharePartitionOffset,
    TopicPartition,
)

__all__ = ["ShareService"]

_TYPE = "share"
_MAX_VOUCHED = 100_000


@implementer(IShareService)
class ShareService:
    """All share groups this broker coordinates.

    Args:
        clock: source of time and delayed calls.
        is_taken: whether a group of another kind has this name.
        peers: reaches the other processes; None where there are none.
        coordinates: whether this process has the members.

    Attributes:
        configs: of all groups.
        partitions: what has been acquired.
        sessions: who fetches what.
    """

    def __init__(
        self,
        clock: IReactorTime,
        metadata: IMetadataStore,
        settings: ShareSettings,
        topics: ITopicService,
        configs: GroupConfigs,
        is_taken: Callable[[str], bool],
        peers: ISharePeers | None = None,
        *,
        coordinates: bool = True,
    ) -> None:
        self.configs = configs
        self._leads: Callable[[Place], bool] = _always if peers is None else peers.leads
        self._peers = peers
        self._coordinates = coordinates
        # Coordinator: groups that other leaders keep something of. Leader: those the coordinator knows.
        self._elsewhere: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._metadata = metadata
        self._topics = topics
        self._is_taken = is_taken
        self._timers = TimerWheel(clock)
        writes = OrderedWrites(metadata)
        self.partitions = SharePartitions(clock, self._timers, writes, topics, configs)
        self._members = ShareMembers(self._timers, writes, settings, configs, topics.all, self._has_offsets)
        self.sessions = ShareSessions(settings.max_sessions)
        self._stopped = False
        configs.on_change(self._reconfigure)

    @property
    def room(self) -> Room:
        """What all share groups may take together."""
        return self._members.room

    def __contains__(self, group_id: str) -> bool:
        return group_id in self._members or self._has_offsets(group_id)

    def _has_offsets(self, group_id: str) -> bool:
        return group_id in self.partitions or group_id in self._elsewhere

    # --- life of the service ----------------------------------------------------------------------

    def load(self) -> None:
        """Read what the store holds. Blocking; call once, after the topics are loaded."""
        rows = self._metadata.rows(SHARE_PARTITIONS_TABLE)
        if self._coordinates:
            self._elsewhere = self.partitions.load(rows, self._leads)
            self._members.load(self._metadata.rows(SHARE_GROUPS_TABLE))
        else:
            self.partitions.load(rows, self._leads, clean=False)

    def stop(self) -> None:
        """Begin nothing new; what was taken is written."""
        self._stopped = True
        self.partitions.flush()
        self._timers.stop()

    def _check_running(self) -> None:
        if self._stopped:
            raise stopped()

    def _reconfigure(self, group_id: str) -> None:
        self._members.reconfigure(group_id)
        self.partitions.reconfigure(group_id)

    def check_name(self, group_id: str) -> None:
        """See ``IShareService.check_name``."""
        if self._is_taken(group_id):
            raise refusal(ErrorCode.GROUP_NOT_FOUND, "the group is no share group")

    def vouched(self, group_id: str) -> Deferred[None] | None:
        """See ``IShareService.vouched``."""
        if group_id in self:
            return None
        if self._peers is None or self._coordinates:
            return fail(refusal(ErrorCode.GROUP_NOT_FOUND, "there is no such share group"))

        def known(_: None) -> None:
            if len(self._elsewhere) >= _MAX_VOUCHED:
                self._elsewhere.clear()
            self._elsewhere.add(group_id)

        return self._peers.vouch(group_id).addCallback(known)

    def asked_by_leader(self, group_id: str) -> None:
        """Take note that another leader is about to keep something of a group. Raises GROUP_NOT_FOUND."""
        self._check_running()
        if not self._coordinates or group_id not in self:
            raise refusal(ErrorCode.GROUP_NOT_FOUND, "there is no such share group")
        self._elsewhere.add(group_id)

    def number(self, group_id: str, number: int) -> int:
        """See ``IShareService.number``."""
        if len(self._numbers) >= _MAX_VOUCHED and group_id not in self._numbers:
            self._numbers.clear()
        known = self._numbers[group_id] = max(number, self._numbers.get(group_id, number))
        return known

    def gone(self, group_id: str) -> None:
        """See ``IShareService.gone``."""
        self._elsewhere.discard(group_id)

    # --- members ----------------------------------------------------------------------------------

    def heartbeat(self, request: ShareHeartbeat) -> Deferred[ConsumerHeartbeatAnswer]:
        """See ``IShareService.heartbeat``."""
        if self._stopped:
            return fail(stopped())
        if not request.group_id.strip():
            return fail(refusal(ErrorCode.INVALID_REQUEST, "the group id must not be empty"))
        try:
            self.check_name(request.group_id)
        except BrokerError as error:
            return fail(error)
        return self._members.heartbeat(request)

    def consumer(
        self, group_id: str, member_id: str, partition: IPartition, callback: Callable[[], None]
    ) -> ShareConsumer:
        """See ``IShareService.consumer``."""
        self._check_running()
        self.check_name(group_id)
        if not partition.is_here:
            raise refusal(ErrorCode.NOT_LEADER, f"{partition.topic_partition} is led by another process")
        return ShareConsumer(self.partitions, group_id, member_id, partition, callback)

    def end_session(self, group_id: str, member_id: str) -> ShareSession | None:
        """See ``IShareService.end_session``."""
        session = self.sessions.end(group_id, member_id)
        if session is not None:
            self.partitions.release(group_id, member_id)
        return session

    def connection_closed(self, owner: object) -> None:
        """See ``IShareService.connection_closed``."""
        for session in self.sessions.end_all_of(owner):
            self.partitions.release(session.group_id, session.member_id)

    # --- asking -----------------------------------------------------------------------------------

    def describe(self, group_id: str) -> ShareGroupDescription:
        """See ``IShareService.describe``."""
        self._check_running()
        if group_id in self._members:
            return self._members.describe(group_id)
        if self._has_offsets(group_id):
            return ShareGroupDescription(group_id, "Empty", 0, 0, SIMPLE)
        raise refusal(ErrorCode.GROUP_NOT_FOUND, f"share group {group_id[:100]!r} not found")

    def all(self) -> Sequence[GroupSummary]:
        """See ``IShareService.all``."""
        self._check_running()
        return sorted(self.overview())

    @property
    def rebalances(self) -> int:
        """How often members of share groups were given partitions anew since the start."""
        return self._members.rebalances

    def overview(self) -> Sequence[GroupSummary]:
        """Return every share group, in no order, whether requests are answered or not any more."""
        ids = {*self._members.ids(), *self.partitions.groups()}
        if self._coordinates:
            ids |= self._elsewhere
        return [
            GroupSummary(
                group_id,
                _TYPE,
                self._members.state(group_id) if group_id in self._members else "Empty",
                _TYPE,
            )
            for group_id in ids
        ]

    # --- administration ---------------------------------------------------------------------------

    def _check_empty(self, group_id: str, *, missing: bool = False) -> None:
        """Raise StateError unless there is such a group, or may be one, without members."""
        self._check_running()
        if not group_id:
            raise refusal(ErrorCode.INVALID_GROUP)
        self.check_name(group_id)
        if group_id in self._members:
            if not self._members.is_vacant(group_id):
                raise refusal(ErrorCode.GROUP_NOT_EMPTY)
        elif not self._has_offsets(group_id) and not missing:
            raise refusal(ErrorCode.GROUP_NOT_FOUND)

    def offsets(
        self, group_id: str, places: Sequence[Place] | None
    ) -> Deferred[Mapping[Place, SharePartitionOffset]]:
        """See ``IShareService.offsets``."""
        if places is None:
            here, there = self.partitions.places(group_id), None
        else:
            here = [place for place in places if self._leads(place)]
            there = [place for place in places if not self._leads(place)]
        found = {place: self.partitions.offset(group_id, place) for place in here}
        if self._peers is None or there == []:
            return succeed(found)
        return self._peers.offsets(group_id, there).addCallback(lambda more: {**found, **more})

    def delete(self, group_id: str) -> Deferred[None]:
        """See ``IShareService.delete``."""
        return Deferred.fromCoroutine(self._delete(group_id))

    async def _delete(self, group_id: str) -> None:
        self._check_empty(group_id)
        if self._peers is not None:
            # First, so that what is left over after a failure is still a group, to be deleted again.
            await self._peers.forget(group_id, None)
            self._check_empty(group_id)
            self._elsewhere.discard(group_id)
        self._members.forget(group_id)
        places = self.partitions.places(group_id)
        await self.partitions.forget(group_id, places, self._members.removal(group_id))

    def set_offsets(self, group_id: str, offsets: Mapping[TopicPartition, int]) -> Deferred[None]:
        """See ``IShareService.set_offsets``."""
        return Deferred.fromCoroutine(self._set_offsets(group_id, offsets))

    async def _set_offsets(self, group_id: str, offsets: Mapping[TopicPartition, int]) -> None:
        self._check_empty(group_id, missing=True)
        here: dict[Place, int] = {}
        there: dict[Place, int] = {}
        for partition, offset in offsets.items():
            topic = self._topics.get(partition.topic)
            if topic is not None:
                place = topic.id, partition.partition
                (here if self._leads(place) else there)[place] = offset
        await self._members.create(group_id)
        if there and self._peers is not None:
            self._elsewhere.add(group_id)
            await self._peers.begin_at(group_id, there)
        await self.partitions.begin_at(group_id, here)

    def delete_offsets(
        self, group_id: str, topics: Iterable[str]
    ) -> Deferred[Mapping[str, ErrorCode | None]]:
        """See ``IShareService.delete_offsets``."""
        return Deferred.fromCoroutine(self._delete_offsets(group_id, topics))

    async def _delete_offsets(self, group_id: str, topics: Iterable[str]) -> Mapping[str, ErrorCode | None]:
        self._check_empty(group_id)
        outcomes: dict[str, ErrorCode | None] = {}
        here: list[Place] = []
        there: list[Place] = []
        known = set(self.partitions.places(group_id))
        if self._peers is not None:
            known |= set(await self._peers.offsets(group_id, None))
        for name in topics:
            topic = self._topics.get(name)
            found = sorted(place for place in known if topic is not None and place[0] == topic.id)
            outcomes[name] = None if found else ErrorCode.UNKNOWN_TOPIC
            for place in found:
                (here if self._leads(place) else there).append(place)
        if (here or there) and group_id not in self._members:
            # The group is still there, though nothing of it was stored but its offsets.
            self._members.create(group_id).addErrback(lambda _: None)
        if there and self._peers is not None:
            await self._peers.forget(group_id, there)
        await self.partitions.forget(group_id, here)
        return outcomes

    def topic_deleted(self, topic: str) -> None:
        """See ``IShareService.topic_deleted``."""
        self._members.look_at_topics()
        self.partitions.topic_deleted(lambda topic_id: self._topics.get_by_id(topic_id) is not None)


def _always(place: Place) -> bool:
    """There is nobody else."""
    return True
