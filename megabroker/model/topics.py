"""Topics and partitions."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

import attrs

__all__ = ["Topic", "TopicChange", "TopicPartition"]


class TopicPartition(NamedTuple):
    """A partition of a topic, by name."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


@attrs.frozen
class Topic:
    """A topic as clients know it.

    Attributes:
        configs: only what was set on the topic, by Kafka's configuration names; defaults are not here.
        leader_epoch: of all its partitions; above 0 for a topic that another broker led before.
    """

    name: str
    id: UUID
    partitions: int
    configs: Mapping[str, str] = attrs.field(factory=dict)
    internal: bool = False
    leader_epoch: int = 0


class TopicChange(enum.IntEnum):
    """What is to become of a topic."""

    CREATE = 0
    GROW = 1
    DELETE = 2
