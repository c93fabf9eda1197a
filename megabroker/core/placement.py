"""Placement of a broker that is alone: every question has the answer "me"."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from zope.interface import implementer

from megabroker.interfaces import IPlacement
from megabroker.model import Listener, Node, TopicPartition

__all__ = ["SinglePlacement"]


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
