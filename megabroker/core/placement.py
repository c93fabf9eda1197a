"""Who leads and coordinates what: one process everything, several their shares.

Owns the rule and nothing that changes: which process leads a partition follows from the partition's name and
from how many processes there are, so that nobody need be asked.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import attrs
from zope.interface import implementer

from megabroker.interfaces import IPlacement
from megabroker.model import Listener, Node, TopicPartition

__all__ = ["SinglePlacement", "WorkerPlacement", "leader_index"]


@implementer(IPlacement)
class SinglePlacement:
    """One node that leads and coordinates everything."""

    def __init__(self, me: Node) -> None:
        self.me = me

    def advertise(self, listeners: Sequence[Listener]) -> None:
        """Replace the listeners clients are told of, once their real ports are known."""
        self.me = attrs.evolve(self.me, listeners=tuple(listeners))

    def nodes(self) -> Sequence[Node]:
        """Return every live node."""
        return (self.me,)

    def controller(self) -> Node:
        """Return the node that takes topic changes."""
        return self.me

    def leader(self, topic_partition: TopicPartition) -> Node:
        """Return the node that leads a partition."""
        return self.me

    def coordinator(self, key: str) -> Node:
        """Return the node that coordinates a group or transactional id."""
        return self.me


def leader_index(topic_partition: TopicPartition, workers: int) -> int:
    """Return which of so many workers leads a partition; those of one topic go round."""
    topic, partition = topic_partition
    return (zlib.crc32(topic.encode()) + partition) % workers


@implementer(IPlacement)
class WorkerPlacement:
    """One of several workers; the first controls and coordinates, all lead.

    Args:
        nodes: all workers, with the listeners clients are told of.
        index: which of them this is.
    """

    def __init__(self, nodes: Sequence[Node], index: int) -> None:
        self._nodes = tuple(nodes)
        self.me = nodes[index]

    def nodes(self) -> Sequence[Node]:
        """Return every worker; one that has died will be back."""
        return self._nodes

    def controller(self) -> Node:
        """Return the first worker."""
        return self._nodes[0]

    def leader(self, topic_partition: TopicPartition) -> Node:
        """Return the worker that leads a partition."""
        return self._nodes[leader_index(topic_partition, len(self._nodes))]

    def coordinator(self, key: str) -> Node:
        """Return the first worker."""
        return self._nodes[0]
