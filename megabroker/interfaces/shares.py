"""Share groups (KIP-932): their members, and records in flight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from megabroker.errors import ErrorCode
from megabroker.interfaces.partitions import IPartition
from megabroker.model import (
    AcknowledgementBatch,
    AcquiredRecords,
    ConsumerHeartbeatAnswer,
    GroupSummary,
    LogSpan,
    ShareGroupDescription,
    ShareHeartbeat,
    SharePartitionOffset,
    TopicPartition,
)

__all__ = ["IShareConsumer", "ISharePeers", "IShareService"]


class IShareConsumer(Interface):
    """A member of a share group in one partition, for wires that read records one by one.

    The member reads the log from ``next_offset`` on, tells what it found, and is told what of it is its own:

        offset = consumer.next_offset()
        ...                                  # RecordReader gives the records from there on
        consumer.acquire(offset, spans, 100)
    """

    def next_offset() -> int | None:
        """Return from where records can be had, which the log need not have yet; None if nowhere now.

        Raises:
            StateError: TOPIC_LIMIT, groups consume too many partitions.
        """

    def acquire(from_offset: int, spans: Sequence[LogSpan], max_records: int) -> Sequence[AcquiredRecords]:
        """Make records the member's, for as long as the group's configuration says.

        Args:
            from_offset: what ``next_offset`` gave, in the same turn.
            spans: the records found from there on, in order; what lies between them is never delivered.

        Returns:
            What of them is the member's now, ``max_records`` at most, and how often it was delivered.
        """

    def acknowledge(batches: Sequence[AcknowledgementBatch]) -> Deferred[None]:
        """Say what has become of records, all or none; fires when that is stored.

        Fails with RequestError, or StateError (INVALID_RECORD_STATE: they are not the member's any more).
        """

    def close() -> None:
        """Give back what the member still has, and be called back no more."""


class IShareService(Interface):
    """Share groups (KIP-932), for those this node coordinates, and what they have acquired here."""

    configs: Any = Attribute("Configurations of all groups: ``megabroker.core.groups.configs``.")
    partitions: Any = Attribute("Records in flight: ``megabroker.core.shares.partitions``.")
    sessions: Any = Attribute("Share sessions: ``megabroker.core.shares.sessions``.")

    def __contains__(group_id: str) -> bool:
        """Whether there is such a group, with members or with offsets only."""

    def check_name(group_id: str) -> None:
        """Raise StateError (GROUP_NOT_FOUND) if a group of another kind has this name."""

    def heartbeat(request: ShareHeartbeat) -> Deferred[ConsumerHeartbeatAnswer]:
        """Join, stay in or leave a share group; fires when that is stored.

        Fails with BrokerError: UNKNOWN_MEMBER, FENCED_MEMBER_EPOCH, GROUP_FULL, GROUP_NOT_FOUND (which a
        group of another kind is too) among them.
        """

    def consumer(
        group_id: str, member_id: str, partition: IPartition, callback: Callable[[], None]
    ) -> IShareConsumer:
        """Return a member's share of a partition led here, for wires without share sessions.

        A group that has consumed nothing of the partition begins where its log does. Such members are not
        among those that the group is described with.

        Args:
            callback: called whenever there may be more to be had.

        Raises:
            StateError: NOT_LEADER; GROUP_NOT_FOUND, a group of another kind has the name.
        """

    def end_session(group_id: str, member_id: str) -> Any | None:
        """End a member's share session and take back what it has acquired; return the session, if any."""

    def connection_closed(owner: object) -> None:
        """End the share sessions of a connection and take back what their members have acquired."""

    def vouched(group_id: str) -> Deferred[None] | None:
        """Say whether there is such a group, if that is not known here.

        Returns:
            None where it is; else what fires when the coordinator knows it, and fails with GROUP_NOT_FOUND.
        """

    def offsets(
        group_id: str, places: Sequence[tuple[UUID, int]] | None
    ) -> Deferred[Mapping[tuple[UUID, int], SharePartitionOffset]]:
        """Say how far a group is in partitions, (topic id, number) each; with None in all it consumes."""

    def asked_by_leader(group_id: str) -> None:
        """Take note that another leader keeps something of a group. Raises StateError(GROUP_NOT_FOUND)."""

    def number(group_id: str, number: int) -> int:
        """Take note of the number of a change the coordinator asks for; return the highest of the group."""

    def gone(group_id: str) -> None:
        """Forget that there is such a group; its coordinator has deleted it."""

    def describe(group_id: str) -> ShareGroupDescription:
        """Describe one group. Raises BrokerError (GROUP_NOT_FOUND)."""

    def all() -> Sequence[GroupSummary]:
        """List every share group."""

    def delete(group_id: str) -> Deferred[None]:
        """Delete a group without members and all that is known of it.

        Fails with GROUP_NOT_FOUND or GROUP_NOT_EMPTY.
        """

    def set_offsets(group_id: str, offsets: Mapping[TopicPartition, int]) -> Deferred[None]:
        """Have a group without members, new perhaps, begin at other offsets; fires when that is stored."""

    def delete_offsets(group_id: str, topics: Iterable[str]) -> Deferred[Mapping[str, ErrorCode | None]]:
        """Forget how far a group without members is in topics; UNKNOWN_TOPIC where nothing is known."""

    def topic_deleted(topic: str) -> None:
        """Forget what groups have acquired of a topic."""


class ISharePeers(Interface):
    """What share groups need of the other processes of this broker. A partition is (topic id, number).

    A failed Deferred carries a BrokerError, PeerError among them: it may then be done in part.
    """

    def leads(place: tuple[UUID, int]) -> bool:
        """Whether this process leads a partition, or nobody does because its topic is not known."""

    def vouch(group_id: str) -> Deferred[None]:
        """Ask the coordinator whether there is such a share group; fails with GROUP_NOT_FOUND."""

    def offsets(
        group_id: str, places: Sequence[tuple[UUID, int]] | None
    ) -> Deferred[Mapping[tuple[UUID, int], SharePartitionOffset]]:
        """Ask the other leaders how far a group is in partitions of theirs; None for all it consumes."""

    def begin_at(group_id: str, offsets: Mapping[tuple[UUID, int], int]) -> Deferred[None]:
        """Have the other leaders begin a group anew in partitions of theirs; fires when that is stored."""

    def forget(group_id: str, places: Sequence[tuple[UUID, int]] | None) -> Deferred[None]:
        """Have the other leaders forget partitions; None for all, and the group with them."""
