"""What tests of groups of the consumer protocol share: topics to change, members as KIP-848 wants them."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import UUID

from twisted.internet.task import Clock

from megabroker.core.groups import GroupService, GroupSettings
from megabroker.core.groups.reconciliation import union
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import ConsumerHeartbeat, ConsumerHeartbeatAnswer, Topic
from megabroker.protocols.kafka.consumer_metadata import ConsumerMetadata, subscribed_topics
from tests.unit.groups_harness import START_S, HeldStore, Outcome

GONE = frozenset(
    {
        ErrorCode.UNKNOWN_MEMBER,
        ErrorCode.FENCED_MEMBER_EPOCH,
        ErrorCode.FENCED_INSTANCE,
        ErrorCode.GROUP_NOT_FOUND,
    }
)
"""Errors after which a member has nothing any more and joins again."""


class ConsumerHarness:
    """A service over a Clock and topics that tests change at will."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.clock.advance(START_S)
        self.store = HeldStore()
        self.topics: dict[str, Topic] = {}
        self._topic_numbers = itertools.count(1)
        self._member_numbers = itertools.count(1)
        self.settings = GroupSettings(**settings)
        self.start()

    def start(self) -> None:
        self.service = GroupService(
            self.clock,
            self.store,
            self.settings,
            lambda partition: partition.topic in self.topics,
            topics=lambda: list(self.topics.values()),
            new_member_id=lambda prefix: f"{prefix}-{next(self._member_numbers)}",
        )
        self.service.subscribed_topics = subscribed_topics
        self.service.consumer_metadata = ConsumerMetadata()
        self.service.load()

    def restart(self) -> None:
        self.service.stop()
        assert self.clock.getDelayedCalls() == []
        self.start()

    def topic(self, name: str, partitions: int) -> UUID:
        """Create or replace a topic."""
        topic = Topic(name, UUID(int=next(self._topic_numbers)), partitions)
        self.topics[name] = topic
        return topic.id

    def grow(self, name: str, partitions: int) -> None:
        self.topics[name] = Topic(name, self.topics[name].id, partitions)

    def delete(self, name: str) -> None:
        del self.topics[name]
        self.service.topic_deleted(name)

    def advance(self, seconds: float, step: float = 0.5) -> None:
        while seconds > 0:
            self.clock.advance(min(step, seconds))
            seconds -= step

    def beat(self, member_id: str = "", epoch: int = 0, group_id: str = "g", **fields: Any) -> Outcome:
        return Outcome(
            self.service.consumer_heartbeat(
                ConsumerHeartbeat(group_id, member_id, epoch, **{"client_id": "c", **fields})
            )
        )

    def join(self, member_id: str = "", *names: str, group_id: str = "g", **fields: Any) -> Outcome:
        rest = {
            "rebalance_timeout_ms": 30_000,
            "owned": {},
            "topic_names": frozenset(names or ("t",)),
            **fields,
        }
        return self.beat(member_id, 0, group_id, **rest)

    def state(self, group_id: str = "g") -> str:
        return self.service.describe_consumers(group_id).state


class Member:
    """A client that does what KIP-848 asks of it.

    Attributes:
        owned: what it consumes; given up only in ``beat``, which also tells.
        assignment: what it was told last.
    """

    def __init__(
        self,
        harness: ConsumerHarness,
        *names: str,
        pattern: str | None = None,
        instance_id: str | None = None,
        member_id: str = "",
        assignor: str | None = None,
    ) -> None:
        self.h = harness
        self.names = frozenset(names)
        self.pattern = pattern
        self.instance_id = instance_id
        self.assignor = assignor
        self.member_id = member_id
        self.epoch = 0
        self.owned: dict[UUID, frozenset[int]] = {}
        self.assignment: dict[UUID, frozenset[int]] = {}
        self.error: BrokerError | None = None

    def beat(self, *, lose_answer: bool = False, full: bool = False) -> None:
        """Take over the assignment told last, and say so; then hear what is new."""
        self.owned = dict(self.assignment)
        everything = full or self.epoch == 0
        outcome = self.h.beat(
            self.member_id,
            self.epoch,
            instance_id=self.instance_id,
            rebalance_timeout_ms=30_000 if everything else -1,
            topic_names=self.names if everything else None,
            topic_pattern=self.pattern if everything else None,
            assignor=self.assignor if everything else None,
            owned=self.owned,
        )
        if not lose_answer:
            self.hear(outcome.results[0])

    def hear(self, answer: BrokerError | ConsumerHeartbeatAnswer) -> None:
        if isinstance(answer, BrokerError):
            self.error = answer
            if answer.code in GONE:
                self.epoch, self.owned, self.assignment = 0, {}, {}
            return
        self.error = None
        self.member_id, self.epoch = answer.member_id, answer.member_epoch
        if answer.assignment is not None:
            self.assignment = dict(answer.assignment)
            # It begins with what is new at once, and stops consuming the rest as late as it may.
            self.owned = union(self.owned, self.assignment)

    def leave(self, epoch: int = -1) -> Outcome:
        outcome = self.h.beat(self.member_id, epoch, instance_id=self.instance_id)
        self.epoch, self.owned, self.assignment = 0, {}, {}
        return outcome

    @property
    def has(self) -> list[tuple[UUID, int]]:
        return sorted((topic, index) for topic, indexes in self.assignment.items() for index in indexes)


def settle(members: list[Member], rounds: int = 6) -> None:
    """Let everybody send heartbeats until there is nothing new."""
    for _ in range(rounds):
        for member in members:
            member.beat()
