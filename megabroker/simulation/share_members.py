"""Simulated members of a share group (KIP-932): they are given records, and accept, reject or give back each.

A record is in a member's hands until it says what becomes of it, or its lock is over, or its connection is
gone. All of these are told in time of what the broker can know at the earliest, so that whoever is given the
record before that is given it too early.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from uuid import UUID

from megabroker.protocols.kafka.schema import (
    incremental_alter_configs,
    metadata,
    share_acknowledge,
    share_fetch,
    share_group_heartbeat,
)
from megabroker.simulation.clients import Client, Refused
from megabroker.simulation.history import Accepted, Acquired, LetGo, Partition
from megabroker.simulation.wire import Unanswered

__all__ = ["ShareMember"]

_GROUP: Final = "share"
_GROUP_RESOURCE: Final = 32
_SET: Final = 0
_ACCEPT, _RELEASE, _REJECT = 1, 2, 3
_LOCK_SECONDS: Final = 2.0
_SESSION_SECONDS: Final = 3.0
_EARLIER_SECONDS: Final = 0.02
"""How long before its client the broker may learn that a connection is gone, at most."""


class _Place(NamedTuple):
    topic_id: bytes
    partition: int


class ShareMember(Client):
    """A member of one share group."""

    member_id = ""
    epoch = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._reading = self.connect()
        self._session_epoch = 0
        self._heard = 0.0
        self._names: dict[bytes, str] = {}
        self._places: list[_Place] = []
        self._held: list[tuple[_Place, Acquired]] = []

    async def run(self) -> None:
        """Client: join, take, begin again."""
        while self.stage.open:
            self.member_id = str(UUID(int=self.dice.getrandbits(128), version=4))
            self.epoch = 0
            self._places = []
            try:
                await self._prepare()
                await self._work()
            except (Unanswered, Refused) as error:
                self.stage.say(self.name, f"joins anew: {error!r}")
            self._begin_anew()
            await self.sleep(0.3)

    async def _prepare(self) -> None:
        """Have the group begin with the first record; learn the topics' ids. Raises Unanswered, Refused."""
        kind = incremental_alter_configs.Request.Resource
        config = kind.Config(name="share.auto.offset.reset", config_operation=_SET, value="earliest")
        resource = kind(resource_type=_GROUP_RESOURCE, resource_name=_GROUP, configs=[config])
        request = incremental_alter_configs.Request(resources=[resource], validate_only=False)
        await self.insist(44, 1, lambda: request, lambda answer: answer.responses[0].error_code)
        answer = await self.ask(3, 10, metadata.Request(topics=None))
        self._names = {bytes(topic.topic_id): topic.name for topic in answer.topics}

    async def _work(self) -> None:
        """Be a member for a while. Raises Unanswered, Refused."""
        until = self.stage.now + self.dice.expovariate(1 / 8)
        while self.stage.open and self.stage.now < until:
            await self._beat(sorted({topic for topic, _ in self.stage.partitions}))
            if self._places:
                await self._take()
                await self.sleep(2.5 if self.dice.random() < 0.05 else self.dice.choice((0.0, 0.1, 0.5)))
                if self._held:
                    await self._settle()
            await self.sleep(0.1)
        if self.dice.random() < 0.5:
            self.epoch = -1
            await self._beat(None)

    async def _beat(self, topics: list[str] | None) -> None:
        sent = self.stage.now
        request = share_group_heartbeat.Request(
            group_id=_GROUP,
            member_id=self.member_id,
            member_epoch=self.epoch,
            subscribed_topic_names=topics if self.epoch == 0 else None,
        )
        answer = await self.ask(76, 1, request, 2.0)
        if answer.error_code:
            raise Refused(answer.error_code)
        self._heard = sent
        self.epoch = answer.member_epoch
        if answer.assignment is not None:
            self._places = [
                _Place(bytes(one.topic_id), index)
                for one in answer.assignment.topic_partitions
                for index in one.partitions
            ]
            self._begin_anew()

    def _begin_anew(self) -> None:
        """End the session, and with it what this one has."""
        self._let_go()
        self._reading.close()
        self._reading = self.connect()
        self._session_epoch = 0

    async def _take(self) -> None:
        """Be given records. Raises Unanswered, Refused."""
        kind = share_fetch.Request.Topic
        topics = [
            kind(topic_id=place.topic_id, partitions=[kind.Partition(partition_index=place.partition)])
            for place in self._places
        ]
        sent = self.stage.now
        request = share_fetch.Request(
            group_id=_GROUP,
            member_id=self.member_id,
            share_session_epoch=self._session_epoch,
            max_wait_ms=200,
            min_bytes=1,
            max_bytes=self.dice.choice((3000, 1 << 20)),
            max_records=self.dice.choice((5, 50)),
            batch_size=50,
            topics=topics if self._session_epoch == 0 else [],
        )
        answer = await self._reading.request(78, 1, request)
        self._session_epoch += 1
        if answer.error_code:
            raise Refused(answer.error_code)
        until = min(sent + _LOCK_SECONDS, self._heard + _SESSION_SECONDS)
        for topic in answer.responses:
            for row in topic.partitions:
                place = _Place(bytes(topic.topic_id), row.partition_index)
                for one in row.acquired_records:
                    self._note_acquired(place, sent, until, one.first_offset, one.last_offset)

    def _note_acquired(self, place: _Place, sent: float, until: float, first: int, last: int) -> None:
        partition: Partition = (self._names[place.topic_id], place.partition)
        acquired = Acquired(self.stage.now, sent, until, _GROUP, self.member_id, partition, first, last)
        self._held.append((place, acquired))
        self.stage.note(acquired)

    def _let_go(self) -> list[tuple[_Place, Acquired]]:
        """From now on, or from when the connection was lost, others may have what this one has; return it."""
        held, self._held = self._held, []
        lost = self._reading.lost_at
        for _, one in held:
            time = max(one.sent, lost - _EARLIER_SECONDS) if lost >= one.sent else self.stage.now
            self.stage.note(LetGo(time, _GROUP, one.member, one.partition, one.first_offset, one.last_offset))
        return held

    async def _settle(self) -> None:
        """Say what becomes of what this one has. Raises Unanswered, Refused."""
        kind = share_acknowledge.Request.Topic
        chosen: list[tuple[int, Acquired]] = []
        batches: dict[_Place, list[Any]] = {}
        for place, one in self._let_go():
            what = self.dice.choice((_ACCEPT, _ACCEPT, _ACCEPT, _RELEASE, _REJECT))
            chosen.append((what, one))
            batches.setdefault(place, []).append(
                kind.Partition.AcknowledgementBatch(
                    first_offset=one.first_offset, last_offset=one.last_offset, acknowledge_types=[what]
                )
            )
        request = share_acknowledge.Request(
            group_id=_GROUP,
            member_id=self.member_id,
            share_session_epoch=self._session_epoch,
            topics=[
                kind(
                    topic_id=place.topic_id,
                    partitions=[
                        kind.Partition(partition_index=place.partition, acknowledgement_batches=found)
                    ],
                )
                for place, found in batches.items()
            ],
        )
        answer = await self._reading.request(79, 1, request)
        self._session_epoch += 1
        if answer.error_code:
            raise Refused(answer.error_code)
        taken = {
            (self._names[bytes(topic.topic_id)], row.partition_index)
            for topic in answer.responses
            for row in topic.partitions
            if not row.error_code
        }
        for what, one in chosen:
            if what != _RELEASE and one.partition in taken:
                self.stage.note(
                    Accepted(self.stage.now, _GROUP, one.partition, one.first_offset, one.last_offset)
                )
