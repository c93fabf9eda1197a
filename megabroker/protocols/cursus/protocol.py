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
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.access import Operation, ResourceType
from megabroker.codec.fnv import OFFSET_BASIS, fnv1a_64
from megabroker.codec.framing import FrameReader
from megabroker.errors import BrokerError, ErrorCode, ProtocolError, RequestError, StateError
from megabroker.net.asked import Asked
from megabroker.net.connection import BrokerConnection
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
from megabroker.protocols.cursus.failing import failure_reply
from megabroker.protocols.cursus.later.words import WORDS
from megabroker.protocols.cursus.looking import first_error, look, looks
from megabroker.protocols.cursus.publishing import Publishing
from megabroker.protocols.cursus.streaming import ConsumeStream, Subscription
from megabroker.protocols.gate import Gate

if TYPE_CHECKING:
    from megabroker.protocols.cursus.factory import CursusFactory
    from megabroker.protocols.cursus.later.dialect import Dialect

__all__ = ["ClientContext", "CursusConnection"]

_log = Logger()

_COMMAND_BYTES = 200  # memory of a command under way
_HASH_SLICE_BYTES = 64 * 1024  # about 7 ms

_COUNTED: Final = frozenset({*WORDS, "SUBSCRIBE", "EXIT", "BATCH"})

_STREAM_END: Final = "STREAM_CONTROL type=CLOSE"


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
        self._publishing = Publishing(self)
        self._waits_for_settled = False
        self._decoded: tuple[Command, int] | None = None  # of the frame offered again after a wait
        self._stream: ConsumeStream | None = None
        self._closes_when_sent = False
        self._subscriptions: dict[str, Subscription] = {}
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
            full = self._publishing.publish(command, message_id)
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
        if self._publishing.gathers:
            self._publishing.append_all()

    def farewell(self, error: ProtocolError) -> Sequence[Part]:
        """Say what was wrong, after everything asked before it is under way."""
        self._publishing.append_all()
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
        self._publishing.give_up()

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
        self._publishing.append_all()
        if not self._publishing.unsettled:
            return None
        self._waits_for_settled = True
        self._gate.close()
        return self._gate

    def one_settled(self) -> None:
        """A publish has its outcome."""
        self._publishing.unsettled -= 1
        if self._publishing.unsettled:
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
                self.reply("LIST", ", ".join(sorted(names)) or Reply.NO_TOPICS)
            case Help():
                self.reply("HELP", Reply.HELP_AUTH if self.authenticates else Reply.HELP)
            case Auth():
                self.reply("AUTH", Reply.AUTH_AGAIN.format(user=self.principal.name))
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
                self.reply("UNKNOWN", self._dialect.unknown(reply))
            case Refused(word, reply, closes):
                self.reply(word, reply)
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

    def reply(self, word: str, text: str) -> None:
        """Answer the command in hand."""
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
                text = failure_reply(result.value, topic, missing)
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
        is_visible = self.may(Operation.DESCRIBE, ResourceType.TOPIC, name, quiet=True)
        try:
            if topics.get(name) is None or not is_visible:
                self.check_new_topic(name)
                self.count_partitions(partitions)
                made = await topics.create(name, partitions, self.factory.topic_configs())
                self._changed("CREATE", name)
                return made.partitions
        except StateError as error:
            if error.code is not ErrorCode.TOPIC_EXISTS or not is_visible:
                raise
        known = topics.get(name)
        if known is not None and known.partitions >= partitions:
            return known.partitions
        try:
            self.check_topic(Operation.ALTER, name)
            self.count_partitions(topics.check_growth(name, partitions))
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
        topic = self.broker.topics.get(name)
        self.count_partitions(0 if topic is None else topic.partitions)
        await self.broker.topics.delete(name)
        self._changed("DELETE", name)

    def _changed(self, word: str, topic: str) -> None:
        self.broker.audit.changed(self.principal, self.peer_host, word, [topic])

    def _subscribe(self, topic: str) -> None:
        refusal = self.refusal(Operation.READ, topic)
        if refusal is not None:
            self.reply("SUBSCRIBE", refusal)
            return
        if self.broker.topics.get(topic) is None:
            self.reply("SUBSCRIBE", Reply.TOPIC_MISSING.format(topic=topic))
            return
        waits = looks(self.broker, topic) if self._pushes(topic) else []
        if waits:
            # What is published after the reply is pushed, and so the ends have to be known before it.
            self._later(
                "SUBSCRIBE",
                topic,
                gatherResults(waits, consumeErrors=True).addErrback(first_error),
                lambda _: self._subscribed(topic),
                Reply.TOPIC_MISSING,
            )
        else:
            self.reply("SUBSCRIBE", self._subscribed(topic))

    def refusal(self, operation: Operation, topic: str) -> str | None:
        """Return the reply to a command that is not allowed, or None."""
        try:
            self.check_topic(operation, topic)
        except BrokerError as error:
            return failure_reply(error, topic, Reply.TOPIC_MISSING)
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
            self.reply("CONSUME", Reply.NO_DISK_HANDLER.format(detail=error.message))
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
            look(partition, begin)

    def _consumed(self, count: int, error: BrokerError | ProtocolError | None) -> None:
        self._stream = None
        asked, self._consuming = self._consuming, None
        if error is None and asked is not None:
            asked.answered(())
        if error is not None:
            self.reply("CONSUME", Reply.READ_FAILED.format(detail=error))
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
