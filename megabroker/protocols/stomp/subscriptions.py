"""The subscriptions of one connection: whose turn it is to be sent messages, and which wait for their ACK.

Owns the pace. Messages are read in slices, one a turn of the reactor for each subscription, while the
connection's output has room and the subscription has fewer messages without ACK than it may. What is in
memory for a subscription is one slice, and where each message without ACK lies.

Invariant: a subscription's messages of one partition are sent in the order of the log; a message of a queue
waits for its ACK at exactly one subscription.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.model import AcknowledgeType
from megabroker.protocols.stomp.codec import encode_frame
from megabroker.protocols.stomp.feeds import Delivered, Feed
from megabroker.protocols.stomp.messages import Destination, message_headers

__all__ = ["Acknowledged", "Subscription", "Subscriptions"]

_log = Logger()

_FOLLOW_SECONDS: Final = 5.0
"""How often it is looked whether a topic has grown or is gone, and whether it may still be read."""

Taken = list[tuple[str, tuple[int, int]]]
"""Messages by message-id, and where each is, as (partition, offset)."""

Acknowledged = tuple["Subscription", Taken, int]
"""Whose messages, which, and what has become of them (``AcknowledgeType``)."""


class Subscription:
    """One subscription.

    Args:
        number: within its connection.
        mode: auto, client or client-individual.
        prefetch: how many messages may wait for their ACK.

    Attributes:
        group_id: the share group of a queue's; empty for a topic's.
    """

    group_id = ""

    def __init__(
        self, number: int, name: str, destination: Destination, mode: str, prefetch: int, version: str
    ) -> None:
        self.number = number
        self.name = name
        self.destination = destination
        self.mode = mode
        self.feed: Feed
        self._prefetch = prefetch
        self._version = version
        self._waiting: dict[str, tuple[int, int]] = {}  # by message-id, in the order they were sent
        self._held: dict[str, tuple[int, int]] = {}  # those whose ACK is part of a transaction

    @property
    def room(self) -> int:
        """How many messages may be sent now."""
        return self._prefetch if self.mode == "auto" else self._prefetch - len(self._waiting)

    @property
    def unacknowledged(self) -> int:
        """How many messages are the client's still."""
        return len(self._waiting) + len(self._held)

    def frame(self, delivered: Delivered) -> bytes:
        """Return a MESSAGE, which from now on may wait for its ACK."""
        record = delivered.record
        message_id = f"{self.destination.topic}-{delivered.partition}-{record.offset}"
        own = [
            ("subscription", self.name),
            ("message-id", message_id),
            ("destination", str(self.destination)),
        ]
        if self.mode != "auto":
            self._waiting[message_id] = (delivered.partition, record.offset)
            own.append(("ack", f"{self.number}-{message_id}"))
        headers = (*own, *message_headers(record, delivered.partition, delivered.deliveries))
        return encode_frame("MESSAGE", headers, record.value or b"", self._version)

    def waits_for(self, message_id: str) -> bool:
        """Whether a message waits for its ACK."""
        return message_id in self._waiting

    def taken(self, message_id: str) -> Taken:
        """Let go of what an ACK or NACK of a message means: with mode client it is all before it too."""
        if self.mode != "client":
            return [(message_id, self._waiting.pop(message_id))]
        found: Taken = []
        for one in list(self._waiting):
            found.append((one, self._waiting.pop(one)))
            if one == message_id:
                break
        return found

    def hold(self, taken: Taken) -> None:
        """Keep messages for the client: their ACK is part of a transaction that may be aborted."""
        self._held.update(taken)

    def let_go(self, taken: Taken) -> None:
        """Keep them no more: the transaction was committed."""
        for message_id, _ in taken:
            self._held.pop(message_id, None)

    def restore(self, taken: Taken) -> None:
        """Have messages wait for their ACK again: the transaction of it was aborted."""
        self.let_go(taken)
        self._waiting = {**dict(taken), **self._waiting}

    def unsettled(self) -> Iterator[tuple[int, int]]:
        """Yield where the messages are that are the client's still."""
        yield from self._waiting.values()
        yield from self._held.values()


class Subscriptions:
    """All of one connection.

    Args:
        reactor: time and delayed calls.
        push: sends frames; returns for how many milliseconds nothing more must be sent.
        is_full: says whether the output has no room.
        most: how many messages of all subscriptions together may wait for their ACK.
        may_read: raises BrokerError where what a subscription is of must not be read any more.
        failed: called with a subscription's failure, which ends the connection.
    """

    def __init__(
        self,
        reactor: Any,
        push: Callable[[Sequence[bytes]], int],
        is_full: Callable[[], bool],
        most: int,
        may_read: Callable[[Subscription], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._reactor = reactor
        self._push = push
        self._is_full = is_full
        self._most = most
        self._may_read = may_read
        self._failed = failed
        self._all: dict[str, Subscription] = {}
        self._numbers: dict[str, Subscription] = {}
        self._count = 0
        self._next_run: Any = None
        self._follow_call: Any = None
        self._muted = False
        self._is_stopped = False

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, name: str) -> bool:
        return name in self._all

    def next_number(self) -> int:
        """Number a subscription."""
        self._count += 1
        return self._count

    def add(self, subscription: Subscription) -> None:
        """Begin to send."""
        self._all[subscription.name] = subscription
        self._numbers[str(subscription.number)] = subscription
        if self._follow_call is None:
            self._follow_call = self._reactor.callLater(_FOLLOW_SECONDS, self._follow)
        self.wake()

    def remove(self, name: str) -> Subscription | None:
        """Send no more to one; what waits for its ACK goes back. Returns None if there is no such one."""
        found = self._all.pop(name, None)
        if found is not None:
            del self._numbers[str(found.number)]
            found.feed.close()
            self.wake()  # what waited for its ACK has made room for others
        return found

    def stop(self) -> None:
        """End all."""
        self._is_stopped = True
        for call in (self._next_run, self._follow_call):
            if call is not None and call.active():
                call.cancel()
        for name in list(self._all):
            self.remove(name)

    # --- sending ---

    def wake(self) -> None:
        """Go on if there is something to do."""
        if not (self._is_stopped or self._muted) and self._next_run is None and self._all:
            self._next_run = self._reactor.callLater(0, self._run)

    def _run(self) -> None:
        self._next_run = None
        if self._muted or self._is_full():
            return
        frames: list[bytes] = []
        try:
            left = self._most - sum(one.unacknowledged for one in self._all.values())
            for subscription in list(self._all.values()):
                room = subscription.room
                if subscription.mode != "auto":
                    room = min(room, left)
                if room > 0:
                    before = subscription.unacknowledged
                    frames += self._taken(subscription, subscription.feed.take(room))
                    left -= subscription.unacknowledged - before
        except Exception as error:  # noqa: BLE001 - one connection's: told and closed by it
            self._failed(error)
            return
        if not frames:
            return
        wait_ms = self._push(frames)
        if wait_ms:
            self._muted = True
            self._next_run = self._reactor.callLater(wait_ms / 1000, self._unmute)
        else:
            self.wake()

    def _taken(self, subscription: Subscription, delivered: Sequence[Delivered]) -> list[bytes]:
        frames = [subscription.frame(one) for one in delivered]
        if delivered and subscription.mode == "auto":
            places = [(one.partition, one.record.offset) for one in delivered]
            done = subscription.feed.settle(places, AcknowledgeType.ACCEPT)
            done.addErrback(self._not_settled)
        return frames

    def _not_settled(self, failure: Failure) -> None:
        if isinstance(failure.value, Exception):
            self._failed(failure.value)

    def _unmute(self) -> None:
        self._next_run = None
        self._muted = False
        self.wake()

    # --- acknowledging ---

    def find(self, name: str | None, message_id: str) -> tuple[Subscription, str]:
        """Return whose message an ACK of 1.0 or 1.1 means, and its id. Raises RequestError."""
        candidates = self._all.values() if name is None else filter(None, (self._all.get(name),))
        for subscription in candidates:
            if subscription.mode != "auto" and subscription.waits_for(message_id):
                return subscription, message_id
        raise _unknown(message_id)

    def find_ack(self, ack: str) -> tuple[Subscription, str]:
        """Return whose message an ACK of 1.2 means, and its id. Raises RequestError."""
        number, _, message_id = ack.partition("-")
        subscription = self._numbers.get(number)
        if subscription is None or not subscription.waits_for(message_id):
            raise _unknown(ack)
        return subscription, message_id

    def settle(self, acknowledged: Acknowledged) -> Deferred[None]:
        """Say what has become of messages; those of a subscription that is gone went back with it."""
        subscription, taken, kind = acknowledged
        subscription.let_go(taken)
        self.wake()
        return subscription.feed.settle([place for _, place in taken], kind)

    # --- what changes meanwhile ---

    def _follow(self) -> None:
        self._follow_call = self._reactor.callLater(_FOLLOW_SECONDS, self._follow)
        try:
            for subscription in list(self._all.values()):
                self._may_read(subscription)
                subscription.feed.follow()
                waiting = list(subscription.unsettled())
                if waiting and subscription.destination.is_queue:
                    # A message is its consumer's as long as that is there, however long it takes.
                    renewed = subscription.feed.settle(waiting, AcknowledgeType.RENEW)
                    renewed.addErrback(_late)
        except BrokerError as error:
            self._failed(error)


def _unknown(message_id: str) -> RequestError:
    return RequestError(
        ErrorCode.INVALID_REQUEST,
        f"no message {message_id[:200]!r} waits for its ACK: expected the ack or message-id of a MESSAGE "
        "of a subscription with ack:client or client-individual that was not acknowledged yet",
    )


def _late(failure: Failure) -> None:
    """It is not the member's any more; its ACK will be told so."""
    _log.debug("locks-not-renewed: {why}", why=failure.getErrorMessage())
