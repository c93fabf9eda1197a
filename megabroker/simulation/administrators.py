"""Simulated administrators: one makes and deletes topics, one inspects everything at the end.

A topic that is deleted and made again is another topic. In the history it is known by its name and a number,
``churn#3``; nothing of an earlier one may be found in a later.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from megabroker.protocols.kafka.schema import (
    create_topics,
    delete_topics,
    metadata,
    offset_fetch,
)
from megabroker.simulation.clients import Refused
from megabroker.simulation.consumers import Reader
from megabroker.simulation.history import FINAL, Batch, Configured, Fetched, OffsetRead, Partition, TopicKnown
from megabroker.simulation.plan import Plan
from megabroker.simulation.producers import PlainProducer
from megabroker.simulation.rules import Violation
from megabroker.simulation.wire import Unanswered

__all__ = ["Administrator", "Inspector"]

_EXISTS: Final = 36
_UNKNOWN: Final = 3
_CORRUPT: Final = 2


CONFIGS: Final[dict[str, dict[str, str]]] = {
    "plain": {},
    "compact": {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01"},
    "trimmed": {},
}
"""What the kinds of topics are given."""


def _creation(name: str, partitions: int, kind: str = "plain") -> create_topics.Request:
    configs = [
        create_topics.Request.Topic.Config(name=key, value=value) for key, value in CONFIGS[kind].items()
    ]
    topic = create_topics.Request.Topic(
        name=name, num_partitions=partitions, replication_factor=1, configs=configs
    )
    return create_topics.Request(topics=[topic], timeout_ms=5000)


class Administrator(PlainProducer):
    """Makes a topic, uses it, deletes it, again and again."""

    acks = -1

    async def run(self) -> None:
        """Client: make, use, delete."""
        name = f"churn-of-{self.name}"
        reader = Reader(self.stage, f"{self.name}-reader", self.dice)
        number = 0
        while self.stage.open:
            number += 1
            partition = (f"{name}#{number}", 0)
            try:
                await self.insist(19, 5, lambda: _creation(name, 1), _creation_code)
                self.stage.note(TopicKnown(self.stage.now, self.name, name, True))
                for _ in range(self.dice.randrange(1, 6)):
                    await self.send(partition)
                await reader.read(partition, 0, committed=False)
                await self.sleep(0.3)
                # Asked for, it may be gone or not; answered, it is gone.
                self.stage.unknown_topics.add(name)
                await self.insist(
                    20,
                    4,
                    lambda: delete_topics.Request(topic_names=[name], timeout_ms=5000),
                    lambda answer: (
                        0 if answer.responses[0].error_code == _UNKNOWN else answer.responses[0].error_code
                    ),
                )
                self.stage.unknown_topics.discard(name)
                self.stage.note(TopicKnown(self.stage.now, self.name, name, False))
                self.stage.unknown_topics.add(name)
            except (Unanswered, Refused) as error:
                self.stage.say(self.name, f"gives up: {error!r}")
                return


def _creation_code(answer: Any) -> int:
    code = int(answer.topics[0].error_code)
    return 0 if code == _EXISTS else code


class Inspector(Reader):
    """Makes the topics at the beginning and reads everything at the end."""

    fetch_version = 11

    async def make_topics(self, plan: Plan) -> None:
        """Make the topics that are there all the time. Raises Unanswered, Refused."""
        for number, partitions in enumerate(plan.partitions):
            name = f"topic{number}"
            kind = plan.kind(number)
            await self.insist(19, 5, partial(_creation, name, partitions, kind), _creation_code)
            made = [(name, index) for index in range(partitions)]
            self.stage.partitions += made
            if kind == "compact":
                self.stage.keyed.update(made)
            elif kind == "trimmed":
                self.stage.trimmed += made
            self.stage.note(Configured(self.stage.now, name, kind == "compact", -1))
            self.stage.note(TopicKnown(self.stage.now, self.name, name, True))

    async def wait_for_data(self) -> None:
        """Ask for what is not there yet: the answer comes in time, whatever was done to the clock."""
        for _ in range(6):
            await self.sleep(1.0)
            try:
                answer = await self.fetch(self.connection, self.stage.partitions[0], 0, committed=False)
                end = max(0, int(answer.high_watermark))
                await self.fetch(self.connection, self.stage.partitions[0], end, committed=False)
                return
            except Unanswered:
                continue
        self.stage.violated(Violation("stuck", "a fetch that waits for data is not answered"))

    async def read_everything(self) -> None:
        """Read every topic, partition and offset there is, as it is when nothing goes wrong any more."""
        while True:
            try:
                there = await self.ask(3, 9, metadata.Request(topics=None))
                break
            except Unanswered:
                await self.sleep(0.2)
        names = {topic.name for topic in there.topics}
        for name in sorted({event.topic for event in self.stage.history.of(TopicKnown)}):
            if name not in self.stage.unknown_topics:
                self.stage.note(TopicKnown(self.stage.now, FINAL, name, name in names))
        for partition in self.stage.partitions:
            if partition[0] not in names:
                continue
            start = await self.start_of(partition)
            await self._settled(partition, start)
            for committed in (False, True):
                await self._read_all(partition, start, committed=committed)
        for group in self.stage.groups():
            await self._read_offsets(group)

    async def _settled(self, partition: Partition, start: int) -> None:
        """Wait until all transactions have come to their ends."""
        offset: int | None = start
        for _ in range(200):
            if offset is None:
                return
            try:
                answer = await self.fetch(self.connection, partition, offset, committed=True)
            except Unanswered:
                continue
            if answer.error_code == _CORRUPT:
                offset = self.after_damage(partition, offset, "it cannot be read")
                continue
            if not answer.error_code and answer.high_watermark == answer.last_stable_offset:
                return
            await self.sleep(0.3)
        text = f"the last stable offset of {partition} does not come to its end"
        self.stage.violated(Violation("stuck", text))

    async def _read_all(self, partition: Partition, start: int, *, committed: bool) -> None:
        offset = start
        batches: list[Batch] = []
        last: Fetched | None = None
        sent = self.stage.now
        while True:
            before = len(self.stage.history.events)
            try:
                following = await self.read(partition, offset, committed=committed)
            except Unanswered:
                continue
            events = self.stage.history.events[before:]
            seen = [one for one in events if isinstance(one, Fetched)]
            if seen:
                last = seen[-1]
                batches += last.batches
            elif following is not None and following > offset:
                # The log begins later meanwhile.
                start = offset = following
                batches.clear()
                continue
            elif following is None:
                following = self.after_damage(partition, offset, "it cannot be read")
            if following is None or last is None:
                break
            if following == offset or following >= last.stable_offset:
                break
            offset = following
        if last is not None:
            self.stage.note(
                last._replace(
                    time=self.stage.now, sent=sent, reader=FINAL, offset=start, batches=tuple(batches)
                )
            )

    async def _read_offsets(self, group: str) -> None:
        sent = self.stage.now
        answer = await self.ask(9, 6, offset_fetch.Request(group_id=group, topics=None))
        found = {
            (topic.name, one.partition_index): one.committed_offset
            for topic in answer.topics
            for one in topic.partitions
        }
        for partition in self.stage.partitions:
            offset = found.get(partition, -1)
            self.stage.note(OffsetRead(self.stage.now, sent, FINAL, group, partition, offset))
