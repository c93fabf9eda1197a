"""What consumers put into the opaque bytes of JoinGroup and SyncGroup when the protocol is "consumer".

Both are led by an int16 version, and a reader takes a version it does not know for the highest it
knows and ignores what follows: that is how the format grows. The broker writes assignments itself for
classic members of a group of the consumer protocol.
"""

from __future__ import annotations

import struct
from typing import Final

from megabroker.codec.primitives import Buffer
from megabroker.errors import ProtocolError
from megabroker.protocols.kafka.schema import fields as f

__all__ = [
    "Assignment",
    "Subscription",
    "read_assignment",
    "read_subscription",
    "read_topics",
    "version_of",
    "write_assignment",
]

_LAST_VERSION: Final = 3
_VERSION: Final = struct.Struct(">h")


class Subscription(f.Message, versions="0-3"):
    class TopicPartitions(f.Struct):
        topic: str = f.string()
        partitions: list[int] = f.array(f.int32)

    topics: list[str] = f.array(f.string)
    user_data: bytes | None = f.bytestring(nullable="0+", default=None)
    owned_partitions: list[TopicPartitions] = f.array(TopicPartitions, "1+")
    generation_id: int = f.int32("2+", default=-1)
    rack_id: str | None = f.string("3+", nullable="3+", default=None)


class Assignment(f.Message, versions="0-3"):
    class TopicPartitions(f.Struct):
        topic: str = f.string()
        partitions: list[int] = f.array(f.int32)

    assigned_partitions: list[TopicPartitions] = f.array(TopicPartitions)
    user_data: bytes | None = f.bytestring(nullable="0+", default=None)


def read_subscription(data: Buffer) -> Subscription:
    """Read the metadata of a member; raises ProtocolError when it is damaged."""
    return Subscription.decode(data, version_of(data), _VERSION.size)[0]


def read_topics(data: Buffer) -> list[str]:
    """Read only the topics of a member's metadata; raises ProtocolError when they are damaged."""
    version_of(data)
    return Subscription.decode(data, 0, _VERSION.size)[0].topics


def read_assignment(data: Buffer) -> Assignment:
    """Read the assignment of a member; raises ProtocolError when it is damaged."""
    return Assignment.decode(data, version_of(data), _VERSION.size)[0]


def write_assignment(assignment: Assignment, version: int) -> bytes:
    """Write the assignment of a member that reads ``version``, or a lower one that says the same."""
    version = min(version, _LAST_VERSION)
    return _VERSION.pack(version) + assignment.encode(version)


def version_of(data: Buffer) -> int:
    """Return the version to read ``data`` in; raises ProtocolError when it names none."""
    if len(data) < _VERSION.size:
        raise ProtocolError("truncated consumer protocol version")
    version: int = _VERSION.unpack_from(data)[0]
    if version < 0:
        raise ProtocolError(f"consumer protocol version {version}")
    return min(version, _LAST_VERSION)
