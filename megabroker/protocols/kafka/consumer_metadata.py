"""What consumers say of themselves and are told in the opaque bytes of classic groups.

Owns the answer for the protocol type "consumer" only: other types (Connect, Schema Registry) put things of
their own there. Must never raise on hostile bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Protocol

from zope.interface import implementer

from megabroker.errors import ProtocolError
from megabroker.interfaces import IConsumerMetadata
from megabroker.model import Subscription
from megabroker.protocols.kafka.schema import consumer_protocol

__all__ = ["CONSUMER", "ConsumerMetadata", "subscribed_topics"]

CONSUMER = "consumer"


def subscribed_topics(protocol_type: str, metadata: bytes) -> Set[str] | None:
    """Return the topics a member subscribes to, None when that cannot be told.

    Some clients name a version and leave out what it adds; the topics come first in all, and as Kafka does
    nothing behind them is looked at.
    """
    if protocol_type != CONSUMER:
        return None
    try:
        return frozenset(consumer_protocol.read_topics(metadata))
    except ProtocolError:
        return None


@implementer(IConsumerMetadata)
class ConsumerMetadata:
    """See ``IConsumerMetadata``."""

    def read_subscription(self, metadata: bytes) -> Subscription | None:
        """See ``IConsumerMetadata.read_subscription``."""
        try:
            found = consumer_protocol.read_subscription(metadata)
        except ProtocolError:
            return None
        return Subscription(
            consumer_protocol.version_of(metadata),
            frozenset(found.topics),
            _by_topic(found.owned_partitions),
            found.rack_id,
        )

    def read_assignment(self, assignment: bytes) -> Mapping[str, frozenset[int]] | None:
        """See ``IConsumerMetadata.read_assignment``; no bytes are no partitions."""
        if not assignment:
            return {}
        try:
            return _by_topic(consumer_protocol.read_assignment(assignment).assigned_partitions)
        except ProtocolError:
            return None

    def write_assignment(self, version: int, partitions: Mapping[str, frozenset[int]]) -> bytes:
        """See ``IConsumerMetadata.write_assignment``."""
        row = consumer_protocol.Assignment.TopicPartitions
        rows = [row(topic=topic, partitions=sorted(partitions[topic])) for topic in sorted(partitions)]
        return consumer_protocol.write_assignment(
            consumer_protocol.Assignment(assigned_partitions=rows), version
        )


class _TopicPartitions(Protocol):
    topic: str
    partitions: list[int]


def _by_topic(rows: Iterable[_TopicPartitions]) -> dict[str, frozenset[int]]:
    found: dict[str, frozenset[int]] = {}
    for row in rows:
        found[row.topic] = found.get(row.topic, frozenset()) | frozenset(row.partitions)
    return {topic: partitions for topic, partitions in found.items() if partitions}
