"""cursus connections: commands from the codec, carried out by the broker, answered in order.

Owns the mapping of cursus onto the shared log: a published message is one record with a null key in the
partition that FNV-1a 64 of the message selects; the same hash is the message's id in the deduplication
window. Never interprets bytes (``codec`` does), never keeps a message the partition's queue has no room
for: such a frame waits, and reading from the peer stops.

*Order.* Publishes are gathered over a turn into one batch per partition and may be under way together.
Every other command that changes or reads something waits, with all behind it, until they are settled, so
that a pipelining client sees its commands carried out one after the other.

*Streams.* ``streaming`` answers CONSUME and pushes to subscribers. After a CONSUME the connection is closed:
that is the end of the stream on this wire.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
from twisted.internet.defer import Deferred, FirstError, ensureDeferred, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.access import Operation, ResourceType
from megabroker.codec.batch import build, build_single, read_header
from megabroker.codec.fnv import OFFSET_BASIS, fnv1a_64
from megabroker.codec.framing import FrameReader
from megabroker.errors import BrokerError, ErrorCode, ProtocolError, RequestError, StateError
from megabroker.interfaces import IBroker, IPartition, IPublisher, IRemotePartition
from megabroker.model import Acks, Durability, Listener
from megabroker.net.asked import Asked
from megabroker.net.connection import BrokerConnection
from megabroker.net.factory import BrokerFactory
from megabroker.net.output import Part
from megabroker.net.wire import Room
from megabroker.protocols.cursus.codec import (
    Auth,
    Command,
    Consume,
    Create,
    Delete,
    Exit,
    Help,
    Later,
    LaterBatch,
    ListTopics,
    Publish,
    Refused,
    Reply,
    Subscribe,
    decode_body,
    decompress_body,
    encode_frame,
)
from megabroker.protocols.cursus.later.errands import Desk
from megabroker.protocols.cursus.later.words import WORDS
from megabroker.protocols.cursus.publishing import Batch, Message
from megabroker.protocols.cursus.settings import CursusSettings
from megabroker.protocols.cursus.streaming import ConsumeStream, Subscription
from megabroker.protocols.gate import Gate
from megabroker.protocols.publishing import RECORD_OVERHEAD_BYTES, Storing
from megabroker.protocols.reading import ReadCache

if TYPE_CHECKING:
    from megabroker.protocols.cursus.later.dialect import Dialect

__all__ = ["ClientContext", "CursusConnection", "CursusFactory"]

_log = Logger()

_ACKS: Final = {"0": Acks.NONE, "1": Acks.WRITTEN, "all": Acks.DURABLE}

_LARGEST_BATCH_BYTES = 256 * 1024  # of several messages; a single one may be larger
_LARGEST_BATCH_MESSAGES = 1000
_BATCH_OVERHEAD_BYTES = 1024
_READ_CACHE_BYTES = 64 << 20
_COMMAND_BYTES = 200  # memory of a command under way
_LOG_EVERY = 1024  # of the publishes
_HASH_SLICE_BYTES = 64 * 1024  # about 7 ms

_COUNTED: Final = frozenset({*WORDS, "SUBSCRIBE", "EXIT", "BATCH"})

_STREAM_END: Final = "STREAM_CONTROL type=CLOSE"

_STORED = encode_frame(Reply.STORED)


@attrs.define
class ClientContext:
    """What the broker knows of one client.

    Attributes:
        consumer_id: number of the connection within its listener.
        current_topics: names of the topics subscribed to.
    """

    consumer_id: int
    consumer_group: str = "tcp-group"
    current_topics: set[str] = attrs.field(factory=set)


class CursusConnection(BrokerConnection):
    """One cursus client."""

    longest_key = "protocols.cursus.max_frame_bytes"
    factory: CursusFactory

    def __init__(self, factory: CursusFactory) -> None:
        super().__init__(factory)
        self._consuming: Asked | None = None
        self.context = ClientContext(factory.next_consumer_id())
        self._gate = Gate()
        self._unsettled = 0  # publishes without an outcome
        self._waits_for_settled = False
        self._decoded: tuple[Command, int] | None = None  # of the frame offered again after a wait
        self._batches: dict[tuple[str, int], Batch] = {}
        self._stream: ConsumeStream | None = None
        self._closes_when_sent = False
        self._subscriptions: dict[str, Subscription] = {}
        self._published: tuple[str, bytes] = ("", b"")
        self._dialect: Dialect | None = None  # once the later one was spoken
        self._streams = False  # a STREAM of it

    def make_reader(self) -> FrameReader:
        """Return a new frame reader."""
        return FrameReader(self.factory.settings.max_frame_bytes)

    def handle(self, event: memoryview) -> Room | None:
        """Take one frame."""
        if self._gate.closed:
            return self._gate
        if self._decoded is not None:
            command, message_id = self._decoded
            self._decoded = None
        else:
            factory = self.factory
            body = decompress_body(factory.compression, event, factory.settings.max_frame_bytes)
            command = decode_body(body, auth=self.authenticates)
            message_id = 0
            if isinstance(command, Publish):
                if len(command.message) > _HASH_SLICE_BYTES:
                    self._gate.close()
                    self._hash_in_slices(command, OFFSET_BASIS, 0)
                    return self._gate
                message_id = fnv1a_64(command.message)
        if isinstance(command, Publish):
            full = self._publish(command, message_id)
        else:
            full = self._settled()
            if full is None:
                self._carry_out(command)
        if full is not None:
            self._decoded = (command, message_id)
        return full

    def _hash_in_slices(self, command: Publish, value: int, pos: int) -> None:
        """Hash a long message with turns for others in between: 16 MiB take more than a second."""
        if self.closed:
            return
        if pos < len(command.message):
            end = pos + _HASH_SLICE_BYTES
            value = fnv1a_64(memoryview(command.message)[pos:end], value)
            self.broker.reactor.callLater(0, self._hash_in_slices, command, value, end)
        else:
            self._decoded = (command, value)
            self._gate.open()

    def turn_ended(self) -> None:
        """Append what was gathered."""
        if self._batches:
            self._append_all()

    def farewell(self, error: ProtocolError) -> Sequence[Part]:
        """Say what was wrong, after everything asked before it is under way."""
        self._append_all()
        return (encode_frame(Reply.INVALID_FRAME.format(detail=error)),)

    def connection_closed(self) -> None:
        """Stop streams; messages already gathered are given up."""
        if self._dialect is not None:
            self._dialect.hurry()
        if self._stream is not None:
            self._stream.stop()
            self._stream = None
        for subscription in self._subscriptions.values():
            subscription.stop()
        self._subscriptions.clear()
        batches, self._batches = self._batches, {}
        gone = StateError(ErrorCode.SHUTTING_DOWN, "the connection is gone", retriable=True)
        for batch in batches.values():
            self.broker.dedup.release(batch.topic, [one.message_id for one in batch.messages], gone)

    # --- what streams need ---

    @property
    def output_is_idle(self) -> bool:
        """Whether everything answered has been sent."""
        return not (self._slots or self._ready) and (self._output is None or self._output.pending_bytes == 0)

    @property
    def reached_at(self) -> tuple[str, int]:
        """Where clients are to connect to: what is advertised, else where this one has."""
        listener = self.factory.listener
        wanted = self.factory.settings.listener(listener.name)
        here = self.transport.getHost()  # type: ignore[union-attr]
        host, port = (
            getattr(here, "host", listener.address.host),
            getattr(here, "port", listener.address.port),
        )
        if wanted is not None:
            host, port = wanted.advertised_host or host, wanted.advertised_port or port
        return host, port

    def send_frame(self, body: bytes) -> None:
        """Send a frame that answers no command of its own."""
        self.answer((encode_frame(body),))

    def note_activity(self) -> None:
        """The connection is not idle."""
        self.active_tick = self.factory.tick

    def output_drained(self) -> None:
        """The output is empty again: go on with what waited for that."""
        super().output_drained()
        if self._closes_when_sent:
            self._close_when_sent()
        elif self._stream is not None:
            self._stream.wake()
        else:
            if self._dialect is not None:
                self._dialect.output_drained()
            self._wake_subscriptions()

    def sweep(self, tick: int, partial_seconds: int, idle_seconds: int) -> None:
        """Called about once a second: keep the deadlines, follow topics that have grown."""
        super().sweep(tick, partial_seconds, idle_seconds)
        for subscription in list(self._subscriptions.values()):
            if not self.may(Operation.READ, ResourceType.TOPIC, subscription.topic):
                subscription.stop()
            elif subscription.follow_topic():
                continue
            self._subscriptions.pop(subscription.topic, None)
            self.context.current_topics.discard(subscription.topic)

    def _close_when_done(self) -> None:
        if self._dialect is not None:
            self._dialect.hurry()
        # A stream is no reserved answer, and closing early would look like its end.
        if self._stream is None and not self._streams and not self._closes_when_sent:
            super()._close_when_done()

    def _wake_subscriptions(self) -> None:
        for subscription in self._subscriptions.values():
            subscription.wake()

    # --- order ---

    def _settled(self) -> Room | None:
        """Return what to wait for until every publish has its outcome, or None if they all have."""
        self._append_all()
        if not self._unsettled:
            return None
        self._waits_for_settled = True
        self._gate.close()
        return self._gate

    def _one_settled(self) -> None:
        self._unsettled -= 1
        if self._unsettled:
            return
        if self._waits_for_settled:
            self._waits_for_settled = False
            self._gate.open()
        self._wake_subscriptions()

    # --- commands ---

    def _carry_out(self, command: Command) -> None:
        match command:
            case Later(word, text):
                self._in_later(self._later_dialect().carry_out(word, text), word)
            case LaterBatch(body):
                self._in_later(self._later_dialect().publish(body), "BATCH")
            case ListTopics() | Help() if self._dialect is not None:
                word = "HELP" if isinstance(command, Help) else "LIST"
                self._in_later(self._dialect.carry_out(word, b""), word)
            case ListTopics():
                names = [
                    topic.name
                    for topic in self.broker.topics.all()
                    if not topic.internal
                    and self.may(Operation.DESCRIBE, ResourceType.TOPIC, topic.name, quiet=True)
                ]
                self._reply("LIST", ", ".join(sorted(names)) or Reply.NO_TOPICS)
            case Help():
                self._reply("HELP", Reply.HELP_AUTH if self.authenticates else Reply.HELP)
            case Auth():
                self._reply("AUTH", Reply.AUTH_AGAIN.format(user=self.principal.name))
            case Create():
                self._create(command)
            case Delete(topic):
                self._later(
                    "DELETE",
                    topic,
                    ensureDeferred(self._delete(topic)),
                    lambda _: Reply.DELETED.format(topic=topic),
                    Reply.TOPIC_NOT_FOUND,
                )
            case Subscribe(topic):
                self._subscribe(topic)
            case Consume():
                self._consume(command)
            case Refused("UNKNOWN", reply) if self._dialect is not None:
                self._reply("UNKNOWN", self._dialect.unknown(reply))
            case Refused(word, reply, closes):
                self._reply(word, reply)
                if closes:
                    self._stream_ended()
            case Exit():
                self.finish()

    def _later_dialect(self) -> Dialect:
        if self._dialect is None:
            from megabroker.protocols.cursus.later.dialect import Dialect

            self._dialect = Dialect(self)
        return self._dialect

    def _in_later(self, outcome: Deferred[tuple[str, str | Sequence[bytes]]], word: str) -> None:
        """Reply when a command of the later dialect is carried out; until then those behind it wait."""
        # What STREAM sends has no place that was kept for it.
        slot = None if word == "STREAM" else self.reserve(_COMMAND_BYTES)
        asked = self._asked(word)
        asked.waits()
        self._gate.close()
        self._streams = slot is None

        def reply(told: tuple[str, str | Sequence[bytes]]) -> None:
            text = told[1]
            self._streams = False
            answer = tuple(map(encode_frame, (text,) if isinstance(text, str) else text))
            self.factory.log_command(word, text if isinstance(text, str) else "", self.peer)
            if slot is not None:
                slot.fill(answer)
            elif not self.closed:
                self.answer(answer)
            asked.answered(answer)
            if slot is None and isinstance(text, str) and text.startswith(_STREAM_END):
                self._end_when_sent()
                return
            self._gate.open()
            self._wake_subscriptions()

        outcome.addCallback(reply).addErrback(self._broken)

    def _broken(self, failure: Failure) -> None:
        _log.failure("replying to {peer}", failure, peer=self.peer)
        self.close("internal error, logged above")

    def _reply(self, word: str, text: str) -> None:
        self.factory.log_command(word, text, self.peer)
        answer = (encode_frame(text),)
        self.answer(answer)
        self._asked(word).answered(answer)

    def _asked(self, word: str) -> Asked:
        """Return the command in hand, for the numbers; clients may call theirs anything."""
        return Asked(self, word if word in _COUNTED else "unknown", -1, _COMMAND_BYTES)

    def _later(
        self,
        word: str,
        topic: str,
        outcome: Deferred[Any],
        success: Callable[[Any], str],
        missing: str,
    ) -> None:
        """Reply when ``outcome`` fires; until then the commands behind it wait."""
        slot = self.reserve(_COMMAND_BYTES)
        asked = self._asked(word)
        asked.waits()
        self._gate.close()

        def reply(result: Any) -> None:
            if not isinstance(result, Failure):
                text = success(result)
            elif isinstance(result.value, BrokerError):
                text = _failure(result.value, topic, missing)
            else:
                _log.failure("command-failed", failure=result, command=word)
                text = Reply.FAILED.format(detail="internal error")
            self.factory.log_command(word, text, self.peer)
            answer = (encode_frame(text),)
            slot.fill(answer)
            asked.answered(answer)
            self._gate.open()
            self._wake_subscriptions()

        outcome.addBoth(reply)

    def _create(self, command: Create) -> None:
        partitions = command.partitions or self.broker.settings.topics.default_partitions
        self._later(
            "CREATE",
            command.topic,
            ensureDeferred(self._create_or_grow(command.topic, partitions)),
            lambda count: Reply.CREATED.format(topic=command.topic, partitions=count),
            Reply.TOPIC_NOT_FOUND,
        )

    async def _create_or_grow(self, name: str, partitions: int) -> int:
        """Return how many partitions the topic has afterwards; it never shrinks."""
        topics = self.broker.topics
        try:
            if topics.get(name) is None or not self.may(
                Operation.DESCRIBE, ResourceType.TOPIC, name, quiet=True
            ):
                self.check_new_topic(name)
                made = await topics.create(name, partitions, self.factory.topic_configs())
                self._changed("CREATE", name)
                return made.partitions
        except StateError as error:
            if error.code is not ErrorCode.TOPIC_EXISTS:
                raise
        known = topics.get(name)
        if known is not None and known.partitions >= partitions:
            return known.partitions
        try:
            self.check_topic(Operation.ALTER, name)
            grown = await topics.create_partitions(name, partitions)
            self._changed("CREATE", name)
            return grown.partitions
        except RequestError as error:
            known = topics.get(name)
            if error.code is not ErrorCode.INVALID_PARTITIONS or known is None:
                raise
            return known.partitions

    async def _delete(self, name: str) -> None:
        self.check_topic(Operation.DELETE, name)
        await self.broker.topics.delete(name)
        self._changed("DELETE", name)

    def _changed(self, word: str, topic: str) -> None:
        self.broker.audit.changed(self.principal, self.peer_host, word, [topic])

    def _subscribe(self, topic: str) -> None:
        refusal = self._refusal(Operation.READ, topic)
        if refusal is not None:
            self._reply("SUBSCRIBE", refusal)
            return
        if self.broker.topics.get(topic) is None:
            self._reply("SUBSCRIBE", Reply.TOPIC_MISSING.format(topic=topic))
            return
        looks = _looks(self.broker, topic) if self._pushes(topic) else []
        if looks:
            # What is published after the reply is pushed, and so the ends have to be known before it.
            self._later(
                "SUBSCRIBE",
                topic,
                gatherResults(looks, consumeErrors=True).addErrback(_first_error),
                lambda _: self._subscribed(topic),
                Reply.TOPIC_MISSING,
            )
        else:
            self._reply("SUBSCRIBE", self._subscribed(topic))

    def _refusal(self, operation: Operation, topic: str) -> str | None:
        """Return the reply to a command that is not allowed, or None."""
        try:
            self.check_topic(operation, topic)
        except BrokerError as error:
            return _failure(error, topic, Reply.TOPIC_MISSING)
        return None

    def _pushes(self, topic: str) -> bool:
        return self.factory.settings.subscribe_push and topic not in self._subscriptions

    def _subscribed(self, topic: str) -> str:
        self.context.current_topics.add(topic)
        if self._pushes(topic) and not self.closed:
            self.idle_exempt = True
            self._subscriptions[topic] = Subscription(
                self,
                topic,
                self.factory.read_cache,
                self.broker.settings.consumer_channel_buffer_size,
            )
        return Reply.SUBSCRIBED.format(topic=topic)

    # --- CONSUME ---

    def _consume(self, command: Consume) -> None:
        try:
            self.check_topic(Operation.READ, command.topic)
            partition = self.broker.partitions.partition(command.topic, command.partition)
        except BrokerError as error:
            self._reply("CONSUME", Reply.NO_DISK_HANDLER.format(detail=error.message))
            self._stream_ended()
            return
        self._gate.close()
        self._consuming = self._asked("CONSUME")
        self._consuming.waits()

        def begin(error: BrokerError | None) -> None:
            if error is not None:
                self._consumed(0, error)
            elif not self.closed:
                self._stream = ConsumeStream(
                    self, partition, command.offset, self.factory.read_cache, self._consumed
                )

        if partition.is_here:
            begin(None)
        else:
            _look(partition, begin)

    def _consumed(self, count: int, error: BrokerError | ProtocolError | None) -> None:
        self._stream = None
        asked, self._consuming = self._consuming, None
        if error is None and asked is not None:
            asked.answered(())
        if error is not None:
            self._reply("CONSUME", Reply.READ_FAILED.format(detail=error))
        else:
            self.factory.log_command("CONSUME", "", self.peer)
        _log.debug("[STREAM] Completed streaming {count} messages", count=count, peer=self.peer)
        self._stream_ended()

    def _stream_ended(self) -> None:
        if self.factory.settings.consume_keep_open:
            if self._gate.closed:
                self._gate.open()
            self._wake_subscriptions()
            self._close_when_done()
            return
        self._end_when_sent()

    def _end_when_sent(self) -> None:
        self._gate.close()
        self._closes_when_sent = True
        if not self._pumping:
            self.flush()
        self.broker.reactor.callLater(0, self._close_when_sent)

    def _close_when_sent(self) -> None:
        # Closing sets a deadline for the peer; a slow reader of a long stream gets its time before that.
        if not self.closed and self.output_is_idle:
            self.close()

    # --- PUBLISH ---

    def _publish(self, command: Publish, message_id: int) -> Room | None:
        broker = self.broker
        name = command.topic
        topic = broker.topics.get(name)
        if broker.authorizer.enabled and (refusal := self._refusal(Operation.WRITE, name)):
            self._reply("PUBLISH", refusal)
            return None
        if topic is None:
            self._reply("PUBLISH", Reply.TOPIC_MISSING.format(topic=name))
            return None
        if broker.publishers is not None:
            publisher = broker.publishers.elsewhere(name)
            if publisher is not None:
                return self._publish_elsewhere(publisher, command, message_id)
        index = message_id % topic.partitions
        size_bytes = len(command.message) + RECORD_OVERHEAD_BYTES
        batch = self._batches.get((name, index))
        if batch is not None and (
            len(batch.messages) >= self.factory.batch_messages
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
                self._reply("PUBLISH", _failure(error, name, Reply.TOPIC_MISSING))
                return None
            if not partition.has_room(1, size_bytes):
                return partition
            batch = Batch(name, partition)
        slot = self.reserve(size_bytes)
        self._unsettled += 1
        message = Message(
            message_id,
            command.message,
            slot,
            _STORED if command.direct else self._published_reply(name),
            self.since(),
        )
        if broker.dedup.claim(name, message_id, lambda error: self._outcome(message, name, error)):
            self._batches[name, index] = batch
            batch.messages.append(message)
            batch.size_bytes += size_bytes
        return None

    def _publish_elsewhere(self, publisher: IPublisher, command: Publish, message_id: int) -> Room | None:
        """Have another process decide about a message; what is acknowledged early here is not there."""
        if not publisher.has_room:
            return publisher
        name = command.topic
        size_bytes = len(command.message) + RECORD_OVERHEAD_BYTES
        if self.broker.quotas.limits_clients:
            self.count_produced(size_bytes)
        slot = self.reserve(size_bytes)
        self._unsettled += 1
        reply = _STORED if command.direct else self._published_reply(name)
        message = Message(message_id, command.message, slot, reply, self.since())
        publisher.publish(
            name,
            message_id,
            command.message,
            self.factory.acks_of_outcome,
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
            self.factory.count_publish()
            message.slot.fill((message.reply,))
        else:
            text = _failure(error, topic, Reply.TOPIC_MISSING)
            self.factory.log_command("PUBLISH", text, self.peer)
            message.slot.fill((encode_frame(text),))
        latency = self.factory.published
        if latency.began == message.since:
            latency.alike += 1
        else:
            latency.group(message.since)
            if self.counts.notes is not None:
                Asked(self, "PUBLISH", -1, len(message.data), message.since).note((message.reply,))
        self._one_settled()

    def _append_all(self) -> None:
        batches, self._batches = self._batches, {}
        for batch in batches.values():
            self._append(batch)

    def _append(self, batch: Batch) -> None:
        if self.broker.quotas.limits_clients:
            self.count_produced(batch.size_bytes)
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
        now_ms = self.broker.now_ms()
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
        storing = Storing(self.broker.dedup, topic, ids, reply)
        try:
            storing.append(partition, read_header(data, 0, len(data)), data, self.factory.acks_of_outcome)
        except BrokerError as error:
            return error
        if self.factory.acks is Acks.NONE:
            for message in messages:
                message.slot.fill((message.reply,))
        return None

    def _refused(self, topic: str, messages: list[Message], error: BrokerError) -> None:
        """Give back messages that were ours to store and were not accepted."""
        self.broker.dedup.release(topic, [message.message_id for message in messages], error)
        for message in messages:
            self._outcome(message, topic, error)


class CursusFactory(BrokerFactory):
    """Makes cursus connections.

    Attributes:
        acks: when a publish is answered.
        acks_of_outcome: when a publish has its outcome, for repeats and for commands behind it: as ``acks``,
            but never before it is written, nor before the journal has it where written is all there is.
        compression: how request bodies are compressed.
        read_cache: bound on the decoded batches that streams hold.
        batch_messages: the most messages that become one batch.
        published: how long publishes take.
    """

    def __init__(self, broker: IBroker, settings: CursusSettings, listener: Listener) -> None:
        super().__init__(broker, listener, CursusConnection)
        wanted = settings.listener(listener.name)
        if wanted is not None and wanted.auth == "required":
            from megabroker.protocols.cursus.authentication import AuthConnection

            self.connection_class = AuthConnection
        self.settings = settings
        self.acks = _ACKS[settings.acks]
        self.acks_of_outcome = self.acks or Acks.WRITTEN
        if broker.settings.durability is Durability.OS:
            self.acks_of_outcome = Acks.DURABLE
        self.compression = settings.compression
        if settings.compression == "none" and broker.settings.enable_gzip:
            self.compression = "gzip"
        self.read_cache = ReadCache(_READ_CACHE_BYTES)
        # An empty queue takes any one batch, so batches made here keep its bound themselves.
        self.batch_messages: int = min(_LARGEST_BATCH_MESSAGES, broker.settings.partition_channel_buffer_size)
        self.published = self.grouped = self.counts.latency("PUBLISH")
        self._consumers = 0
        self._publishes = 0
        self._rotation = 0
        broker.errands.setdefault("cursus", Desk(broker))

    def next_turn(self) -> int:
        """Number a message that may go to any partition."""
        self._rotation += 1
        return self._rotation

    def next_consumer_id(self) -> int:
        """Number a connection."""
        self._consumers += 1
        return self._consumers

    def topic_configs(self) -> dict[str, str | None]:
        """Return what is set on a topic made here: room for the largest message, if it is not there."""
        wanted = self.settings.max_frame_bytes + _BATCH_OVERHEAD_BYTES
        if wanted <= self.broker.settings.topics.max_message_bytes:
            return {}
        return {"max.message.bytes": str(wanted)}

    def log_command(self, word: str, text: str, peer: str) -> None:
        """Log the outcome of a command; publishes that succeed are only counted."""
        if text.startswith("ERROR"):
            _log.debug("[CMD] FAILURE {command} from {peer}: {reply}", command=word, peer=peer, reply=text)
        else:
            _log.debug("[CMD] SUCCESS {command} from {peer}", command=word, peer=peer)

    def count_publish(self) -> None:
        """Log one in many of the publishes that succeed."""
        self._publishes += 1
        if self._publishes % _LOG_EVERY == 1:
            _log.debug("[CMD] SUCCESS PUBLISH, {count} so far", count=self._publishes)


def _look(partition: IPartition, looked: Callable[[BrokerError | None], None]) -> None:
    remote: IRemotePartition = partition  # type: ignore[assignment]
    remote.look(looked)


def _looks(broker: IBroker, name: str) -> list[Deferred[None]]:
    """Have all partitions of a topic that are led elsewhere looked at; each fires when that is done."""
    topic = broker.topics.get(name)
    looks: list[Deferred[None]] = []
    for index in range(0 if topic is None else topic.partitions):
        try:
            partition = broker.partitions.partition(name, index)
        except BrokerError:
            continue
        if not partition.is_here:
            done: Deferred[None] = Deferred()
            looks.append(done)
            _look(
                partition,
                lambda error, done=done: done.callback(None) if error is None else done.errback(error),  # type: ignore[misc]
            )
    return looks


def _first_error(failure: Failure) -> Failure:
    """Return why the first of several failed."""
    found = failure.value
    return found.subFailure if isinstance(found, FirstError) else failure


def _failure(error: BrokerError, topic: str, missing: str) -> str:
    """Return the reply to a command that the broker refused."""
    if error.code is ErrorCode.UNKNOWN_TOPIC:
        return missing.format(topic=topic)
    if error.code is ErrorCode.INVALID_TOPIC:
        return Reply.INVALID_TOPIC.format(detail=error.message)
    if error.code is ErrorCode.INVALID_PARTITIONS:
        return Reply.INVALID_PARTITIONS
    return Reply.FAILED.format(detail=error.message)
