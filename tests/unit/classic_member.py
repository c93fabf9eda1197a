"""A consumer of the classic protocol as tests drive it: it joins, leads, assigns, syncs and revokes.

It behaves as Kafka's clients do: an eager one gives up everything before it joins, a cooperative one keeps
what it has, tells so, gives up what its assignment leaves out, and joins again.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from typing import Any

from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import JoinedGroup, JoinRequest, LeavingMember, SyncedGroup, SyncRequest
from megabroker.protocols.kafka.consumer_metadata import ConsumerMetadata
from megabroker.protocols.kafka.schema.consumer_protocol import Subscription
from tests.unit.consumer_groups_harness import ConsumerHarness
from tests.unit.groups_harness import Outcome

_METADATA = ConsumerMetadata()
_DEAD = frozenset({ErrorCode.FENCED_INSTANCE, ErrorCode.GROUP_FULL, ErrorCode.INCONSISTENT_PROTOCOL})

Place = tuple[str, int]


def subscription(topics: Any, owned: set[Place] = frozenset(), version: int = 1) -> bytes:  # type: ignore[assignment]
    """Write what a consumer joins with."""
    by_topic: dict[str, list[int]] = defaultdict(list)
    for topic, index in sorted(owned):
        by_topic[topic].append(index)
    rows = [Subscription.TopicPartitions(topic=name, partitions=by_topic[name]) for name in sorted(by_topic)]
    message = Subscription(topics=sorted(topics), owned_partitions=rows if version else [])
    return struct.pack(">h", version) + message.encode(version)


class ClassicMember:
    """One consumer.

    Attributes:
        owned: what it consumes.
        error: what ended it.
    """

    def __init__(
        self,
        harness: ConsumerHarness,
        *names: str,
        cooperative: bool = False,
        instance_id: str | None = None,
        protocols: tuple[str, ...] | None = None,
        version: int = 1,
        session_timeout_ms: int = 10_000,
    ) -> None:
        self.h = harness
        self.names = frozenset(names)
        self.cooperative = cooperative
        self.instance_id = instance_id
        self.protocols = protocols or (("cooperative-sticky",) if cooperative else ("range",))
        self.version = version
        self.session_timeout_ms = session_timeout_ms
        self.member_id = ""
        self.generation = -1
        self.owned: set[Place] = set()
        self.assigned: set[Place] = set()
        self.needs_join = True
        self.joining: Outcome | None = None
        self.syncing: Outcome | None = None
        self.error: BrokerError | None = None

    def step(self) -> None:
        """Do the next thing a client would do."""
        if self.error is not None:
            return
        if self.joining is not None:
            if not self.joining.waits:
                outcome, self.joining = self.joining.results[0], None
                self._joined(outcome)
        elif self.syncing is not None:
            if not self.syncing.waits:
                outcome, self.syncing = self.syncing.results[0], None
                self._synced(outcome)
        elif self.owned - self.assigned:
            self.owned &= self.assigned
            self.needs_join = True
        elif self.needs_join:
            self.join()
        else:
            self.beat()

    def join(self) -> None:
        if not self.cooperative:
            self.owned = self.assigned = set()
        self.needs_join = False
        metadata = subscription(self.names, self.owned, self.version)
        self.joining = Outcome(
            self.h.service.join(
                JoinRequest(
                    "g",
                    self.member_id,
                    self.instance_id,
                    "classic",
                    "/host",
                    self.session_timeout_ms,
                    30_000,
                    "consumer",
                    tuple((name, metadata) for name in self.protocols),
                    require_known_member_id=self.instance_id is None,
                    supports_skipping_assignment=True,
                )
            )
        )

    def _joined(self, outcome: BrokerError | JoinedGroup) -> None:
        if isinstance(outcome, BrokerError):
            self._refused(outcome)
            return
        self.member_id, self.generation = outcome.member_id, outcome.generation
        leads = outcome.leader == outcome.member_id and not outcome.skip_assignment
        self.syncing = Outcome(
            self.h.service.sync(
                SyncRequest(
                    "g",
                    self.generation,
                    self.member_id,
                    self.instance_id,
                    "consumer",
                    outcome.protocol_name,
                    self._assign(outcome) if leads else {},
                )
            )
        )

    def _assign(self, joined: JoinedGroup) -> dict[str, bytes]:
        """Assign in turn; what another member still owns is left out until it has given it up."""
        said = {one.member_id: _METADATA.read_subscription(one.metadata) for one in joined.members}
        owners = {
            (topic, index): member
            for member, has in said.items()
            for topic, indexes in has.owned.items()
            for index in indexes
        }
        given: dict[str, dict[str, set[int]]] = {member: defaultdict(set) for member in said}
        for topic in self.h.topics.values():
            takers = sorted(member for member, has in said.items() if topic.name in has.topics)
            for index in range(topic.partitions if takers else 0):
                taker = takers[index % len(takers)]
                if owners.get((topic.name, index), taker) == taker:
                    given[taker][topic.name].add(index)
        return {
            member: _METADATA.write_assignment(
                1, {topic: frozenset(indexes) for topic, indexes in has.items()}
            )
            for member, has in given.items()
        }

    def _synced(self, outcome: BrokerError | SyncedGroup) -> None:
        if isinstance(outcome, BrokerError):
            self._refused(outcome)
            return
        assignment = _METADATA.read_assignment(outcome.assignment)
        assert assignment is not None
        self.assigned = {(topic, index) for topic, indexes in assignment.items() for index in indexes}
        # What is new is consumed at once, what is to go as late as may be.
        self.owned |= self.assigned

    def beat(self) -> None:
        try:
            self.h.service.heartbeat("g", self.generation, self.member_id, self.instance_id)
        except BrokerError as error:
            self._refused(error)

    def _refused(self, error: BrokerError) -> None:
        self.needs_join = True
        if error.code in _DEAD:
            self.error = error
        elif error.code is ErrorCode.MEMBER_ID_REQUIRED:
            self.member_id = error.member_id  # type: ignore[attr-defined]
        elif error.code is not ErrorCode.REBALANCE_IN_PROGRESS:
            assert error.code in (ErrorCode.UNKNOWN_MEMBER, ErrorCode.ILLEGAL_GENERATION), error
            self.generation = -1
            self.owned = self.assigned = set()
            if error.code is ErrorCode.UNKNOWN_MEMBER:
                self.member_id = ""

    def forget_answers(self) -> None:
        """Its connection broke: it asks again."""
        if self.joining is not None or self.syncing is not None:
            self.joining = self.syncing = None
            self.needs_join = True

    def leave(self) -> BrokerError | None:
        """Want out; return the outcome."""
        self.error = BrokerError(ErrorCode.UNKNOWN_MEMBER, "it left")
        if not self.member_id:
            return None
        try:
            return self.h.service.leave("g", [LeavingMember(self.member_id, self.instance_id)])[0]
        except BrokerError as error:
            return error

    @property
    def is_settled(self) -> bool:
        """Whether it has nothing to do but to live."""
        return not (self.needs_join or self.joining or self.syncing or self.owned != self.assigned)


def run(members: list[Any], rounds: int = 12, seconds: float = 0.5) -> None:
    """Let members of both protocols do what they do until there is nothing new."""
    for _ in range(rounds):
        for member in members:
            member.step() if isinstance(member, ClassicMember) else member.beat()
        members[0].h.advance(seconds)
