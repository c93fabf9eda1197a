"""Simulated members of groups: classic ones, and those of the consumer protocol (KIP-848).

A member joins, reads what it was given from where the group stands, commits how far it came, and starts
over when it is told to or cannot reach the broker. Of the classic members the leader assigns. Offsets
committed here only grow, as those of a consumer that works through a partition do.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final
from uuid import UUID

from megabroker.protocols.kafka.schema import (
    consumer_group_heartbeat,
    heartbeat,
    join_group,
    leave_group,
    metadata,
    offset_commit,
    offset_fetch,
    sync_group,
)
from megabroker.protocols.kafka.schema.consumer_protocol import (
    Assignment,
    Subscription,
    read_assignment,
    read_topics,
    write_assignment,
)
from megabroker.simulation.clients import Client, Refused, Stage
from megabroker.simulation.clock import Planned
from megabroker.simulation.consumers import read_batches
from megabroker.simulation.history import (
    Assigned,
    CommitAcked,
    CommitSent,
    OffsetRead,
    Partition,
    Released,
)
from megabroker.simulation.wire import Unanswered

__all__ = ["ConsumerMember", "Member"]

_MEMBER_ID_REQUIRED: Final = 79
_SESSION_MS: Final = 3000
_REBALANCE_MS: Final = 4000
_CONSUMER_SESSION_SECONDS: Final = 5.5  # a little less than the broker is told


class _Consuming(Client):
    """What both kinds of members do with the partitions they have."""

    group = ""
    member_id = ""
    generation = -1

    def __init__(self, stage: Stage, name: str, dice: Random) -> None:
        super().__init__(stage, name, dice)
        self.reading = self.connect()
        self.positions: dict[Partition, int] = {}

    async def find_positions(self, partitions: list[Partition]) -> None:
        """Learn where the group stands. Raises Unanswered, Refused."""
        if not partitions:
            return
        by_topic: dict[str, list[int]] = {}
        for topic, index in partitions:
            by_topic.setdefault(topic, []).append(index)
        kind = offset_fetch.Request.Topic
        topics = [kind(name=topic, partition_indexes=found) for topic, found in by_topic.items()]
        sent = self.stage.now
        answer = await self.ask(9, 6, offset_fetch.Request(group_id=self.group, topics=topics))
        if answer.error_code:
            raise Refused(answer.error_code)
        for topic in answer.topics:
            for one in topic.partitions:
                if one.error_code:
                    raise Refused(one.error_code)
                partition = (topic.name, one.partition_index)
                self.stage.note(
                    OffsetRead(self.stage.now, sent, self.name, self.group, partition, one.committed_offset)
                )
                self.positions[partition] = max(0, one.committed_offset)

    async def consume(self, partition: Partition) -> None:
        """Read a little and commit that. Raises Unanswered, Refused."""
        offset = self.positions[partition]
        answer = await self.fetch(self.reading, partition, offset, committed=True, wait_ms=50)
        if answer.error_code:
            return
        batches, _ = read_batches(answer.records, answer.aborted_transactions, committed=True)
        if not batches or batches[-1].last_offset < offset:
            return
        offset = batches[-1].last_offset + 1
        kind = offset_commit.Request.Topic
        topic = kind(
            name=partition[0],
            partitions=[
                kind.Partition(partition_index=partition[1], committed_offset=offset, committed_metadata="")
            ],
        )
        if self.positions.get(partition) is None:
            return
        self.stage.note(CommitSent(self.stage.now, self.group, partition, offset))
        request = offset_commit.Request(
            group_id=self.group,
            generation_id_or_member_epoch=self.generation,
            member_id=self.member_id,
            topics=[topic],
        )
        committed = await self.ask(8, 9, request)
        code = committed.topics[0].partitions[0].error_code
        if code:
            raise Refused(code)
        self.stage.note(CommitAcked(self.stage.now, self.group, partition, offset))
        self.positions[partition] = offset


class Member(_Consuming):
    """A member of a classic group."""

    group = "classic"

    async def run(self) -> None:
        """Client: join, consume, begin again."""
        while self.stage.open:
            try:
                partitions = await self._join()
                await self.find_positions(partitions)
                await self._work(partitions)
            except (Unanswered, Refused) as error:
                self.stage.say(self.name, f"joins anew: {error!r}")
                if isinstance(error, Refused) and error.code == 25:
                    self.member_id = ""
                await self.sleep(0.2)

    async def _join(self) -> list[Partition]:
        """Return what this member is given. Raises Unanswered, Refused."""
        self.positions.clear()
        topics = sorted({topic for topic, _ in self.stage.partitions})
        data = bytes.fromhex("0001") + bytes(Subscription(topics=topics).encode(1))
        request = join_group.Request(
            group_id=self.group,
            session_timeout_ms=_SESSION_MS,
            rebalance_timeout_ms=_REBALANCE_MS,
            member_id=self.member_id,
            protocol_type="consumer",
            protocols=[join_group.Request.Protocol(name="range", metadata=data)],
        )
        answer = await self.ask(11, 5, request)
        if answer.error_code == _MEMBER_ID_REQUIRED:
            self.member_id = request.member_id = answer.member_id
            answer = await self.ask(11, 5, request)
        if answer.error_code:
            raise Refused(answer.error_code)
        self.member_id, self.generation = answer.member_id, answer.generation_id
        given = await self._sync(answer)
        self.stage.note(Assigned(self.stage.now, self.group, self.generation, self.member_id, given))
        return list(given)

    async def _sync(self, joined: Any) -> tuple[Partition, ...]:
        assignments = []
        if joined.leader == self.member_id:
            members = sorted(joined.members, key=lambda one: str(one.member_id))
            topics = {topic for one in members for topic in read_topics(one.metadata)}
            partitions = [one for one in self.stage.partitions if one[0] in topics]
            for number, member in enumerate(members):
                share: dict[str, list[int]] = {}
                for topic, index in partitions[number :: len(members)]:
                    share.setdefault(topic, []).append(index)
                assignments.append(
                    sync_group.Request.Assignment(member_id=member.member_id, assignment=_encoded(share))
                )
        request = sync_group.Request(
            group_id=self.group,
            generation_id=self.generation,
            member_id=self.member_id,
            assignments=assignments,
        )
        answer = await self.ask(14, 3, request)
        if answer.error_code:
            raise Refused(answer.error_code)
        return tuple(sorted(_decoded(answer.assignment)))

    async def _work(self, partitions: list[Partition]) -> None:
        beat = self.stage.now
        until = self.stage.now + self.dice.expovariate(1 / 6)
        while self.stage.open and self.stage.now < until:
            if partitions:
                await self.consume(self.dice.choice(partitions))
            if self.stage.now - beat > 0.5 or not partitions:
                beat = self.stage.now
                request = heartbeat.Request(
                    group_id=self.group, generation_id=self.generation, member_id=self.member_id
                )
                answer = await self.ask(12, 3, request)
                if answer.error_code:
                    raise Refused(answer.error_code)
            await self.sleep(0.2)
        if self.dice.random() < 0.5:
            members = [leave_group.Request.Member(member_id=self.member_id)]
            await self.ask(13, 3, leave_group.Request(group_id=self.group, members=members))
            self.member_id = ""


def _encoded(share: dict[str, list[int]]) -> bytes:
    kind = Assignment.TopicPartitions
    owned = [kind(topic=topic, partitions=found) for topic, found in share.items()]
    return bytes(write_assignment(Assignment(assigned_partitions=owned), 1))


def _decoded(data: bytes) -> list[Partition]:
    if not data:
        return []
    found = read_assignment(data)
    return [(one.topic, index) for one in found.assigned_partitions for index in one.partitions]


class ConsumerMember(_Consuming):
    """A member of a group of the consumer protocol."""

    group = "consumer"
    _session: Planned | None = None

    async def run(self) -> None:
        """Client: join, consume, begin again."""
        names = await self._names()
        while self.stage.open:
            self.member_id = str(UUID(int=self.dice.getrandbits(128), version=4))
            self.generation = 0
            self.positions.clear()
            try:
                await self._work(names)
            except (Unanswered, Refused) as error:
                self.stage.say(self.name, f"joins anew: {error!r}")
            self._release(())
            # Whoever is not heard of is a member until its session is over.
            await self.sleep(0.3)

    async def _names(self) -> dict[bytes, str]:
        while self.stage.open:
            try:
                answer = await self.ask(3, 10, metadata.Request(topics=None))
            except Unanswered:
                await self.sleep(0.2)
                continue
            return {bytes(topic.topic_id): topic.name for topic in answer.topics}
        return {}

    def _heard(self, sent: float) -> None:
        """A heartbeat sent then was answered: this member has what it has until its session is over.

        Or until it may have been fenced, as it was told to give something up and is not heard of since.
        """
        if self._session is not None:
            self._session.cancel()
        left = sent + min(_CONSUMER_SESSION_SECONDS, _REBALANCE_MS / 1000) - self.stage.now
        self._session = self.stage.timeline.later(left, self._release, ())

    def _release(self, kept: tuple[Partition, ...]) -> None:
        self.stage.note(Released(self.stage.now, self.group, self.member_id, kept))

    async def _work(self, names: dict[bytes, str]) -> None:
        """Be a member for a while. Raises Unanswered, Refused."""
        ids = {name: topic_id for topic_id, name in names.items()}
        until = self.stage.now + self.dice.expovariate(1 / 8)
        owned: tuple[Partition, ...] = ()
        joined = False
        while self.stage.open and self.stage.now < until:
            by_topic: dict[bytes, list[int]] = {}
            for topic, index in owned:
                by_topic.setdefault(ids[topic], []).append(index)
            kind = consumer_group_heartbeat.Request.TopicPartition
            request = consumer_group_heartbeat.Request(
                group_id=self.group,
                member_id=self.member_id,
                member_epoch=self.generation,
                rebalance_timeout_ms=_REBALANCE_MS,
                subscribed_topic_names=None
                if joined
                else sorted({topic for topic, _ in self.stage.partitions}),
                topic_partitions=[kind(topic_id=one, partitions=found) for one, found in by_topic.items()],
            )
            sent = self.stage.now
            answer = await self.ask(68, 1, request, 2.0)
            if answer.error_code:
                raise Refused(answer.error_code)
            self._heard(sent)
            joined = True
            self.generation = answer.member_epoch
            if answer.assignment is not None:
                target = tuple(
                    sorted(
                        (names[bytes(one.topic_id)], index)
                        for one in answer.assignment.topic_partitions
                        for index in one.partitions
                    )
                )
                self.positions = {one: at for one, at in self.positions.items() if one in target}
                self._release(target)
                owned = target
                self.stage.note(Assigned(self.stage.now, self.group, -1, self.member_id, owned))
            missing = [one for one in owned if one not in self.positions]
            await self.find_positions(missing)
            if owned:
                await self.consume(self.dice.choice(owned))
            await self.sleep(0.3)
        request = consumer_group_heartbeat.Request(
            group_id=self.group, member_id=self.member_id, member_epoch=-1
        )
        self._release(())
        await self.ask(68, 1, request, 2.0)
