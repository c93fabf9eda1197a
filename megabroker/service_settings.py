"""What the parts of the broker go by, taken from its configuration.

Owns that translation only: the core has settings of its own, so that it needs no configuration file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from megabroker.config.schema import Authorizer, Config
from megabroker.core.acls import AclSettings
from megabroker.core.backlog import Backlog
from megabroker.core.dedup import DedupScope, DedupSettings
from megabroker.core.groups.settings import GroupSettings
from megabroker.core.groups.streams import StreamsSettings
from megabroker.core.partitions import PartitionSettings
from megabroker.core.producer_room import ProducerRoom
from megabroker.core.shares import ShareSettings
from megabroker.core.topics import TopicLimits
from megabroker.core.transactions import TransactionSettings

if TYPE_CHECKING:
    from megabroker.core.authentication.tokens import TokenRules

__all__ = [
    "acl_settings",
    "dedup_settings",
    "group_settings",
    "partition_settings",
    "share_settings",
    "token_rules",
    "topic_limits",
    "transaction_settings",
]


def topic_limits(config: Config) -> TopicLimits:
    """Return the bounds on topics."""
    return TopicLimits(
        max_topics=config.topics.max_topics,
        max_partitions=config.topics.max_partitions,
        retention_check_interval_ms=config.retention_check_interval_ms,
    )


def partition_settings(config: Config) -> PartitionSettings:
    """Return what holds for every partition."""
    return PartitionSettings(
        partition_channel_buffer_size=config.partition_channel_buffer_size,
        partition_channel_buffer_bytes=config.partition_channel_buffer_bytes,
        durability=config.durability,
        producer_id_expiration_ms=config.producers.id_expiration_ms,
        max_producers=config.producers.max_per_partition,
        producer_room=ProducerRoom(config.producers.max_producers),
        backlog=Backlog(config.limits.unwritten_bytes),
    )


def group_settings(config: Config) -> GroupSettings:
    """Return what holds for consumer groups and streams groups."""
    groups = config.groups
    return GroupSettings(
        initial_rebalance_delay_ms=groups.initial_rebalance_delay_ms,
        min_session_timeout_ms=groups.min_session_timeout_ms,
        max_session_timeout_ms=groups.max_session_timeout_ms,
        max_groups=groups.max_groups,
        max_member_bytes=groups.max_member_bytes,
        max_offsets=groups.max_offsets,
        group_max_size=groups.max_members,
        may_upgrade=groups.migration_policy in ("bidirectional", "upgrade"),
        may_downgrade=groups.migration_policy in ("bidirectional", "downgrade"),
        consumer_heartbeat_interval_ms=groups.consumer_heartbeat_interval_ms,
        consumer_session_timeout_ms=groups.consumer_session_timeout_ms,
        offset_metadata_max_chars=groups.offset_metadata_max_bytes,
        offsets_retention_ms=groups.offsets_retention_ms,
        streams=StreamsSettings(
            heartbeat_interval_ms=groups.streams_heartbeat_interval_ms,
            session_timeout_ms=groups.streams_session_timeout_ms,
            standby_replicas=groups.streams_standby_replicas,
            group_max_size=groups.max_members,
        ),
    )


def acl_settings(config: Config) -> AclSettings:
    """Return who decides what somebody may do."""
    security = config.security
    return AclSettings(
        enabled=security.authorizer is Authorizer.ACLS,
        super_users=frozenset(security.super_users),
        allow_everyone_if_no_acl_found=security.allow_everyone_if_no_acl_found,
    )


def dedup_settings(config: Config) -> DedupSettings:
    """Return what holds for the deduplication window."""
    return DedupSettings(
        scope=DedupScope(config.dedup.scope.value),
        window_ms=config.dedup.window_ms,
        max_entries=config.dedup.max_entries,
    )


def share_settings(config: Config) -> ShareSettings:
    """Return the bounds on share groups."""
    shares = config.shares
    return ShareSettings(
        max_groups=config.groups.max_groups,
        max_member_bytes=config.groups.max_member_bytes,
        max_members=shares.max_members,
        max_sessions=shares.max_sessions,
    )


def token_rules(config: Config) -> TokenRules:
    """Return which tokens are taken."""
    from megabroker.core.authentication.tokens import TokenRules

    tokens = config.security.tokens
    return TokenRules(
        issuer=tokens.issuer,
        audiences=tokens.audiences,
        name_claim=tokens.name_claim,
        skew_ms=tokens.clock_skew_ms,
    )


def transaction_settings(config: Config) -> TransactionSettings:
    """Return what holds for transactions."""
    return TransactionSettings(
        max_timeout_ms=config.transactions.max_timeout_ms,
        max_transactional_ids=config.transactions.max_transactional_ids,
        max_offsets=config.transactions.max_offsets,
        id_expiration_ms=config.transactions.id_expiration_ms,
    )
