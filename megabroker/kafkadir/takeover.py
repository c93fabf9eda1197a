"""What is taken over from a Kafka broker, and what is not: the decisions, before anything is written.

Owns which topics, offsets, groups and transactional ids go on, as rows of our metadata store, and every
finding a person should read. Reads the directories and changes nothing.

Kafka's internal topics are not taken over as topics: what is in them goes into the metadata store. A
finding of kind ``REFUSED`` means that something would be lost or wrong; nothing is done then, unless a
partial takeover was asked for and the finding may be waived.
"""

from __future__ import annotations

import enum
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from megabroker.access import Acl
from megabroker.codec.batch import MAGIC_POS
from megabroker.core.acls.service import acl_row, check_acl
from megabroker.core.authentication.scram import MAX_ITERATIONS
from megabroker.core.broker_configs import ALL_BROKERS, BROKER_CONFIGS_TABLE, DYNAMIC_CONFIGS
from megabroker.core.credentials import credential_row
from megabroker.core.groups.classic_groups import GROUPS_TABLE
from megabroker.core.groups.offsets import OFFSETS_TABLE, offset_key
from megabroker.core.producer_ids import NEXT_PRODUCER_ID, PRODUCER_IDS_TABLE
from megabroker.core.quotas.service import quota_row
from megabroker.core.quotas.table import check_entity, check_value
from megabroker.core.topic_configs import TopicConfigs
from megabroker.core.topics import TOPICS_TABLE, is_topic_name, topic_row
from megabroker.core.transactions.coordinator_epoch import coordinator_epoch_row
from megabroker.core.transactions.transaction import TRANSACTIONS_TABLE, Transaction, to_row
from megabroker.errors import RequestError
from megabroker.kafkadir.batches import batches_of_log, segments
from megabroker.kafkadir.cluster import BROKER_CONFIGS, Cluster, KafkaPartition, KafkaTopic
from megabroker.kafkadir.directory import KafkaDirectories, Replica
from megabroker.kafkadir.groups import Groups, KafkaGroup
from megabroker.kafkadir.transactions import GROUPS_TOPIC, Transactions
from megabroker.model import (
    Change,
    CommittedOffset,
    QuotaEntity,
    ScramChange,
    ScramCredential,
    Topic,
    TopicPartition,
)
from megabroker.protocols.kafka.acls import acl_with
from megabroker.storage.checkpoints import decode_rows

__all__ = ["INTERNAL_TOPICS", "Finding", "Kind", "Takeover", "plan"]

_MECHANISMS: Final = {1: "SCRAM-SHA-256", 2: "SCRAM-SHA-512"}  # by Kafka's numbers

TRANSACTIONS_TOPIC: Final = "__transaction_state"
SHARE_TOPIC: Final = "__share_group_state"
METADATA_TOPIC: Final = "__cluster_metadata"
INTERNAL_TOPICS: Final = frozenset({GROUPS_TOPIC, TRANSACTIONS_TOPIC, SHARE_TOPIC, METADATA_TOPIC})
_LAST_LEADER_EPOCH: Final = 2**31 - 1
_OF_REPLICATION: Final = frozenset({"min.insync.replicas"})
"""Dynamic configurations that mean nothing to one node; the controller sets them by itself."""


class Kind(enum.Enum):
    """What a finding means for the takeover."""

    REFUSED = "refused"
    INCOMPLETE = "incomplete"
    LEFT_OUT = "left out"
    NOTE = "note"


class Finding:
    """One thing a person should know.

    Attributes:
        kind: REFUSED ends the takeover, INCOMPLETE too unless it may be partial.
        text: a sentence that begins with what it is about.
    """

    __slots__ = ("kind", "text")

    def __init__(self, kind: Kind, text: str) -> None:
        self.kind = kind
        self.text = text

    def __repr__(self) -> str:
        return f"{self.kind.value}: {self.text}"


@attrs.define
class Takeover:
    """Everything that goes on.

    Attributes:
        metadata_end: where Kafka's metadata log ended when it was read.
        replicas: where the partitions of the topics are; a partial takeover may lack some.
        broker_configs: what is set dynamically, by whom it is for.
        quotas: of users, clients and addresses.
        credentials: what checks the passwords of users.
        acls: access rules; in force if the configuration says that rules decide.
        aborted: transactional ids whose open transaction is aborted.
        coordinator_epoch: what every transaction marker is to carry at least.
    """

    cluster_id: str
    node_id: int
    metadata_end: int
    topics: list[Topic] = attrs.field(factory=list)
    replicas: dict[TopicPartition, Replica] = attrs.field(factory=dict)
    groups: Mapping[str, KafkaGroup] = attrs.field(factory=dict)
    offsets: Mapping[str, Mapping[TopicPartition, CommittedOffset]] = attrs.field(factory=dict)
    transactions: Mapping[str, Transaction] = attrs.field(factory=dict)
    aborted: list[str] = attrs.field(factory=list)
    next_producer_id: int = 0
    coordinator_epoch: int = 0
    broker_configs: dict[str, dict[str, str]] = attrs.field(factory=dict)
    quotas: dict[QuotaEntity, dict[str, float]] = attrs.field(factory=dict)
    credentials: list[ScramChange] = attrs.field(factory=list)
    acls: list[Acl] = attrs.field(factory=list)
    findings: list[Finding] = attrs.field(factory=list)

    def refusals(self, *, partial: bool) -> list[Finding]:
        """Return the findings because of which nothing may be done."""
        bad = {Kind.REFUSED} if partial else {Kind.REFUSED, Kind.INCOMPLETE}
        return [one for one in self.findings if one.kind in bad]

    def rows(self) -> Iterator[Change]:
        """Yield the rows of our metadata store."""
        for topic in self.topics:
            yield Change(TOPICS_TABLE, topic.name, topic_row(topic))
        for group_id, offsets in self.offsets.items():
            for partition, offset in offsets.items():
                yield Change(OFFSETS_TABLE, offset_key(group_id, partition), offset._asdict())
        for group_id, group in self.groups.items():
            yield Change(GROUPS_TABLE, group_id, _group_row(group))
        for transactional_id, transaction in self.transactions.items():
            yield Change(TRANSACTIONS_TABLE, transactional_id, to_row(transaction))
        for broker, values in self.broker_configs.items():
            yield Change(BROKER_CONFIGS_TABLE, broker, values)
        for entity, limits in self.quotas.items():
            yield quota_row(entity, limits)
        for acl in self.acls:
            yield acl_row(acl)
        for credential in self.credentials:
            yield credential_row(credential)
        yield Change(PRODUCER_IDS_TABLE, NEXT_PRODUCER_ID, self.next_producer_id)
        yield coordinator_epoch_row(self.coordinator_epoch)

    def find(self, kind: Kind, text: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, text))


def _group_row(group: KafkaGroup) -> dict[str, Any]:
    since_ms = group.empty_since_ms
    return {
        "generation": group.generation,
        "protocol_type": group.protocol_type,
        "empty_since_ms": since_ms if since_ms >= 0 else None,
    }


def plan(directories: KafkaDirectories, configs: TopicConfigs, now_ms: int) -> Takeover:
    """Read everything and decide. Blocking.

    Args:
        configs: what topic configurations are valid.
        now_ms: the time in epoch milliseconds.

    Raises:
        StorageError: something there cannot be read.
    """
    cluster, end = directories.cluster()
    found = Takeover(directories.cluster_id, directories.node_id, end)
    for topic in sorted(cluster.topics.values(), key=lambda one: one.name):
        if topic.name not in INTERNAL_TOPICS:
            _take_topic(found, topic, cluster, directories, configs)
    _find_strays(found, cluster, directories)
    _take_broker_configs(found, cluster)
    _take_quotas(found, cluster)
    _take_credentials(found, cluster)
    _take_acls(found, cluster)
    _take_coordinated(found, cluster, directories, now_ms)
    _find_left_out(found, cluster, directories)
    return found


# --- topics ----------------------------------------------------------------------------------------


def _take_topic(
    found: Takeover,
    topic: KafkaTopic,
    cluster: Cluster,
    directories: KafkaDirectories,
    configs: TopicConfigs,
) -> None:
    if not is_topic_name(topic.name):
        found.find(Kind.REFUSED, f"{topic.name[:260]!r} is no name of a topic")
        return
    count = max(topic.partitions, default=-1) + 1
    if not count or len(topic.partitions) != count:
        known = ", ".join(map(str, sorted(topic.partitions)[:20]))
        found.find(Kind.REFUSED, f"topic {topic.name} has partitions {known or 'none'}, not all from 0 on")
        return
    epoch = 0
    for number, partition in sorted(topic.partitions.items()):
        epoch = max(epoch, partition.leader_epoch)
        name = TopicPartition(topic.name, number)
        replica = directories.replicas.get(name)
        if _may_be_taken(found, name, topic, partition, replica, directories.node_id):
            assert replica is not None
            found.replicas[name] = replica
            epoch = max(epoch, _last_epoch(replica))
    found.topics.append(
        Topic(
            topic.name,
            topic.id,
            count,
            _valid_configs(found, topic.name, cluster.topic_configs(topic.name), configs),
            leader_epoch=min(epoch + 1, _LAST_LEADER_EPOCH),
        )
    )


def _may_be_taken(
    found: Takeover,
    name: TopicPartition,
    topic: KafkaTopic,
    partition: KafkaPartition,
    replica: Replica | None,
    me: int,
) -> bool:
    """Whether a partition's directory is there and ours; finds what is wrong with it."""
    where = f"partition {name}"
    if replica is None:
        if me in partition.replicas:
            text = "has its replica in none of the directories: expected every directory of log.dirs"
        else:
            text = f"has no replica on node {me}, only on {_nodes(partition.replicas)}"
        found.find(Kind.INCOMPLETE, f"{where} {text}")
        return False
    if replica.topic_id not in (None, topic.id):
        found.find(
            Kind.REFUSED,
            f"{where} in {replica.path} is of topic id {replica.topic_id}, not {topic.id}",
        )
        return False
    if me not in partition.replicas:
        found.find(Kind.INCOMPLETE, f"{where} is no longer of node {me}, but of {_nodes(partition.replicas)}")
    elif not partition.is_complete_on(me):
        found.find(
            Kind.INCOMPLETE,
            f"{where} is not in sync on node {me}, only on {_nodes(partition.in_sync)}: it may lack its end",
        )
    elif partition.leader not in (me, -1):
        found.find(
            Kind.NOTE,
            f"{where} was led by node {partition.leader}; the replica here is in sync and taken as it is",
        )
    return _has_known_format(found, name, replica)


def _has_known_format(found: Takeover, name: TopicPartition, replica: Replica) -> bool:
    """Whether the segments hold record batches v2, looking at the first of each."""
    files = segments(replica.path)
    for _, path in files:
        with open(path, "rb") as file:
            head = file.read(MAGIC_POS + 1)
        if len(head) > MAGIC_POS and head[MAGIC_POS] in (0, 1):
            found.find(
                Kind.REFUSED,
                f"partition {name} has messages of format v{head[MAGIC_POS]} in {path}: only v2 is served; "
                "let Kafka 3 rewrite them, or delete the topic",
            )
            return False
    return True


def _last_epoch(replica: Replica) -> int:
    rows = decode_rows(_read(replica.path / "leader-epoch-checkpoint"), 2) or []
    return max((epoch for epoch, _ in rows), default=0)


def _valid_configs(
    found: Takeover, topic: str, wanted: Mapping[str, str], configs: TopicConfigs
) -> dict[str, str]:
    """Return the topic's configurations that are valid here."""
    valid: dict[str, str] = {}
    for key, value in sorted(wanted.items()):
        if key == "remote.storage.enable" and value.strip().lower() == "true":
            found.find(
                Kind.REFUSED,
                f"topic {topic} has remote.storage.enable=true: its older segments are not in the directory",
            )
            continue
        try:
            configs.validate({**valid, key: value})
        except RequestError as error:
            found.find(Kind.LEFT_OUT, f"topic {topic}: {key}={value}: {error.message}")
        else:
            valid[key] = value
    return valid


def _find_strays(found: Takeover, cluster: Cluster, directories: KafkaDirectories) -> None:
    known = {topic.name: topic for topic in cluster.topics.values()}
    for name, replica in sorted(directories.replicas.items()):
        topic = known.get(name.topic)
        if name.topic not in INTERNAL_TOPICS and (topic is None or name.partition not in topic.partitions):
            found.find(Kind.LEFT_OUT, f"{replica.path} belongs to no topic of the cluster")
    for path in directories.passed_over:
        found.find(Kind.LEFT_OUT, f"{path} is being deleted or moved, or stray")


def _take_broker_configs(found: Takeover, cluster: Cluster) -> None:
    """Take over what is set dynamically for this node, and for all, as far as it can be here."""
    for name, key in (("", ALL_BROKERS), (str(found.node_id), str(found.node_id))):
        lost = []
        for config, value in sorted(cluster.configs.get((BROKER_CONFIGS, name), {}).items()):
            known = DYNAMIC_CONFIGS.get(config)
            if known is not None and known.check(value.strip()) is None:
                found.broker_configs.setdefault(key, {})[config] = value.strip()
            elif config not in _OF_REPLICATION:
                lost.append(f"{config}={value}")
        if lost:
            who = f"node {name}" if name else "all nodes"
            found.find(Kind.LEFT_OUT, f"dynamic configuration of {who}: {', '.join(lost)}")


# --- what the coordinators keep --------------------------------------------------------------------


def _take_coordinated(found: Takeover, cluster: Cluster, directories: KafkaDirectories, now_ms: int) -> None:
    partitions = {topic.name: topic.partitions for topic in found.topics}

    def exists(partition: TopicPartition) -> bool:
        return partition.partition < partitions.get(partition.topic, 0)

    transactions = Transactions()
    for replica in _complete(found, cluster, directories, TRANSACTIONS_TOPIC):
        transactions.read(batches_of_log(replica.path), replica.path)
    groups = Groups()
    for replica in _complete(found, cluster, directories, GROUPS_TOPIC):
        groups.read(batches_of_log(replica.path), replica.path)
    for producer_id in transactions.committing:
        groups.decide(producer_id, commit=True)
    found.transactions = transactions.settled(exists, now_ms)
    found.aborted = transactions.open
    found.offsets = {
        group_id: kept
        for group_id, offsets in groups.offsets.items()
        if (kept := {where: offset for where, offset in offsets.items() if exists(where)})
    }
    found.groups = groups.groups
    found.next_producer_id = max(cluster.next_producer_id, transactions.highest_producer_id + 1)
    epochs = [
        partition.leader_epoch
        for topic in cluster.topics.values()
        if topic.name == TRANSACTIONS_TOPIC
        for partition in topic.partitions.values()
    ]
    found.coordinator_epoch = max(epochs, default=-1) + 1


def _complete(found: Takeover, cluster: Cluster, directories: KafkaDirectories, name: str) -> list[Replica]:
    """Return the partitions of an internal topic; finds those that are not here, or not in sync."""
    me = directories.node_id
    topic = next((one for one in cluster.topics.values() if one.name == name), None)
    here = []
    for number, partition in sorted(topic.partitions.items() if topic is not None else ()):
        which = TopicPartition(name, number)
        replica = directories.replicas.get(which)
        if replica is None:
            found.find(Kind.INCOMPLETE, f"partition {which} is in none of the directories")
            continue
        if not partition.is_complete_on(me):
            found.find(Kind.INCOMPLETE, f"partition {which} is not in sync on node {me}")
        here.append(replica)
    return here


def _take_quotas(found: Takeover, cluster: Cluster) -> None:
    for entity, values in cluster.quotas.items():
        whom = " and ".join(f"{kind} {name or '(default)'}" for kind, name in entity)
        for quota, value in values.items():
            try:
                check_entity(entity)
                check_value(entity, quota, value)
            except RequestError as error:
                found.find(Kind.LEFT_OUT, f"{quota} of {whom[:300]}: {error.message}")
            else:
                found.quotas.setdefault(entity, {})[quota] = value


def _take_acls(found: Takeover, cluster: Cluster) -> None:
    for record in cluster.acls.values():
        acl = acl_with(record, record.pattern_type)
        try:
            check_acl(acl)
        except RequestError as error:
            found.find(Kind.LEFT_OUT, f"the access rule {str(acl)[:300]}: {error.message}")
        else:
            found.acls.append(acl)


def _take_credentials(found: Takeover, cluster: Cluster) -> None:
    for (user, number), record in sorted(cluster.credentials.items()):
        name = _MECHANISMS.get(number)
        secrets = [bytes(one) for one in (record.salt, record.stored_key, record.server_key)]
        if name is None or not user or not (all(secrets) and 0 < record.iterations <= MAX_ITERATIONS):
            found.find(Kind.LEFT_OUT, f"a password of user {user[:300]!r}: it cannot be checked here")
            continue
        credential = ScramCredential(record.iterations, *secrets)
        found.credentials.append(ScramChange(user, name, credential))


def _find_left_out(found: Takeover, cluster: Cluster, directories: KafkaDirectories) -> None:
    for kind in ("delegation tokens",):
        count = cluster.count(kind)
        if count:
            found.find(Kind.LEFT_OUT, f"{count} {kind}: nothing follows them here")
    if any(segments(replica.path) and _size(replica) for replica in directories.partitions_of(SHARE_TOPIC)):
        found.find(
            Kind.LEFT_OUT, "the state of share groups: they begin anew, at their share.auto.offset.reset"
        )
    if not directories.was_clean:
        found.find(
            Kind.NOTE, "the broker was not stopped in order: the ends of all logs are checked at start"
        )


def _size(replica: Replica) -> int:
    return sum(path.stat().st_size for _, path in segments(replica.path))


def _nodes(ids: list[int]) -> str:
    return "node " + ", ".join(map(str, ids)) if ids else "none"


def _read(path: pathlib.Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
