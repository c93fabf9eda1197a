"""PUBLISH in the first dialect: messages gathered over a turn, handed to their partitions, answered.

Owns what of one connection is gathered and has no outcome yet. Never keeps a message that its partition's
queue has no room for: such a publish waits with its connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from megabroker.access import Operation
from megabroker.codec.batch import build, build_single, read_header
from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError
from megabroker.interfaces import IPartition, IPublisher
from megabroker.model import Acks
from megabroker.net.asked import Asked
from megabroker.net.wire import Answer, Room
from megabroker.protocols.cursus.codec import Publish, Reply, encode_frame
from megabroker.protocols.cursus.failing import failure_reply
from megabroker.protocols.publishing import RECORD_OVERHEAD_BYTES, Storing

if TYPE_CHECKING:
    from megabroker.protocols.cursus.protocol import CursusConnection

__all__ = ["Batch", "Message", "Publishing"]

_LARGEST_BATCH_BYTES: Final = 256 * 1024  # of several messages; a single one may be larger

_STORED = encode_frame(Reply.STORED)


@attrs.frozen
class Message:
    """A published message, the reply it gets once it is stored, and when it came by the monotonic clock."""

    message_id: int
    data: bytes
    slot: Answer
    reply: bytes
    since: float


class Batch:
    """Messages for one partition gathered over a turn."""

    __slots__ = ("messages", "partition", "size_bytes", "topic")

    def __init__(self, topic: str, partition: IPartition) -> None:
        self.topic = topic
        self.partition = partition
        self.messages: list[Message] = []
        self.size_bytes = 0


class Publishing:
    """What one connection publishes.

    Attributes:
        unsettled: how many publishes have no outcome yet.
    """

    def __init__(self, client: CursusConnection) -> None:
        self.unsettled = 0
        self._client = client
        self._is_over = False
        self._batches: dict[tuple[str, int], Batch] = {}
        self._published: tuple[str, bytes] = ("", b"")

    @property
    def gathers(self) -> bool:
        """Whether there is something to append at the end of the turn."""
        return bool(self._batches)

    def give_up(self) -> None:
        """The connection is gone: what is gathered is not stored."""
        batches, self._batches = self._batches, {}
        gone = StateError(ErrorCode.SHUTTING_DOWN, "the connection is gone", retriable=True)
        for batch in batches.values():
            self._client.broker.dedup.release(batch.topic, [one.message_id for one in batch.messages], gone)
        self._is_over = True
        self._let_go()

    def _let_go(self) -> None:
        """Refer to the connection no more, which refers here: only a search for garbage finds the two."""
        if self._is_over and not self.unsettled:
            del self._client

    def publish(self, command: Publish, message_id: int) -> Room | None:
        """Take a message, or return what has no room for it."""
        broker = self._client.broker
        name = command.topic
        topic = broker.topics.get(name)
        if broker.authorizer.enabled and (refusal := self._client.refusal(Operation.WRITE, name)):
            self._client.reply("PUBLISH", refusal)
            return None
        if topic is None:
            self._client.reply("PUBLISH", Reply.TOPIC_MISSING.format(topic=name))
            return None
        if broker.publishers is not None:
            publisher = broker.publishers.elsewhere(name)
            if publisher is not None:
                return self._elsewhere(publisher, command, message_id)
        index = message_id % topic.partitions
        size_bytes = len(command.message) + RECORD_OVERHEAD_BYTES
        batch = self._batches.get((name, index))
        if batch is not None and (
            len(batch.messages) >= self._client.factory.batch_messages
            or batch.size_bytes + size_bytes > _LARGEST_BATCH_BYTES
            or not batch.partition.has_room(len(batch.messages) + 1, batch.size_bytes + size_bytes)
        ):
            self._append(self._batches.pop((name, index)))
            batch = None
        if batch is None:
            try:
                partition = broker.partitions.partition(name, index)
                if partition.needs_keys:
                    raise RequestError(
                        ErrorCode.INVALID_RECORD, f"{name} is compacted and takes no message without a key"
                    )
            except BrokerError as error:
                self._client.reply("PUBLISH", failure_reply(error, name, Reply.TOPIC_MISSING))
                return None
            if not partition.has_room(1, size_bytes):
                return partition
            batch = Batch(name, partition)
        slot = self._client.reserve(size_bytes)
        self.unsettled += 1
        message = Message(
            message_id,
            command.message,
            slot,
            _STORED if command.direct else self._published_reply(name),
            self._client.since(),
        )
        if broker.dedup.claim(name, message_id, lambda error: self._outcome(message, name, error)):
            self._batches[name, index] = batch
            batch.messages.append(message)
            batch.size_bytes += size_bytes
        return None

    def _elsewhere(self, publisher: IPublisher, command: Publish, message_id: int) -> Room | None:
        """Have another process decide about a message; what is acknowledged early here is not there."""
        if not publisher.has_room:
            return publisher
        name = command.topic
        size_bytes = len(command.message) + RECORD_OVERHEAD_BYTES
        if self._client.broker.quotas.limits_clients:
            self._client.count_produced(size_bytes)
        slot = self._client.reserve(size_bytes)
        self.unsettled += 1
        reply = _STORED if command.direct else self._published_reply(name)
        message = Message(message_id, command.message, slot, reply, self._client.since())
        publisher.publish(
            name,
            message_id,
            command.message,
            self._client.factory.acks_of_outcome,
            lambda error: self._outcome(message, name, error),
        )
        return None

    def _published_reply(self, topic: str) -> bytes:
        if self._published[0] != topic:
            self._published = (topic, encode_frame(Reply.PUBLISHED.format(topic=topic)))
        return self._published[1]

    def _outcome(self, message: Message, topic: str, error: BrokerError | None) -> None:
        """Reply to one publish, which is stored, or a repeat, or failed."""
        if error is None:
            self._client.factory.count_publish()
            message.slot.fill((message.reply,))
        else:
            text = failure_reply(error, topic, Reply.TOPIC_MISSING)
            self._client.factory.log_command("PUBLISH", text, self._client.peer)
            message.slot.fill((encode_frame(text),))
        turns, published = self._client.turns, self._client.factory.published
        if turns.since == message.since and turns.kind is published:
            turns.alike += 1
        else:
            turns.answered(published, message.since)
            if self._client.counts.notes is not None:
                Asked(self._client, "PUBLISH", -1, len(message.data), message.since).note((message.reply,))
        self._client.one_settled()
        self._let_go()

    def append_all(self) -> None:
        """Hand what is gathered to its partitions."""
        batches, self._batches = self._batches, {}
        for batch in batches.values():
            self._append(batch)

    def _append(self, batch: Batch) -> None:
        if self._client.broker.quotas.limits_clients:
            self._client.count_produced(batch.size_bytes)
        error = self._append_messages(batch, batch.messages)
        if error is None:
            return
        if len(batch.messages) > 1 and isinstance(error, RequestError):
            # Together they may break a limit that most of them keep alone.
            for message in batch.messages:
                error = self._append_messages(batch, [message])
                if error is not None:
                    self._refused(batch.topic, [message], error)
        else:
            self._refused(batch.topic, batch.messages, error)

    def _append_messages(self, batch: Batch, messages: list[Message]) -> BrokerError | None:
        """Hand messages to the partition as one record batch; return why it refused, if it did."""
        now_ms = self._client.broker.now_ms()
        if len(messages) == 1:
            data = build_single(None, messages[0].data, now_ms)
        else:
            data = build((None, message.data, (), now_ms) for message in messages)
        partition = batch.partition
        if len(messages) > 1 and not partition.is_here and len(data) > partition.policy.max_message_bytes:
            return RequestError(ErrorCode.MESSAGE_TOO_LARGE, "too large together")
        topic = batch.topic

        def reply(error: BrokerError | None) -> None:
            for message in messages:
                self._outcome(message, topic, error)

        ids = [message.message_id for message in messages]
        storing = Storing(self._client.broker.dedup, topic, ids, reply)
        try:
            storing.append(
                partition, read_header(data, 0, len(data)), data, self._client.factory.acks_of_outcome
            )
        except BrokerError as error:
            return error
        if self._client.factory.acks is Acks.NONE:
            for message in messages:
                message.slot.fill((message.reply,))
        return None

    def _refused(self, topic: str, messages: list[Message], error: BrokerError) -> None:
        """Give back messages that were ours to store and were not accepted."""
        self._client.broker.dedup.release(topic, [message.message_id for message in messages], error)
        for message in messages:
            self._outcome(message, topic, error)
