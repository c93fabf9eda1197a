"""What a cluster is like, from the records of its metadata log, in order.

Owns the meaning of those records for topics. Pure: takes records, never reads files. Records between the
begin and the end of a transaction of the controller count when it ends, and not if it is aborted or never
ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

import attrs

from megabroker.kafkadir import metadata_records as m
from megabroker.model import QuotaEntity
from megabroker.protocols.kafka.schema.fields import Message

__all__ = ["BROKER_CONFIGS", "TOPIC_CONFIGS", "Cluster", "KafkaPartition", "KafkaTopic"]

TOPIC_CONFIGS: Final = 2
BROKER_CONFIGS: Final = 4


@attrs.define
class KafkaPartition:
    """One partition as the controller knew it; nodes by their ids.

    Attributes:
        eligible: replicas that left the in-sync ones when those became too few, and have everything all the
            same (KIP-966): the last one to stop is among them.
    """

    replicas: list[int]
    in_sync: list[int]
    eligible: list[int]
    leader: int
    leader_epoch: int

    def is_complete_on(self, node: int) -> bool:
        """Whether a node's replica has everything that was acknowledged."""
        return node in self.in_sync or node in self.eligible or self.replicas == [node]


@attrs.define
class KafkaTopic:
    """One topic; partitions by number."""

    name: str
    id: UUID
    partitions: dict[int, KafkaPartition] = attrs.field(factory=dict)


class Cluster:
    """The state after the records applied so far.

    Attributes:
        topics: by id.
        configs: (resource type, resource name) -> what is set.
        features: feature -> finalized level.
        acls: access rules by id.
        next_producer_id: no producer id from here on was given out.
        quotas: by entity, values by name.
        credentials: of SCRAM, by user and Kafka's number of the mechanism.
        others: what is counted only: (kind, identity) of tokens.
    """

    def __init__(self) -> None:
        self.topics: dict[UUID, KafkaTopic] = {}
        self.acls: dict[bytes, m.AccessControlEntry] = {}
        self.configs: dict[tuple[int, str], dict[str, str]] = {}
        self.features: dict[str, int] = {}
        self.next_producer_id = 0
        self.quotas: dict[QuotaEntity, dict[str, float]] = {}
        self.credentials: dict[tuple[str, int], m.UserScramCredential] = {}
        self.others: set[tuple[str, object]] = set()
        self._held: list[Message] | None = None

    def apply(self, record: Message) -> None:
        """Take the next record into account."""
        if isinstance(record, m.BeginTransaction):
            self._held = []
        elif isinstance(record, m.AbortTransaction):
            self._held = None
        elif isinstance(record, m.EndTransaction):
            held, self._held = self._held or [], None
            for one in held:
                _EFFECTS[type(one)](self, one)
        elif self._held is not None:
            self._held.append(record)
        else:
            _EFFECTS[type(record)](self, record)

    def topic_configs(self, name: str) -> Mapping[str, str]:
        """Return what is set on a topic."""
        return self.configs.get((TOPIC_CONFIGS, name), {})

    def count(self, kind: str) -> int:
        """Return how many there are of one kind of ``others``."""
        return sum(1 for found, _ in self.others if found == kind)

    # --- one method per record --------------------------------------------------------------------

    def _topic(self, record: m.Topic) -> None:
        topic_id = UUID(bytes=record.topic_id)
        self.topics[topic_id] = KafkaTopic(record.name, topic_id)

    def _remove_topic(self, record: m.RemoveTopic) -> None:
        topic = self.topics.pop(UUID(bytes=record.topic_id), None)
        if topic is not None:
            self.configs.pop((TOPIC_CONFIGS, topic.name), None)

    def _partition(self, record: m.Partition) -> None:
        topic = self.topics.get(UUID(bytes=record.topic_id))
        if topic is not None:
            topic.partitions[record.partition_id] = KafkaPartition(
                record.replicas,
                record.isr,
                record.eligible_leader_replicas or [],
                record.leader,
                record.leader_epoch,
            )

    def _partition_change(self, record: m.PartitionChange) -> None:
        topic = self.topics.get(UUID(bytes=record.topic_id))
        partition = None if topic is None else topic.partitions.get(record.partition_id)
        if partition is None:
            return
        if record.replicas is not None:
            partition.replicas = record.replicas
        if record.isr is not None:
            partition.in_sync = record.isr
        if record.eligible_leader_replicas is not None:
            partition.eligible = record.eligible_leader_replicas
        if record.leader != m.NO_CHANGE:
            partition.leader = record.leader
            partition.leader_epoch += 1

    def _config(self, record: m.Config) -> None:
        key = record.resource_type, record.resource_name
        if record.value is None:
            self.configs.get(key, {}).pop(record.name, None)
        else:
            self.configs.setdefault(key, {})[record.name] = record.value

    def _feature(self, record: m.FeatureLevel) -> None:
        self.features[record.name] = record.feature_level

    def _producer_ids(self, record: m.ProducerIds) -> None:
        self.next_producer_id = max(self.next_producer_id, record.next_producer_id)

    def _quota(self, record: m.ClientQuota) -> None:
        pairs = ((one.entity_type, one.entity_name) for one in record.entity)
        values = self.quotas.setdefault(tuple(sorted(pairs, key=lambda pair: pair[0])), {})
        if record.remove:
            values.pop(record.key, None)
        else:
            values[record.key] = record.value

    def _credential(self, record: m.UserScramCredential) -> None:
        self.credentials[record.name, record.mechanism] = record

    def _remove_credential(self, record: m.RemoveUserScramCredential) -> None:
        self.credentials.pop((record.name, record.mechanism), None)

    def _access(self, record: m.AccessControlEntry) -> None:
        self.acls[bytes(record.id)] = record

    def _remove_access(self, record: m.RemoveAccessControlEntry) -> None:
        self.acls.pop(bytes(record.id), None)

    def _token(self, record: m.DelegationToken) -> None:
        self._count("delegation tokens", record.token_id, True)

    def _remove_token(self, record: m.RemoveDelegationToken) -> None:
        self._count("delegation tokens", record.token_id, False)

    def _count(self, kind: str, identity: object, there: bool) -> None:
        (self.others.add if there else self.others.discard)((kind, identity))


_EFFECTS: Final[dict[type[Message], Callable[[Cluster, Any], None]]] = {
    m.Topic: Cluster._topic,
    m.RemoveTopic: Cluster._remove_topic,
    m.Partition: Cluster._partition,
    m.PartitionChange: Cluster._partition_change,
    m.Config: Cluster._config,
    m.FeatureLevel: Cluster._feature,
    m.ProducerIds: Cluster._producer_ids,
    m.ClientQuota: Cluster._quota,
    m.UserScramCredential: Cluster._credential,
    m.RemoveUserScramCredential: Cluster._remove_credential,
    m.AccessControlEntry: Cluster._access,
    m.RemoveAccessControlEntry: Cluster._remove_access,
    m.DelegationToken: Cluster._token,
    m.RemoveDelegationToken: Cluster._remove_token,
}
