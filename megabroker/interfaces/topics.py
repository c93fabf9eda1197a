"""Topics: which there are, and their changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred
from zope.interface import Attribute

from megabroker.interfaces.partitions import IPartition, IPartitions
from megabroker.model import Topic

__all__ = ["ITopicService"]


class ITopicService(IPartitions):
    """All topics."""

    def get(name: str) -> Topic | None:
        """Return a topic by name."""

    def get_by_id(topic_id: UUID) -> Topic | None:
        """Return a topic by id."""

    def deleted_lately(name: str) -> bool:
        """Whether a topic of this name was deleted so lately that some may still look for it to be gone."""

    def all() -> Sequence[Topic]:
        """Return every topic, by name."""

    def partition(topic: str, index: int) -> IPartition:
        """Return a partition that this node leads.

        Raises:
            RequestError: UNKNOWN_TOPIC or UNKNOWN_PARTITION.
            StateError: NOT_LEADER.
            StorageError: its log is out of order.
        """

    def led(topic: str) -> Sequence[IPartition | None]:
        """Return the partitions of a topic by number, None where another node leads or the log is out of
        order.

        The sequence is shared and kept up: once the topic is changed or deleted it has no partitions more,
        and is to be asked for anew.
        """

    def validate(name: str, partitions: int, configs: Mapping[str, str | None]) -> None:
        """Raise RequestError or StateError if ``create`` would refuse."""

    def create(
        name: str, partitions: int, configs: Mapping[str, str | None] | None = None
    ) -> Deferred[Topic]:
        """Create a topic; fire when it is stored and its partitions serve.

        Fails with RequestError (INVALID_TOPIC, INVALID_PARTITIONS, INVALID_CONFIG), StateError (TOPIC_EXISTS,
        TOPIC_LIMIT) or StorageError.
        """

    def check_truncation(name: str) -> None:
        """Raise RequestError unless records of a topic may be deleted by their offsets.

        UNKNOWN_TOPIC, INVALID_TOPIC for the broker's own, POLICY_VIOLATION for one that is only compacted.
        """

    def check_growth(name: str, total: int) -> int:
        """Return how many partitions ``create_partitions`` would add; raise as it fails."""

    def create_partitions(name: str, total: int) -> Deferred[Topic]:
        """Grow a topic to ``total`` partitions; fails with INVALID_PARTITIONS when that is no growth."""

    def delete(name: str) -> Deferred[None]:
        """Delete a topic and its data; fails with UNKNOWN_TOPIC."""

    def set_configs(name: str, configs: Mapping[str, str]) -> Deferred[Topic]:
        """Replace what is set on a topic; fails with UNKNOWN_TOPIC or INVALID_CONFIG."""

    configs: Any = Attribute(
        "The table of topic configurations with this broker's defaults, "
        "``megabroker.core.topic_configs.TopicConfigs``."
    )

    def config(name: str, key: str) -> str:
        """Return one effective topic configuration value by Kafka's name, defaults included."""
