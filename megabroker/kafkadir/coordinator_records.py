"""What Kafka's coordinators keep in ``__consumer_offsets`` and ``__transaction_state``.

Owns the notation of those records that are read here, from Kafka's own definitions
(org.apache.kafka:kafka-group-coordinator and kafka-transaction-coordinator). Both parts of a record begin
with an int16: in a key it is the kind of record, in a value its version.

    __consumer_offsets   kind 0, 1 an offset of a group | 2 a classic group | others
    __transaction_state  kind 0 a transactional id
"""

from __future__ import annotations

import struct
from typing import Final

from megabroker.errors import ProtocolError
from megabroker.protocols.kafka.schema import fields as f

__all__ = [
    "GroupKey",
    "GroupValue",
    "OffsetKey",
    "OffsetValue",
    "TransactionKey",
    "TransactionValue",
    "read_group_key",
    "read_transaction_key",
    "read_value",
]

_INT16: Final = struct.Struct(">h")


class OffsetKey(f.Message, versions="0-1"):
    group: str = f.string()
    topic: str = f.string()
    partition: int = f.int32()


class OffsetValue(f.Message, versions="0-4", flexible="4+"):
    offset: int = f.int64()
    leader_epoch: int = f.int32("3+", default=-1)
    metadata: str = f.string()
    commit_timestamp: int = f.int64()
    expire_timestamp: int = f.int64("1", default=-1)
    topic_id: bytes = f.uuid("4+", tag=0)


class GroupKey(f.Message, versions="2"):
    group: str = f.string()


class GroupValue(f.Message, versions="0-4", flexible="4+"):
    class Member(f.Struct):
        member_id: str = f.string()
        group_instance_id: str | None = f.string("3+", nullable="3+", default=None)
        client_id: str = f.string()
        client_host: str = f.string()
        rebalance_timeout: int = f.int32("1+", default=-1)
        session_timeout: int = f.int32()
        subscription: bytes = f.bytestring()
        assignment: bytes = f.bytestring()

    protocol_type: str = f.string()
    generation: int = f.int32()
    protocol: str | None = f.string(nullable="0+")
    leader: str | None = f.string(nullable="0+")
    current_state_timestamp: int = f.int64("2+", default=-1)
    members: list[Member] = f.array(Member)


class TransactionKey(f.Message, versions="0"):
    transactional_id: str = f.string()


class TransactionValue(f.Message, versions="0-1", flexible="1+"):
    class Partitions(f.Struct):
        topic: str = f.string()
        partition_ids: list[int] = f.array(f.int32)

    producer_id: int = f.int64()
    previous_producer_id: int = f.int64("1+", default=-1, tag=0)
    next_producer_id: int = f.int64("1+", default=-1, tag=1)
    producer_epoch: int = f.int16()
    next_producer_epoch: int = f.int16("1+", default=-1, tag=3)
    transaction_timeout_ms: int = f.int32()
    transaction_status: int = f.int8()
    transaction_partitions: list[Partitions] | None = f.array(Partitions, nullable="0+")
    last_update_timestamp_ms: int = f.int64()
    start_timestamp_ms: int = f.int64()
    client_transaction_version: int = f.int16("1+", tag=2)


_GROUP_KEYS: Final[dict[int, type[f.Message]]] = {0: OffsetKey, 1: OffsetKey, 2: GroupKey}


def read_group_key(key: bytes) -> OffsetKey | GroupKey | None:
    """Read a key of ``__consumer_offsets``; None for a kind that is not read here.

    Raises:
        ProtocolError: it is damaged.
    """
    kind = _leading(key)
    message = _GROUP_KEYS.get(kind)
    if message is None:
        return None
    found = message.decode(key, kind, _INT16.size)[0]
    assert isinstance(found, OffsetKey | GroupKey)
    return found


def read_transaction_key(key: bytes) -> str | None:
    """Read a key of ``__transaction_state``: the transactional id, or None for another kind.

    Raises:
        ProtocolError: it is damaged.
    """
    kind = _leading(key)
    return None if kind else TransactionKey.decode(key, kind, _INT16.size)[0].transactional_id


def read_value(message: type[f.M], value: bytes) -> f.M:
    """Read a value of either topic.

    Raises:
        ProtocolError: it is damaged, or of a version that is not known here.
    """
    return message.decode(value, _leading(value), _INT16.size)[0]


def _leading(data: bytes) -> int:
    if len(data) < _INT16.size:
        raise ProtocolError("truncated coordinator record")
    found: int = _INT16.unpack_from(data)[0]
    return found
