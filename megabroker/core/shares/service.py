"""The share groups of a broker: members, sessions and what has been acquired, put together.

Owns which share groups there are and what concerns a group as a whole: names, offsets set by administrators,
deletion. Membership is ``members_service``'s, records in flight are ``partitions``', sessions ``sessions``'.

A name belongs to one kind of group: as long as a share group is there, with members or with nothing but
offsets, it is no consumer group, and the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from megabroker.core.groups.configs import GroupConfigs
from megabroker.core.groups.errors import refusal, stopped
from megabroker.core.groups.offsets import OrderedWrites
from megabroker.core.shares.assignor import SIMPLE
from megabroker.core.shares.live import SHARE_PARTITIONS_TABLE
from megabroker.core.shares.members_service import SHARE_GROUPS_TABLE, ShareMembers
from megabroker.core.shares.partitions import SharePartitions
from megabroker.core.shares.sessions import ShareSession, ShareSessions
from megabroker.core.shares.settings import ShareSettings
from megabroker.core.timers import TimerWheel
from megabroker.errors import BrokerError, ErrorCode
from megabroker.interfaces import IMetadataStore, IShareService, ITopicService
from megabroker.model import (
    ConsumerHeartbeatAnswer,
    GroupSummary,
    ShareGroupDescription,
    ShareHeartbeat,
    TopicPartition,
)

__all__ = ["ShareService"]

_TYPE = "share"


@implementer(IShareService)
class ShareService:
    """All share groups this broker coordinates.

    Args:
        clock: source of time and delayed calls.
        is_taken: whether a group of another kind has this name.

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
    ) -> None:
        self.configs = configs
        self._metadata = metadata
        self._topics = topics
        self._is_taken = is_taken
        self._timers = TimerWheel(clock)
        writes = OrderedWrites(metadata)
        self.partitions = SharePartitions(clock, self._timers, writes, topics, configs)
        self._members = ShareMembers(
            self._timers, writes, settings, configs, topics.all, self.partitions.__contains__
        )
        self.sessions = ShareSessions(settings.max_sessions)
        self._stopped = False
        configs.on_change(self._reconfigure)

    def __contains__(self, group_id: str) -> bool:
        return group_id in self._members or group_id in self.partitions

    # --- life of the service ----------------------------------------------------------------------

    def load(self) -> None:
        """Read what the store holds. Blocking; call once, after the topics are loaded."""
        self._members.load(self._metadata.rows(SHARE_GROUPS_TABLE))
        self.partitions.load(self._metadata.rows(SHARE_PARTITIONS_TABLE))

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
        if group_id in self.partitions:
            return ShareGroupDescription(group_id, "Empty", 0, 0, SIMPLE)
        raise refusal(ErrorCode.GROUP_NOT_FOUND, f"share group {group_id[:100]!r} not found")

    def all(self) -> Sequence[GroupSummary]:
        """See ``IShareService.all``."""
        self._check_running()
        ids = {*self._members.ids(), *self.partitions.groups()}
        return [
            GroupSummary(
                group_id,
                _TYPE,
                self._members.state(group_id) if group_id in self._members else "Empty",
                _TYPE,
            )
            for group_id in sorted(ids)
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
        elif group_id not in self.partitions and not missing:
            raise refusal(ErrorCode.GROUP_NOT_FOUND)

    def delete(self, group_id: str) -> Deferred[None]:
        """See ``IShareService.delete``."""
        try:
            self._check_empty(group_id)
        except BrokerError as error:
            return fail(error)
        self._members.forget(group_id)
        places = self.partitions.places(group_id)
        return self.partitions.forget(group_id, places, self._members.removal(group_id))

    def set_offsets(self, group_id: str, offsets: Mapping[TopicPartition, int]) -> Deferred[None]:
        """See ``IShareService.set_offsets``."""
        try:
            self._check_empty(group_id, missing=True)
        except BrokerError as error:
            return fail(error)
        places = {}
        for partition, offset in offsets.items():
            topic = self._topics.get(partition.topic)
            if topic is not None:
                places[topic.id, partition.partition] = offset
        made = self._members.create(group_id)
        return made.addCallback(lambda _: self.partitions.begin_at(group_id, places))

    def delete_offsets(
        self, group_id: str, topics: Iterable[str]
    ) -> Deferred[Mapping[str, ErrorCode | None]]:
        """See ``IShareService.delete_offsets``."""
        try:
            self._check_empty(group_id)
        except BrokerError as error:
            return fail(error)
        outcomes: dict[str, ErrorCode | None] = {}
        gone = []
        known = self.partitions.places(group_id)
        for name in topics:
            topic = self._topics.get(name)
            found = [place for place in known if topic is not None and place[0] == topic.id]
            outcomes[name] = None if found else ErrorCode.UNKNOWN_TOPIC
            gone += found
        if gone and group_id not in self._members:
            # The group is still there, though nothing of it was stored but its offsets.
            self._members.create(group_id).addErrback(lambda _: None)
        return self.partitions.forget(group_id, gone).addCallback(lambda _: outcomes)

    def topic_deleted(self, topic: str) -> None:
        """See ``IShareService.topic_deleted``."""
        self._members.look_at_topics()
        self.partitions.topic_deleted(lambda topic_id: self._topics.get_by_id(topic_id) is not None)
