"""STOMP connections: frames from the codec, carried out by the broker.

Owns what a frame means and the order of what comes of it. Receipts leave in the order of their frames;
messages and heart-beats leave when they can. Whatever is refused is told by an ERROR, after which the
connection is closed, as the protocol has it; what was asked before is answered all the same.

*Order.* SENDs are gathered over a turn and may be under way together. COMMIT, and what asks for a topic
that is to be made first, waits for its outcome, and what is behind it waits too. DISCONNECT waits for every
SEND.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred, FirstError
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.access import Operation, ResourceType
from megabroker.errors import AuthenticationError, BrokerError, ErrorCode, ProtocolError, RequestError
from megabroker.interfaces import IBroker
from megabroker.model import Acks, Listener
from megabroker.net.connection import BrokerConnection
from megabroker.net.factory import BrokerFactory
from megabroker.net.output import Part
from megabroker.net.wire import Answer, Room
from megabroker.protocols.gate import Gate
from megabroker.protocols.reading import ReadCache
from megabroker.protocols.stomp.codec import VERSIONS, Frame, FrameLimits, StompReader, encode_frame
from megabroker.protocols.stomp.feeds import QueueFeed, refusal_in
from megabroker.protocols.stomp.heart import Heart, read_heart_beat
from megabroker.protocols.stomp.messages import message_of
from megabroker.protocols.stomp.sending import Outbox, TransactionalIds, commit
from megabroker.protocols.stomp.settings import StompSettings
from megabroker.protocols.stomp.subscribing import (
    acknowledged_by,
    kind_of,
    led_elsewhere,
    look_at,
    name_of,
    topic_feed,
    wanted,
)
from megabroker.protocols.stomp.subscriptions import Subscription, Subscriptions
from megabroker.protocols.stomp.transactions import Transaction, Transactions

__all__ = ["StompConnection", "StompFactory"]

_log = Logger()

_ACKS: Final = {"1": Acks.WRITTEN, "all": Acks.DURABLE}
_CACHE_BYTES: Final = 32 << 20
_FRAME_BYTES: Final = 200  # memory of a frame under way, beside its body
_SUBSCRIPTIONS_AT_FULL: Final = 10  # that have all messages without ACK that one may have
_LONGEST_GROUP_CHARS: Final = 249
_BEAT: Final = (b"\n",)


class StompConnection(BrokerConnection):
    """One client."""

    factory: StompFactory
    reader: StompReader

    def __init__(self, factory: StompFactory) -> None:
        super().__init__(factory)
        self._number = factory.next_number()
        self._version = "1.2"
        self._gate = Gate()
        self._refusal: BrokerError | None = None  # of what the frame in hand has waited for
        self._is_proven = False
        self._has_looked = False
        self._unsettled = 0  # SENDs without an outcome
        self._waits_for_settled = False
        self._has_failed = False
        self._outbox = Outbox(self.broker, factory.acks, self._number)
        self._transactions = Transactions(
            factory.settings.max_transaction_bytes,
            lambda: self.counts.met("protocols.stomp.max_transaction_bytes"),
        )
        self._heart: Heart | None = None
        self._subscriptions = Subscriptions(
            self.broker.reactor,
            self._push,
            lambda: self.output_is_full,
            _SUBSCRIPTIONS_AT_FULL * factory.settings.max_unacknowledged,
            self._check_subscription,
            self._subscription_failed,
        )

    def make_reader(self) -> StompReader:
        """BrokerConnection: what turns bytes into frames."""
        return StompReader(self.factory.limits)

    def handle(self, event: Frame) -> Room | None:
        """BrokerConnection: carry out a frame, or say who has no room for it."""
        if self._gate.closed:
            return self._gate
        if self._has_failed:
            return None
        refusal, self._refusal = self._refusal, None
        try:
            if refusal is not None:
                raise refusal
            if (self.reader.version is None) != (event.command in ("CONNECT", "STOMP")):
                raise RequestError(ErrorCode.INVALID_REQUEST, "the connection is open already")
            return self._COMMANDS[event.command](self, event)
        except BrokerError as error:
            self._refuse(event, error)
        return None

    def turn_ended(self) -> None:
        """BrokerConnection: store what came in this turn."""
        self._outbox.append_all()

    def farewell(self, error: ProtocolError) -> Sequence[Part]:
        """BrokerConnection: say what was wrong with the bytes."""
        self._outbox.append_all()
        return (self._error(str(error)),)

    def output_drained(self) -> None:
        """BrokerConnection: everything was sent, so that there is room for more messages."""
        super().output_drained()
        self._subscriptions.wake()

    def connection_closed(self) -> None:
        """BrokerConnection: give everything back."""
        self._outbox.append_all()  # what was sent before the end was sent
        self._subscriptions.stop()
        self._transactions.clear()
        if self._heart is not None:
            self._heart.stop()
            self._heart = None

    # --- answers ---

    def _receipt(self, frame: Frame) -> bytes | None:
        """Return the RECEIPT that a frame asks for."""
        receipt = frame.headers.get("receipt")
        if receipt is None:
            return None
        return encode_frame("RECEIPT", [("receipt-id", receipt)], version=self._version)

    def _done(self, frame: Frame) -> None:
        receipt = self._receipt(frame)
        if receipt is not None:
            self.answer((receipt,))

    def _error(self, detail: str, frame: Frame | None = None, *more: tuple[str, str]) -> bytes:
        headers = [("message", detail), ("content-type", "text/plain"), *more]
        if frame is not None and "receipt" in frame.headers:
            headers.append(("receipt-id", frame.headers["receipt"]))
        what = "the frame" if frame is None else frame.command
        return encode_frame("ERROR", headers, f"{what}: {detail}\n".encode(), self._version)

    def _refuse(self, frame: Frame, error: BrokerError, slot: Answer | None = None) -> None:
        """Tell a refusal, and close once all is answered that was asked before."""
        if self.closed or self._has_failed:
            if slot is not None:
                slot.fill(())
            return
        self._has_failed = True
        self._outbox.append_all()
        _log.debug("{command} from {peer} refused: {why}", command=frame.command, peer=self.peer, why=error)
        told = (self._error(error.message, frame),)
        if slot is None:
            self.answer(told)
        else:
            slot.fill(told)
        self._subscriptions.stop()
        self.finish()

    def _check_subscription(self, subscription: Subscription) -> None:
        """Raise BrokerError unless the client may read what it subscribes to."""
        self.check_topic(Operation.READ, subscription.destination.topic)
        group_id = subscription.group_id
        if group_id and not self.may(Operation.READ, ResourceType.GROUP, group_id):
            raise RequestError(ErrorCode.GROUP_NOT_ALLOWED, f"READ of group {group_id[:100]} is not allowed")

    def _push(self, frames: Sequence[bytes]) -> int:
        self.push(frames)
        if not self.broker.quotas.limits_clients:
            return 0
        return self.count_consumed(sum(map(len, frames)))

    def _subscription_failed(self, error: Exception) -> None:
        refusal = refusal_in(error)
        if refusal is not None:
            self._refuse(Frame("SUBSCRIBE", {}), refusal)
        elif not self.closed:
            _log.error("stomp-subscription-failed: {error!r}", error=error, peer=self.peer)
            self.close("internal error, logged above")

    def _wait_for(
        self, frame: Frame, work: Deferred[Any], done: Callable[[Any], None] | None = None
    ) -> Room | None:
        """Have the frame offered again when something is done, and refused if that failed."""
        self._gate.close()

        def ended(result: Any) -> None:
            if isinstance(result, Failure):
                if isinstance(result.value, BrokerError):
                    self._refusal = result.value
                elif not self.closed:
                    _log.failure("stomp-command-failed", result, command=frame.command)
                    self.close("internal error, logged above")
            elif done is not None:
                done(result)
            self._gate.open()

        work.addBoth(ended)
        return self._once_open(frame)

    def _once_open(self, frame: Frame) -> Room | None:
        """Have a frame wait at the gate, or go on with it at once if what it waits for is done already."""
        if self._gate.closed:
            return self._gate
        return None if self.closed else self.handle(frame)

    # --- CONNECT ---

    def _connect(self, frame: Frame) -> Room | None:
        offered = [one.strip() for one in frame.headers.get("accept-version", "1.0").split(",")]
        common = [one for one in VERSIONS if one in offered]
        if not common:
            text = f"version {', '.join(offered)[:100]} is not spoken: expected some of {', '.join(VERSIONS)}"
            self._has_failed = True
            self.answer((self._error(text, frame, ("version", ",".join(VERSIONS))),))
            self.finish()
            return None
        peer_beats = read_heart_beat(frame.headers.get("heart-beat"))
        if self.authenticates and not self._is_proven:
            return self._authenticate(frame)
        self._version = self.reader.version = common[-1]
        interval_ms = self.factory.settings.heart_beat_ms
        headers = [
            ("version", self._version),
            ("heart-beat", f"{interval_ms},{interval_ms}"),
            ("server", "megabroker"),
            ("session", f"{self.broker.placement.me.id}-{self._number}"),
        ]
        self.answer((encode_frame("CONNECTED", headers),))
        if self._version != "1.0":
            self._heart = Heart(
                self.broker.reactor,
                interval_ms,
                peer_beats,
                self._send_beat,
                lambda: self.reader.fed_bytes,
                lambda: self.is_heard,
                self.abort,
            )
            self._heart.start()
        return None

    def _send_beat(self) -> None:
        if not self.output_is_full:
            self.push(_BEAT)

    def _authenticate(self, frame: Frame) -> Room | None:
        """Check who the client is; the frame waits meanwhile."""
        authentication = self.broker.authentication
        assert authentication is not None
        self._gate.close()

        def ended(result: Any) -> None:
            if isinstance(result, Failure):
                if not result.check(AuthenticationError):  # type: ignore[no-untyped-call]
                    _log.failure("CONNECT from {peer}", result, peer=self.peer)
                self.disproven()
                if not self.closed:
                    self._has_failed = True
                    self.answer((self._error("login or passcode is wrong", frame),))
                    self.close(f"authentication by CONNECT failed: {result.getErrorMessage()}")
            elif not self.closed:
                self._is_proven = True
                self.proven(result)
            self._gate.open()

        user, password = frame.headers.get("login", ""), frame.headers.get("passcode", "")
        authentication.password(user, password).addBoth(ended)
        return self._once_open(frame)

    # --- SEND ---

    def _send(self, frame: Frame) -> Room | None:
        message = message_of(frame)
        self.check_topic(Operation.WRITE, message.topic)
        if self.broker.topics.get(message.topic) is None:
            return self._make_topic(frame, message.topic)
        transaction = self._transactions.of(frame)
        if transaction is not None:
            self._outbox.find(message)
            self._transactions.keep_message(transaction, message)
            self._done(frame)
            return None
        receipt = self._receipt(frame)
        slot: Answer | None = None

        def settled(error: BrokerError | None) -> None:
            self._unsettled -= 1
            if error is not None:
                self._refuse(frame, error, slot)
            elif slot is not None and receipt is not None:
                slot.fill_bytes(receipt)
            if not self._unsettled and self._waits_for_settled:
                self._waits_for_settled = False
                self._gate.open()

        full = self._outbox.offer(message, settled)
        if full is not None:
            return full
        self._unsettled += 1
        if receipt is not None:
            slot = self.reserve(message.size_bytes)
        if self.broker.quotas.limits_clients:
            self.count_produced(message.size_bytes)
        return None

    def _make_topic(self, frame: Frame, topic: str) -> Room | None:
        settings = self.broker.settings.topics
        if not settings.auto_create:
            raise RequestError(
                ErrorCode.UNKNOWN_TOPIC,
                f"there is no topic {topic}, and none is made: topics.auto_create is off",
            )
        self.check_new_topic(topic)
        made = self.broker.topics.create(topic, settings.default_partitions)

        def unless_there(failure: Failure) -> None:
            if self.broker.topics.get(topic) is None:
                failure.raiseException()

        return self._wait_for(frame, made.addErrback(unless_there))

    # --- transactions ---

    def _begin(self, frame: Frame) -> None:
        self._transactions.begin(frame)
        self._done(frame)

    def _abort(self, frame: Frame) -> None:
        for subscription, places, _ in self._transactions.end(frame).acknowledged:
            subscription.restore(places)
        self._done(frame)

    def _commit(self, frame: Frame) -> None:
        transaction = self._transactions.end(frame)
        for topic in dict.fromkeys(message.topic for message in transaction.messages):
            self.check_topic(Operation.WRITE, topic)  # it may be long since they were sent
        self._outbox.append_all()
        slot = self.reserve(transaction.size_bytes)
        self._gate.close()
        self._unsettled += 1
        if self.broker.quotas.limits_clients:
            self.count_produced(transaction.size_bytes)

        def ended(result: Any) -> None:
            self._unsettled -= 1
            error = self._broker_error(result)
            if error is not None:
                self._refuse(frame, error, slot)
            else:
                slot.fill((self._receipt(frame) or b"",))
            self._gate.open()

        Deferred.fromCoroutine(self._committed(transaction)).addBoth(ended)

    def _committed(self, transaction: Transaction) -> Coroutine[Deferred[Any], Any, None]:
        async def work() -> None:
            factory = self.factory
            if transaction.messages:
                await commit(
                    self.broker, self._outbox, transaction.messages, factory.acks, factory.transactional_ids
                )
            for acknowledged in transaction.acknowledged:
                try:
                    await self._subscriptions.settle(acknowledged)
                except (BrokerError, FirstError) as error:
                    raise RequestError(
                        ErrorCode.INVALID_RECORD_STATE,
                        f"what was sent is stored, but an ACK came too late and its message is delivered "
                        f"again: {refusal_in(error)}",
                    ) from error

        return work()

    def _broker_error(self, result: Any) -> BrokerError | None:
        """Return the refusal that a result is; what is none is logged, and told without a word of it."""
        if not isinstance(result, Failure):
            return None
        refusal = refusal_in(result.value)
        if refusal is not None:
            return refusal
        _log.failure("stomp-command-failed", result, peer=self.peer)
        return BrokerError(ErrorCode.INTERNAL, "internal error; see the broker's log")

    # --- SUBSCRIBE ---

    def _subscribe(self, frame: Frame) -> Room | None:
        name, destination, mode, prefetch = wanted(frame, self._version)
        topic, settings = destination.topic, self.factory.settings
        if name in self._subscriptions:
            raise RequestError(ErrorCode.INVALID_REQUEST, f"there is a subscription {name[:100]!r} already")
        if len(self._subscriptions) >= settings.max_subscriptions:
            self.counts.met("protocols.stomp.max_subscriptions")
            raise RequestError(
                ErrorCode.INVALID_REQUEST,
                f"more subscriptions than max_subscriptions, {settings.max_subscriptions}",
            )
        self.check_topic(Operation.READ, topic)
        if self.broker.topics.get(topic) is None:
            return self._make_topic(frame, topic)
        self._outbox.append_all()
        number = self._subscriptions.next_number()
        most = settings.max_unacknowledged
        prefetch = min(prefetch or most, most)
        subscription = Subscription(number, name, destination, mode, prefetch, self._version)
        if destination.is_queue:
            subscription.feed = self._queue_feed(frame, subscription)
        else:
            waits = self._look(frame, topic)
            if waits is not None:
                return waits
            wake, cache = self._subscriptions.wake, self.factory.cache
            subscription.feed = topic_feed(frame, self.broker, topic, cache, wake)
        self.idle_exempt = True
        self._done(frame)
        self._subscriptions.add(subscription)
        return None

    def _queue_feed(self, frame: Frame, subscription: Subscription) -> QueueFeed:
        if self.broker.settings.workers > 1:
            raise RequestError(
                ErrorCode.INVALID_REQUEST,
                "queues are served by a broker of one process: expected /topic/NAME, or workers: 1",
            )
        group_id = frame.headers.get("group", self.factory.settings.group)
        if not 0 < len(group_id) <= _LONGEST_GROUP_CHARS:
            raise RequestError(
                ErrorCode.INVALID_GROUP,
                f"group {group_id[:100]!r}: expected a name of 1 to {_LONGEST_GROUP_CHARS} characters",
            )
        subscription.group_id = group_id
        self._check_subscription(subscription)
        member_id = f"{self.factory.listener.name}-{self._number}-{subscription.number}"
        wake, cache = self._subscriptions.wake, self.factory.cache
        topic = subscription.destination.topic
        return QueueFeed(self.broker, topic, cache, wake, group_id, member_id)

    def _look(self, frame: Frame, topic: str) -> Room | None:
        """Ask how far partitions are that other processes lead, as what comes after the receipt is sent."""
        has_looked, self._has_looked = self._has_looked, False
        there = [] if has_looked else led_elsewhere(self.broker, topic)
        if not there:
            return None

        def done(_: None) -> None:
            self._has_looked = True

        return self._wait_for(frame, Deferred.fromCoroutine(look_at(there)), done)

    def _unsubscribe(self, frame: Frame) -> None:
        name = name_of(frame, self._version)
        if self._subscriptions.remove(name) is None:
            raise RequestError(
                ErrorCode.INVALID_REQUEST, f"there is no subscription {name[:100]!r}: expected the id of one"
            )
        self._done(frame)

    # --- ACK, NACK ---

    def _acknowledge(self, frame: Frame) -> None:
        subscription, message_id = acknowledged_by(frame, self._version, self._subscriptions)
        transaction = self._transactions.of(frame)
        acknowledged = (subscription, subscription.taken(message_id), kind_of(frame))
        if transaction is not None:
            self._transactions.keep_acknowledged(transaction, acknowledged)
            self._done(frame)
            return
        receipt = self._receipt(frame)
        slot = None if receipt is None else self.reserve(_FRAME_BYTES)

        def ended(result: Any) -> None:
            error = self._broker_error(result)
            if error is not None:
                self._refuse(frame, error, slot)
            elif slot is not None and receipt is not None:
                slot.fill((receipt,))

        self._subscriptions.settle(acknowledged).addBoth(ended)

    # --- DISCONNECT ---

    def _disconnect(self, frame: Frame) -> Room | None:
        self._outbox.append_all()
        if self._unsettled:
            self._waits_for_settled = True
            self._gate.close()
            return self._gate
        self._subscriptions.stop()
        self._done(frame)
        self.finish()
        return None

    _COMMANDS: ClassVar[dict[str, Callable[[Any, Frame], Room | None]]] = {
        "CONNECT": _connect,
        "STOMP": _connect,
        "SEND": _send,
        "SUBSCRIBE": _subscribe,
        "UNSUBSCRIBE": _unsubscribe,
        "ACK": _acknowledge,
        "NACK": _acknowledge,
        "BEGIN": _begin,
        "COMMIT": _commit,
        "ABORT": _abort,
        "DISCONNECT": _disconnect,
    }


class AuthenticatingConnection(StompConnection):
    """A connection on a listener with ``auth: required``: CONNECT says login and passcode."""

    authenticates = True


class StompFactory(BrokerFactory):
    """Makes the connections of one listener.

    Attributes:
        acks: when a receipt is given.
        limits: of frames.
        cache: bound on what all subscriptions hold.
        transactional_ids: names for transactions over several partitions.
    """

    def __init__(self, broker: IBroker, settings: StompSettings, listener: Listener) -> None:
        wanted = settings.listener(listener.name)
        must_say = wanted is not None and wanted.auth == "required"
        super().__init__(broker, listener, AuthenticatingConnection if must_say else StompConnection)
        self.settings = settings
        self.acks = _ACKS[settings.acks]
        self.limits = FrameLimits(settings.max_body_bytes, settings.max_headers, settings.max_header_bytes)
        self.cache = ReadCache(_CACHE_BYTES)
        self.transactional_ids = TransactionalIds(broker, f"stomp-{listener.name}-{broker.placement.me.id}")
        self._count = 0

    def next_number(self) -> int:
        """Number a connection."""
        self._count += 1
        return self._count
