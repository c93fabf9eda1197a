"""The topics there are, and the partitions of each, as whoever asks for them sees them.

Owns the places of partitions in memory. Never reads, writes or opens anything.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeGuard
from uuid import UUID

from megabroker.core.partitions import PartitionService
from megabroker.core.topic_configs import TopicConfigs
from megabroker.core.topics.rows import metric_name
from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError, StorageError
from megabroker.model import Topic

__all__ = ["Slot", "TopicTable", "may_reopen", "unknown_topic"]

Slot = PartitionService | StorageError | None
"""A partition's place: served here, out of order, or led by another node."""


class TopicTable:
    """All topics, by name and by id.

    Args:
        configs: the configuration table with this broker's defaults.
    """

    def __init__(self, configs: TopicConfigs) -> None:
        self.configs = configs
        self._topics: dict[str, Topic] = {}
        self._by_id: dict[UUID, Topic] = {}
        self._alike: dict[str, set[str]] = {}  # names by what is left of them in the names of metrics
        self._partitions: dict[str, list[Slot]] = {}
        self._led: dict[str, list[PartitionService | None]] = {}  # of topics that were asked for

    # --- asking -------------------------------------------------------------------------------------

    def get(self, name: str) -> Topic | None:
        """Return a topic by name."""
        return self._topics.get(name)

    def get_by_id(self, topic_id: UUID) -> Topic | None:
        """Return a topic by id."""
        return self._by_id.get(topic_id)

    def all(self) -> Sequence[Topic]:
        """Return every topic, by name."""
        return [self._topics[name] for name in sorted(self._topics)]

    @property
    def all_names(self) -> Collection[str]:
        """The names of all topics, as they are now and will be; not to be kept."""
        return self._topics.keys()

    def out_of_order(self, name: str) -> int:
        """Return how many partitions of a topic there are here whose logs cannot be used."""
        slots = self._partitions.get(name, ())
        return sum(isinstance(one, StorageError) or _is_broken(one) for one in slots)

    def served(self, name: str) -> int:
        """Return how many partitions of a topic this node leads, those among them that cannot be used."""
        slots = self._partitions.get(name, [])
        return len(slots) - slots.count(None)

    def partition(self, topic: str, index: int) -> PartitionService:
        """Return a partition that this node leads.

        Raises:
            RequestError: UNKNOWN_TOPIC or UNKNOWN_PARTITION.
            StateError: NOT_LEADER.
            StorageError: its log is out of order.
        """
        partitions = self._partitions.get(topic)
        if partitions is None:
            raise unknown_topic(topic)
        if not 0 <= index < len(partitions):
            raise RequestError(
                ErrorCode.UNKNOWN_PARTITION,
                f"topic {topic} has partitions 0 to {len(partitions) - 1}, not {index}",
                retriable=True,
            )
        found = partitions[index]
        if isinstance(found, PartitionService):
            return found
        if found is None:
            raise StateError(
                ErrorCode.NOT_LEADER, f"another node leads partition {index} of {topic}", retriable=True
            )
        raise StorageError(found.code, found.message, retriable=found.retriable)

    def led(self, topic: str) -> Sequence[PartitionService | None]:
        """Return the partitions of a topic by number, those that serve here; see ``ITopicService``."""
        found = self._led.get(topic)
        if found is None:
            slots = self._partitions.get(topic, ())
            found = [one if isinstance(one, PartitionService) else None for one in slots]
            if slots:
                self._led[topic] = found
        return found

    def config(self, name: str, key: str) -> str:
        """Return one effective topic configuration value by Kafka's name, defaults included."""
        return self.configs.effective(self._known(name).configs, key)

    def producer_epochs(self) -> dict[int, int]:
        """Return every producer that a log here knows, with its highest epoch."""
        found: dict[int, int] = {}
        for partition in self._serving():
            for producer in partition.describe_producers():
                known = found.get(producer.producer_id, -1)
                found[producer.producer_id] = max(known, producer.producer_epoch)
        return found

    def _known(self, name: str) -> Topic:
        topic = self._topics.get(name)
        if topic is None:
            raise unknown_topic(name)
        return topic

    def _name_like(self, name: str) -> str | None:
        """Return the name of a topic whose metrics would have the same name."""
        return min(self._alike.get(metric_name(name), ()), default=None)

    def _partition_count(self) -> int:
        return sum(map(len, self._partitions.values()))

    def _serving(self) -> list[PartitionService]:
        return [
            one
            for partitions in self._partitions.values()
            for one in partitions
            if isinstance(one, PartitionService)
        ]

    # --- changing -----------------------------------------------------------------------------------

    def _publish(self, topic: Topic, partitions: list[Slot]) -> None:
        """Have everybody see a topic, or what has changed of it."""
        policy = self.configs.policy(topic.configs)
        for partition in partitions:
            if isinstance(partition, PartitionService):
                partition.configure(topic, policy)
        self._topics[topic.name] = topic
        self._by_id[topic.id] = topic
        self._alike.setdefault(metric_name(topic.name), set()).add(topic.name)
        self._partitions[topic.name] = partitions
        self._forget_led(topic.name)

    def _withdraw(self, topic: Topic) -> list[Slot]:
        """Have nobody see a topic any more; return its places."""
        name = topic.name
        partitions = self._partitions.pop(name)
        self._forget_led(name)
        del self._topics[name], self._by_id[topic.id]
        alike = self._alike[metric_name(name)]
        alike.discard(name)
        if not alike:
            del self._alike[metric_name(name)]
        return partitions

    def _forget_led(self, name: str) -> None:
        led = self._led.pop(name, None)
        if led is not None:
            led.clear()


def may_reopen(slot: Slot) -> TypeGuard[StorageError]:
    """Whether the log in a place is out of order for a reason that may pass."""
    return isinstance(slot, StorageError) and slot.retriable


def _is_broken(slot: Slot) -> bool:
    return isinstance(slot, PartitionService) and getattr(slot.log, "refusal", None) is not None


def unknown_topic(name: str) -> BrokerError:
    """Return the refusal of what is asked of a topic that there is not."""
    return RequestError(ErrorCode.UNKNOWN_TOPIC, f"there is no topic {name[:249]!r}", retriable=True)
