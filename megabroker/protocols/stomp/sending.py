"""Messages on their way into the log: those of a turn, in a batch for each partition; those of a transaction.

Owns the step from messages to record batches, and which partition each is for. A message with a key is where
Kafka's clients put that key; one without goes where all of its connection go, so that they stay in order.

*Transactions.* What is sent in one is kept until COMMIT. For one partition it is then one batch, stored whole
or not at all. For several it is a transaction of the log: all becomes visible or nothing does, to consumers
that read what is committed, as those of STOMP do. Where partitions are led by several processes
(``workers``), each partition's batch is stored whole or not at all, and one may be stored without another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred

from megabroker.codec.batch import build, build_single, read_header
from megabroker.codec.murmur import partition_of
from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError
from megabroker.interfaces import IBroker, IPartition, IRemotePartition
from megabroker.model import Acks, ProducerIdentity, TopicPartition
from megabroker.net.wire import Room
from megabroker.protocols.stomp.messages import Message

__all__ = ["Outbox", "TransactionalIds", "commit"]

_BATCH_BYTES: Final = 128 * 1024
_BATCH_MESSAGES: Final = 500
_BATCH_OVERHEAD_BYTES: Final = 1024
_TRANSACTIONAL: Final = 16
_TRANSACTION_MS: Final = 30_000
_ENDED: Final = frozenset({"Empty", "CompleteCommit", "CompleteAbort"})
_MOST_IDS: Final = 1000
_LOOKED_AT: Final = 3  # the one given back first is free first

Settled = Callable[[BrokerError | None], None]


@attrs.define(eq=False)
class _Batch:
    """Messages for one partition, and who is told what has become of each."""

    partition: IPartition
    messages: list[Message] = attrs.field(factory=list)
    settled: list[Settled] = attrs.field(factory=list)
    size_bytes: int = 0

    def add(self, message: Message, settled: Settled) -> None:
        self.messages.append(message)
        self.settled.append(settled)
        self.size_bytes += message.size_bytes

    def tell(self, error: BrokerError | None) -> None:
        for settled in self.settled:
            settled(error)


class Outbox:
    """What one connection sends.

    Args:
        acks: when a message is settled.
        number: of the connection, which chooses the partition of messages without a key.
    """

    def __init__(self, broker: IBroker, acks: Acks, number: int) -> None:
        self._broker = broker
        self._acks = acks
        self._number = number
        self._batches: dict[tuple[str, int], _Batch] = {}
        self._most_messages = min(_BATCH_MESSAGES, broker.settings.partition_channel_buffer_size)

    def find(self, message: Message) -> IPartition:
        """Return the partition a message is for. Raises BrokerError."""
        topic = self._broker.topics.get(message.topic)
        if topic is None:
            raise RequestError(ErrorCode.UNKNOWN_TOPIC, f"there is no topic {message.topic}")
        index = message.partition
        if index is None:
            key = message.key
            index = self._number % topic.partitions if key is None else partition_of(key, topic.partitions)
        partition = self._broker.partitions.partition(message.topic, index)
        if partition.needs_keys and message.key is None:
            raise RequestError(
                ErrorCode.INVALID_RECORD, f"{message.topic} is compacted: expected a header key"
            )
        return partition

    def offer(self, message: Message, settled: Settled) -> Room | None:
        """Take a message for this turn's batch, or say who has no room for it.

        Args:
            settled: called once and later: with None when it is stored, with why if it was not.

        Raises:
            BrokerError: it cannot be stored.
        """
        partition = self.find(message)
        place = (message.topic, partition.index)
        size_bytes = message.size_bytes
        batch = self._batches.get(place)
        if batch is not None:
            count, total = len(batch.messages) + 1, batch.size_bytes + size_bytes
            longest = min(_BATCH_BYTES, partition.policy.max_message_bytes - _BATCH_OVERHEAD_BYTES)
            if count > self._most_messages or total > longest or not partition.has_room(count, total):
                self._append(self._batches.pop(place))
                batch = None
        if batch is None:
            if not partition.has_room(1, size_bytes):
                return partition
            batch = self._batches[place] = _Batch(partition)
        batch.add(message, settled)
        return None

    def append_all(self) -> None:
        """Hand everything taken to the partitions."""
        batches, self._batches = self._batches, {}
        for batch in batches.values():
            self._append(batch)

    def _append(self, batch: _Batch) -> None:
        try:
            store(batch.partition, encode(batch.messages, self._broker.now_ms()), self._acks, batch.tell)
        except BrokerError as error:
            batch.tell(error)


def encode(messages: Sequence[Message], now_ms: int, identity: ProducerIdentity | None = None) -> bytearray:
    """Return messages as one record batch, that of a transaction if ``identity`` says whose."""
    first = messages[0]
    if len(messages) == 1 and not first.headers and identity is None:
        return build_single(first.key, first.value, now_ms)
    records = [(one.key, one.value, one.headers, now_ms) for one in messages]
    if identity is None:
        return build(records)
    return build(
        records,
        producer_id=identity.producer_id,
        producer_epoch=identity.producer_epoch,
        base_sequence=0,
        attributes=_TRANSACTIONAL,
    )


def store(partition: IPartition, data: bytearray, acks: Acks, settled: Settled) -> None:
    """Append a batch, wherever the partition is led. Raises BrokerError: refused, nothing will be called."""
    header = read_header(data, 0, len(data))
    if partition.is_here:
        partition.append(header, data, acks, settled)
    else:
        remote: IRemotePartition = partition  # type: ignore[assignment]
        remote.send(header, data, acks, lambda _, error: settled(error))


class TransactionalIds:
    """Names for transactions of the log, used again and again: each is remembered by the broker.

    One is free when the transaction before has come to its end, which is somewhat later than it is decided.
    """

    def __init__(self, broker: IBroker, prefix: str) -> None:
        self._broker = broker
        self._prefix = prefix
        self._free: deque[str] = deque()
        self._count = 0

    def take(self) -> str:
        """Return a name that nobody else has, to be given back. Raises StateError: there are too many."""
        for _ in range(min(len(self._free), _LOOKED_AT)):
            name = self._free.popleft()
            found = self._broker.transactions.describe(name)
            if found is None or found.state in _ENDED:
                return name
            self._free.append(name)
        if self._count >= _MOST_IDS:
            raise StateError(
                ErrorCode.OVERLOADED,
                f"{_MOST_IDS} transactions are under way on this listener",
                retriable=True,
            )
        self._count += 1
        return f"{self._prefix}-{self._count}"

    def give_back(self, name: str) -> None:
        """Let another have a name."""
        self._free.append(name)


async def commit(
    broker: IBroker, outbox: Outbox, messages: Sequence[Message], acks: Acks, ids: TransactionalIds
) -> None:
    """Store all messages of a transaction; see above for what that promises. Raises BrokerError."""
    batches: dict[tuple[str, int], _Batch] = {}
    for message in messages:
        partition = outbox.find(message)
        batch = batches.setdefault((message.topic, partition.index), _Batch(partition))
        batch.add(message, _nothing)
    for batch in batches.values():
        await _room(batch)
    if len(batches) > 1 and all(batch.partition.is_here for batch in batches.values()):
        transactional_id = ids.take()
        try:
            if broker.placement.coordinator(transactional_id).id == broker.placement.me.id:
                await _as_one(broker, transactional_id, list(batches.values()))
                return
        finally:
            ids.give_back(transactional_id)
    await _all_stored(
        [
            _stored(batch.partition, encode(batch.messages, broker.now_ms()), acks)
            for batch in batches.values()
        ]
    )


async def _as_one(broker: IBroker, transactional_id: str, batches: Sequence[_Batch]) -> None:
    transactions = broker.transactions
    identity = await transactions.init_producer(transactional_id, _TRANSACTION_MS, None)
    places = [TopicPartition(batch.partition.topic.name, batch.partition.index) for batch in batches]
    outcomes = await transactions.add_partitions(transactional_id, identity, places)
    refused = next((code for code in outcomes.values() if code is not None), None)
    if refused is not None:
        raise RequestError(refused, f"the transaction was refused: {refused.value}")
    try:
        await _all_stored(
            [
                _stored(batch.partition, encode(batch.messages, broker.now_ms(), identity), Acks.DURABLE)
                for batch in batches
            ]
        )
    except BrokerError:
        await transactions.end(transactional_id, identity, False, bump_epoch=False)
        raise
    await transactions.end(transactional_id, identity, True, bump_epoch=False)


async def _room(batch: _Batch) -> None:
    while not batch.partition.has_room(len(batch.messages), batch.size_bytes):
        room: Deferred[None] = Deferred()
        batch.partition.when_room(lambda room=room: room.callback(None))  # type: ignore[misc]
        await room


def _stored(partition: IPartition, data: bytearray, acks: Acks) -> Deferred[None]:
    done: Deferred[None] = Deferred()

    def settled(error: BrokerError | None) -> None:
        if error is None:
            done.callback(None)
        else:
            done.errback(error)

    try:
        store(partition, data, acks, settled)
    except BrokerError as error:
        done.errback(error)
    return done


async def _all_stored(waiting: Sequence[Deferred[None]]) -> None:
    """Wait for all; raise what the first that failed did."""
    failed: BrokerError | None = None
    for one in waiting:
        try:
            await one
        except BrokerError as error:
            failed = failed or error
    if failed is not None:
        raise failed


def _nothing(_: Any) -> None:
    """Nobody is told of one message of a transaction."""
