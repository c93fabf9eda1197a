"""Simulated producers: plain, idempotent, transactional; they go by Kafka's rules for clients.

A plain producer sends one batch after the other, again if it has to. An idempotent one has several under
way and sends those without an outcome again with their sequences; when it cannot know where its sequence is
any more it takes a new epoch. A transactional one begins, sends, commits offsets of a group, and ends;
after any doubt it initialises anew, which aborts what was open.
"""

from __future__ import annotations

from typing import Any, Final

from megabroker.protocols.kafka.schema import (
    add_offsets_to_txn,
    add_partitions_to_txn,
    end_txn,
    init_producer_id,
    txn_offset_commit,
)
from megabroker.simulation.clients import RETRIABLE, Client, Refused, make_batch
from megabroker.simulation.history import (
    Acked,
    Partition,
    Sent,
    TransactionEnded,
    TransactionEnding,
    TransactionOffset,
)
from megabroker.simulation.wire import Unanswered

__all__ = ["IdempotentProducer", "PlainProducer", "TransactionalProducer"]

_DUPLICATE_SEQUENCE: Final = 46
_OUT_OF_ORDER: Final = 45
_WINDOW: Final = 5
_TIMEOUT_MS: Final = 8000


class PlainProducer(Client):
    """Sends one batch at a time."""

    acks = -1

    async def run(self) -> None:
        """Client: send."""
        self.acks = self.dice.choice((1, -1, -1))
        while self.stage.open:
            await self.send(self.dice.choice(self.stage.partitions))
            await self.sleep(self.dice.choice((0.0, 0.05, 0.3)))

    async def send(self, partition: Partition) -> bool:
        """Send a batch; return whether it was acknowledged."""
        names = self.new_names(self.dice.randrange(1, 6), partition)
        now_ms = int(self.stage.now * 1000)
        batch = make_batch(names, self.dice, now_ms, (-1, -1, -1), transactional=False)
        self.stage.note(Sent(self.stage.now, self.name, partition, names, self.acks, False, 0))
        for _ in range(20):
            try:
                answer = await self.produce(partition, batch, self.acks, None)
            except Unanswered:
                pass
            else:
                if answer.error_code == 0:
                    self.stage.note(Acked(self.stage.now, self.name, partition, names, answer.base_offset))
                    return True
                if answer.error_code not in RETRIABLE:
                    return False
            if not self.stage.open:
                return False
            await self.sleep(0.1)
        return False


class IdempotentProducer(Client):
    """Sends several batches at a time, each stored once."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.producer_id = -1
        self.epoch = -1
        self.sequences: dict[Partition, int] = {}

    async def run(self) -> None:
        """Client: send."""
        try:
            await self.initialise()
            while self.stage.open:
                partition = self.dice.choice(self.stage.partitions)
                if not await self._send(partition, self.dice.randrange(1, _WINDOW + 1)):
                    await self.initialise()
                await self.sleep(self.dice.choice((0.0, 0.1, 0.3)))
        except (Unanswered, Refused):
            return

    async def initialise(self) -> None:
        """Take an id, or the next epoch of it. Raises Unanswered, Refused."""
        known = self.producer_id, self.epoch
        try:
            answer = await self._initialised(*known)
        except Refused:
            answer = await self._initialised(-1, -1)
        self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch
        self.sequences.clear()

    async def _initialised(self, producer_id: int, epoch: int) -> Any:
        return await self.insist(
            22,
            4,
            lambda: init_producer_id.Request(
                transactional_id=None,
                transaction_timeout_ms=_TIMEOUT_MS,
                producer_id=producer_id,
                producer_epoch=epoch,
            ),
            lambda answer: answer.error_code,
        )

    async def _send(self, partition: Partition, count: int) -> bool:
        """Send batches until each has an outcome; return whether the sequence is still known."""
        pending: list[tuple[tuple[str, ...], bytes]] = []
        for _ in range(count):
            names = self.new_names(self.dice.randrange(1, 4), partition)
            sequence = self.sequences.get(partition, 0)
            self.sequences[partition] = sequence + len(names)
            now_ms = int(self.stage.now * 1000)
            producer = self.producer_id, self.epoch, sequence
            pending.append((names, make_batch(names, self.dice, now_ms, producer, transactional=False)))
            self.stage.note(Sent(self.stage.now, self.name, partition, names, -1, True, 0))
        for _ in range(15):
            waiting = [(names, batch, self.produce(partition, batch, -1, None)) for names, batch in pending]
            again: list[tuple[tuple[str, ...], bytes]] = []
            lost = False
            for names, batch, asked in waiting:
                try:
                    answer = await asked
                except Unanswered:
                    again.append((names, batch))
                    continue
                code = answer.error_code
                if code in (0, _DUPLICATE_SEQUENCE):
                    base = answer.base_offset if code == 0 else -1
                    self.stage.note(Acked(self.stage.now, self.name, partition, names, base))
                elif code in RETRIABLE or (code == _OUT_OF_ORDER and again):
                    again.append((names, batch))
                else:
                    lost = True
            if lost:
                return False
            pending = again
            if not pending:
                return True
            if not self.stage.open:
                return False
            await self.sleep(0.1)
        return False


class TransactionalProducer(Client):
    """Sends batches in transactions, now and then with offsets of a group; aborts some."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.modern = self.dice.random() < 0.5
        self.produce_version = 12 if self.modern else self.produce_version
        self._producer = (-1, -1)
        self._sequences: dict[Partition, int] = {}
        self._position = 0
        self._ended = False
        self._group = f"group-of-{self.name}"

    async def run(self) -> None:
        """Client: one transaction after the other."""
        sound = False
        while self.stage.open:
            if not sound:
                try:
                    await self._initialise()
                except (Unanswered, Refused):
                    await self.sleep(0.5)
                    continue
            sound = await self._transaction()
            await self.sleep(self.dice.choice((0.0, 0.1, 0.4)))

    async def _initialise(self) -> None:
        answer = await self.insist(
            22,
            4,
            lambda: init_producer_id.Request(
                transactional_id=self.name,
                transaction_timeout_ms=_TIMEOUT_MS,
                producer_id=-1,
                producer_epoch=-1,
            ),
            lambda answer: answer.error_code,
        )
        self._producer = answer.producer_id, answer.producer_epoch
        self._sequences.clear()

    async def _transaction(self) -> bool:
        """Do one; return whether the next may begin without initialising."""
        stage = self.stage
        number = stage.next_transaction()
        outcome = "aborted"
        commit = self.dice.random() < 0.7
        try:
            await self._fill(number)
            stage.note(TransactionEnding(stage.now, number, commit))
            if commit:
                outcome = "unknown"
            await self._end(commit=commit)
            outcome = "committed" if commit else "aborted"
        except (Unanswered, Refused) as error:
            stage.say(self.name, f"transaction {number}: {error!r}")
        stage.note(TransactionEnded(stage.now, number, outcome))
        return outcome == ("committed" if commit else "aborted") and self._ended

    async def _fill(self, number: int) -> None:
        self._ended = False
        partitions = self.dice.sample(
            self.stage.partitions, self.dice.randrange(1, min(3, len(self.stage.partitions)) + 1)
        )
        if not self.modern:
            await self._add(partitions)
        for _ in range(self.dice.randrange(1, 5)):
            await self._send(number, self.dice.choice(partitions))
        if self.dice.random() < 0.4:
            await self._commit_offset(number)

    async def _add(self, partitions: list[Partition]) -> None:
        by_topic: dict[str, list[int]] = {}
        for topic, index in partitions:
            by_topic.setdefault(topic, []).append(index)
        topics = [
            add_partitions_to_txn.Topic(name=topic, partitions=found) for topic, found in by_topic.items()
        ]
        await self.insist(
            24,
            3,
            lambda: add_partitions_to_txn.Request(
                v3_and_below_transactional_id=self.name,
                v3_and_below_producer_id=self._producer[0],
                v3_and_below_producer_epoch=self._producer[1],
                v3_and_below_topics=topics,
            ),
            lambda answer: max(
                (
                    one.partition_error_code
                    for topic in answer.results_by_topic_v3_and_below
                    for one in topic.results_by_partition
                ),
                key=abs,
            ),
        )

    async def _send(self, number: int, partition: Partition) -> None:
        stage = self.stage
        names = self.new_names(self.dice.randrange(1, 4), partition)
        sequence = self._sequences.get(partition, 0)
        self._sequences[partition] = sequence + len(names)
        batch = make_batch(
            names, self.dice, int(stage.now * 1000), (*self._producer, sequence), transactional=True
        )
        stage.note(Sent(stage.now, self.name, partition, names, -1, True, number))
        for _ in range(20):
            try:
                answer = await self.produce(partition, batch, -1, self.name)
            except Unanswered:
                pass
            else:
                code = answer.error_code
                if code in (0, _DUPLICATE_SEQUENCE):
                    base = answer.base_offset if code == 0 else -1
                    stage.note(Acked(stage.now, self.name, partition, names, base))
                    return
                if code not in RETRIABLE:
                    raise Refused(code)
            if not stage.open:
                break
            await self.sleep(0.1)
        raise Unanswered(names[0])

    async def _commit_offset(self, number: int) -> None:
        partition = self.stage.partitions[0]
        self._position += self.dice.randrange(1, 10)
        producer_id, epoch = self._producer
        if not self.modern:
            await self.insist(
                25,
                3,
                lambda: add_offsets_to_txn.Request(
                    transactional_id=self.name,
                    producer_id=producer_id,
                    producer_epoch=epoch,
                    group_id=self._group,
                ),
                lambda answer: answer.error_code,
            )
        kind = txn_offset_commit.Request.Topic
        topic = kind(
            name=partition[0],
            partitions=[
                kind.Partition(
                    partition_index=partition[1], committed_offset=self._position, committed_metadata=""
                )
            ],
        )
        event = TransactionOffset(self.stage.now, number, self._group, partition, self._position)
        self.stage.note(event)
        await self.insist(
            28,
            5 if self.modern else 3,
            lambda: txn_offset_commit.Request(
                transactional_id=self.name,
                group_id=self._group,
                producer_id=producer_id,
                producer_epoch=epoch,
                topics=[topic],
            ),
            lambda answer: answer.topics[0].partitions[0].error_code,
        )

    async def _end(self, *, commit: bool) -> None:
        answer = await self.insist(
            26,
            5 if self.modern else 3,
            lambda: end_txn.Request(
                transactional_id=self.name,
                producer_id=self._producer[0],
                producer_epoch=self._producer[1],
                committed=commit,
            ),
            lambda answer: answer.error_code,
        )
        self._ended = True
        if self.modern:
            self._producer = answer.producer_id, answer.producer_epoch
            self._sequences.clear()
