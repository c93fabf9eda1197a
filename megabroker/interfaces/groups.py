"""Consumer groups and their committed offsets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import (
    CommittedOffset,
    ConsumerGroupDescription,
    ConsumerHeartbeat,
    ConsumerHeartbeatAnswer,
    ConsumerMember,
    GroupDescription,
    GroupSummary,
    JoinedGroup,
    JoinRequest,
    LeavingMember,
    Subscription,
    SyncedGroup,
    SyncRequest,
    TopicPartition,
)
from megabroker.model.streams_groups import StreamsAnswer, StreamsGroupDescription, StreamsHeartbeat

__all__ = ["IConsumerMetadata", "IGroupService"]


class IConsumerMetadata(Interface):
    """Reads and writes what consumers put into the opaque bytes of classic groups. Never raises."""

    def read_subscription(metadata: bytes) -> Subscription | None:
        """Read what a member joined with; None when that cannot be told."""

    def read_assignment(assignment: bytes) -> Mapping[str, frozenset[int]] | None:
        """Read the partitions by topic that a member was assigned; None when that cannot be told."""

    def write_assignment(version: int, partitions: Mapping[str, frozenset[int]]) -> bytes:
        """Write what a member is assigned, in a version it can read."""


class IGroupService(Interface):
    """Consumer groups of both protocols and their committed offsets, for those this node coordinates."""

    consumer_metadata: IConsumerMetadata | None = Attribute(
        "Reads and writes what consumers say in classic groups; a wire sets it. Without it no group changes "
        "its protocol while it has members."
    )
    is_share: Callable[[str], bool] = Attribute("Whether a share group has a name, which is then not free.")

    def __contains__(group_id: str) -> bool:
        """Whether there is such a group, with members or with offsets only."""

    subscribed_topics: Callable[[str, bytes], Set[str] | None] | None = Attribute(
        "Reads the topics out of a member's subscription (protocol type, metadata); a wire sets it."
    )

    def join(request: JoinRequest) -> Deferred[JoinedGroup]:
        """Join or rejoin; fires when the rebalance is complete.

        Fails with StateError or RequestError: MEMBER_ID_REQUIRED and FENCED_INSTANCE among them. The error of
        MEMBER_ID_REQUIRED carries the new id as its attribute ``member_id``.
        """

    def sync(request: SyncRequest) -> Deferred[SyncedGroup]:
        """Fetch the assignment; fires when the leader has brought it. Fails with BrokerError."""

    def heartbeat(group_id: str, generation: int, member_id: str, instance_id: str | None) -> None:
        """Keep a session alive. Raises BrokerError (REBALANCE_IN_PROGRESS included)."""

    def leave(group_id: str, members: Sequence[LeavingMember]) -> Sequence[BrokerError | None]:
        """Remove members; one outcome each. Raises BrokerError for the group as a whole."""

    def commit(
        group_id: str,
        generation: int,
        member_id: str,
        instance_id: str | None,
        offsets: Mapping[TopicPartition, CommittedOffset],
    ) -> Deferred[Mapping[TopicPartition, ErrorCode | None]]:
        """Store offsets; fires when they are on disk. Fails with BrokerError for the group as a whole.

        A generation below 0 with an empty member id is a commit from outside the group protocol.
        """

    def committed(
        group_id: str, partitions: Iterable[TopicPartition] | None
    ) -> Mapping[TopicPartition, CommittedOffset]:
        """Return the committed offsets asked for (all, with None); partitions without one are absent."""

    def check_member(group_id: str, member_id: str, member_epoch: int) -> None:
        """Raise BrokerError unless this member may read the group's offsets (OffsetFetch v9+)."""

    def consumer_heartbeat(request: ConsumerHeartbeat) -> Deferred[ConsumerHeartbeatAnswer]:
        """Join, stay in or leave a group of the consumer protocol (KIP-848); fires when that is stored.

        Fails with BrokerError: FENCED_MEMBER_EPOCH, UNKNOWN_MEMBER, UNRELEASED_INSTANCE, FENCED_INSTANCE,
        UNSUPPORTED_ASSIGNOR, INVALID_PATTERN, GROUP_FULL and GROUP_NOT_FOUND among them.
        """

    def streams_heartbeat(request: StreamsHeartbeat) -> Deferred[StreamsAnswer]:
        """Join, stay in or leave a streams group (KIP-1071); fires when that is stored.

        Fails with BrokerError: FENCED_MEMBER_EPOCH, UNKNOWN_MEMBER, STREAMS_INVALID_TOPOLOGY,
        INVALID_REQUEST, GROUP_FULL and GROUP_NOT_FOUND among them.
        """

    def describe(group_id: str) -> GroupDescription:
        """Describe one classic group."""

    def describe_consumers(group_id: str) -> ConsumerGroupDescription:
        """Describe one group of the consumer protocol. Raises BrokerError (GROUP_NOT_FOUND)."""

    def consumer_member(group_id: str, member_id: str) -> ConsumerMember | None:
        """Return one member of a group of the consumer protocol. Raises BrokerError (GROUP_NOT_FOUND)."""

    def describe_streams(group_id: str) -> StreamsGroupDescription:
        """Describe one streams group. Raises BrokerError (GROUP_NOT_FOUND)."""

    def all() -> Sequence[GroupSummary]:
        """List every group."""

    def delete(group_id: str) -> Deferred[None]:
        """Delete an empty group and its offsets. Fails with GROUP_NOT_FOUND or GROUP_NOT_EMPTY."""

    def delete_offsets(
        group_id: str, partitions: Sequence[TopicPartition]
    ) -> Deferred[Mapping[TopicPartition, ErrorCode | None]]:
        """Delete offsets of partitions nobody in the group is subscribed to."""

    def topic_deleted(topic: str) -> None:
        """Forget the offsets of a topic."""
