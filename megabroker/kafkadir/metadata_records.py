"""The records of Kafka's metadata log that say something of topics, and those that have to be counted.

Owns the notation of each, from Kafka's own definitions (org.apache.kafka:kafka-metadata), and the frame
around them. Knows nothing of their effect.

    value    frame version uvarint = 1 | record type uvarint | record version uvarint | fields, flexible

A type that is not in the table is one that changes nothing here: registrations of brokers, fencing, no-ops.
A *version* that is not known is refused, because what it says may be missed.
"""

from __future__ import annotations

from typing import Final

from megabroker.codec.primitives import read_uvarint
from megabroker.errors import ProtocolError
from megabroker.protocols.kafka.schema import fields as f

__all__ = [
    "RECORDS",
    "AbortTransaction",
    "AccessControlEntry",
    "BeginTransaction",
    "ClientQuota",
    "Config",
    "DelegationToken",
    "EndTransaction",
    "FeatureLevel",
    "Partition",
    "PartitionChange",
    "ProducerIds",
    "RemoveAccessControlEntry",
    "RemoveDelegationToken",
    "RemoveTopic",
    "RemoveUserScramCredential",
    "Topic",
    "UserScramCredential",
    "frame",
    "read_metadata_record",
]

NO_CHANGE: Final = -2
"""A leader that ``PartitionChange`` leaves as it was."""

_FRAME_VERSION: Final = 1


class Topic(f.Message, key=2, versions="0", flexible="0+"):
    name: str = f.string()
    topic_id: bytes = f.uuid()


class Partition(f.Message, key=3, versions="0-2", flexible="0+"):
    partition_id: int = f.int32(default=-1)
    topic_id: bytes = f.uuid()
    replicas: list[int] = f.array(f.int32)
    isr: list[int] = f.array(f.int32)
    removing_replicas: list[int] = f.array(f.int32)
    adding_replicas: list[int] = f.array(f.int32)
    leader: int = f.int32(default=-1)
    leader_recovery_state: int = f.int8(tag=0)
    leader_epoch: int = f.int32(default=-1)
    partition_epoch: int = f.int32(default=-1)
    directories: list[bytes] = f.array(f.uuid, "1+")
    eligible_leader_replicas: list[int] | None = f.array(f.int32, "2+", nullable="2+", default=None, tag=1)
    last_known_elr: list[int] | None = f.array(f.int32, "2+", nullable="2+", default=None, tag=2)


class Config(f.Message, key=4, versions="0", flexible="0+"):
    resource_type: int = f.int8()
    resource_name: str = f.string()
    name: str = f.string()
    value: str | None = f.string(nullable="0+")


class PartitionChange(f.Message, key=5, versions="0-2", flexible="0+"):
    partition_id: int = f.int32(default=-1)
    topic_id: bytes = f.uuid()
    isr: list[int] | None = f.array(f.int32, nullable="0+", default=None, tag=0)
    leader: int = f.int32(default=NO_CHANGE, tag=1)
    replicas: list[int] | None = f.array(f.int32, nullable="0+", default=None, tag=2)
    removing_replicas: list[int] | None = f.array(f.int32, nullable="0+", default=None, tag=3)
    adding_replicas: list[int] | None = f.array(f.int32, nullable="0+", default=None, tag=4)
    leader_recovery_state: int = f.int8(default=-1, tag=5)
    directories: list[bytes] | None = f.array(f.uuid, "1+", nullable="1+", default=None, tag=8)
    eligible_leader_replicas: list[int] | None = f.array(f.int32, "2+", nullable="2+", default=None, tag=6)
    last_known_elr: list[int] | None = f.array(f.int32, "2+", nullable="2+", default=None, tag=7)


class RemoveTopic(f.Message, key=9, versions="0", flexible="0+"):
    topic_id: bytes = f.uuid()


class DelegationToken(f.Message, key=10, versions="0", flexible="0+"):
    owner: str = f.string()
    requester: str = f.string()
    renewers: list[str] = f.array(f.string)
    issue_timestamp: int = f.int64()
    max_timestamp: int = f.int64()
    expiration_timestamp: int = f.int64()
    token_id: str = f.string()


class UserScramCredential(f.Message, key=11, versions="0", flexible="0+"):
    name: str = f.string()
    mechanism: int = f.int8()
    salt: bytes = f.bytestring()
    stored_key: bytes = f.bytestring()
    server_key: bytes = f.bytestring()
    iterations: int = f.int32()


class FeatureLevel(f.Message, key=12, versions="0", flexible="0+"):
    name: str = f.string()
    feature_level: int = f.int16()


class ClientQuota(f.Message, key=14, versions="0", flexible="0+"):
    class Entity(f.Struct):
        entity_type: str = f.string()
        entity_name: str | None = f.string(nullable="0+")

    entity: list[Entity] = f.array(Entity)
    key: str = f.string()
    value: float = f.float64()
    remove: bool = f.boolean()


class ProducerIds(f.Message, key=15, versions="0", flexible="0+"):
    broker_id: int = f.int32()
    broker_epoch: int = f.int64(default=-1)
    next_producer_id: int = f.int64()


class AccessControlEntry(f.Message, key=18, versions="0", flexible="0+"):
    id: bytes = f.uuid()
    resource_type: int = f.int8()
    resource_name: str = f.string()
    pattern_type: int = f.int8()
    principal: str = f.string()
    host: str = f.string()
    operation: int = f.int8()
    permission_type: int = f.int8()


class RemoveAccessControlEntry(f.Message, key=19, versions="0", flexible="0+"):
    id: bytes = f.uuid()


class RemoveUserScramCredential(f.Message, key=22, versions="0", flexible="0+"):
    name: str = f.string()
    mechanism: int = f.int8()


class BeginTransaction(f.Message, key=23, versions="0", flexible="0+"):
    name: str | None = f.string(nullable="0+", default=None, tag=0)


class EndTransaction(f.Message, key=24, versions="0", flexible="0+"):
    pass


class AbortTransaction(f.Message, key=25, versions="0", flexible="0+"):
    reason: str | None = f.string(nullable="0+", default=None, tag=0)


class RemoveDelegationToken(f.Message, key=26, versions="0", flexible="0+"):
    token_id: str = f.string()


RECORDS: Final[dict[int, type[f.Message]]] = {
    cls.__schema__.key: cls
    for cls in (
        Topic,
        Partition,
        Config,
        PartitionChange,
        RemoveTopic,
        DelegationToken,
        UserScramCredential,
        FeatureLevel,
        ClientQuota,
        ProducerIds,
        AccessControlEntry,
        RemoveAccessControlEntry,
        RemoveUserScramCredential,
        BeginTransaction,
        EndTransaction,
        AbortTransaction,
        RemoveDelegationToken,
    )
}
"""Every record that is read, by its number."""


def read_metadata_record(value: bytes) -> f.Message | None:
    """Read the value of one record of the metadata log; None for a type that changes nothing here.

    Raises:
        ProtocolError: it is damaged, or newer than what is known here.
    """
    end = len(value)
    frame_version, pos = read_uvarint(value, 0, end)
    if frame_version != _FRAME_VERSION:
        raise ProtocolError(f"metadata record frame version {frame_version}, only {_FRAME_VERSION} is known")
    key, pos = read_uvarint(value, pos, end)
    version, pos = read_uvarint(value, pos, end)
    message = RECORDS.get(key)
    return None if message is None else message.decode(value, version, pos, end)[0]


def frame(record: f.Message, version: int = 0) -> bytes:
    """Write a record as the metadata log has it; the reverse of ``read_metadata_record``."""
    return bytes((_FRAME_VERSION, record.__schema__.key, version)) + record.encode(version)
