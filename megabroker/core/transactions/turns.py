"""The transactional ids there are, and whose turn it is with each.

Owns the ids' places in memory and the order in which requests about one id are served: one after the other,
in the order of asking. Knows no rules, no rows and no time.

Invariant: whoever waits, for a turn or for a change, is called back when there is one, and at the latest when
``stop`` says that there will be none; an id that never got an identity is forgotten when nobody asks for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from megabroker.core.timers import TimerHandle
from megabroker.core.transactions.errors import refusal
from megabroker.core.transactions.markers import MarkerRound
from megabroker.core.transactions.transaction import Transaction
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import NO_PRODUCER, CommittedOffset, ProducerIdentity, TopicPartition

__all__ = ["Entry", "Turns"]

_log = Logger()


class Entry:
    """One transactional id.

    Attributes:
        offsets: by group, what waits for the outcome.
        busy: whether a request has the turn.
        waiting: who wants the next turn.
        waking: whether they are being told, one after the other.
        rooms: who asks again once something has changed.
        joining: partitions to be added for producers that wait.
        not_joined: those that could not be added, for whom and why, until it is told or the transaction
            changes.
        timer: when the open transaction's time is up.
        markers: those on their way.
    """

    __slots__ = (
        "busy",
        "id",
        "joining",
        "markers",
        "not_joined",
        "offsets",
        "rooms",
        "timer",
        "transaction",
        "waiting",
        "waking",
    )

    def __init__(self, transactional_id: str, transaction: Transaction) -> None:
        self.id = transactional_id
        self.transaction = transaction
        self.offsets: dict[str, dict[TopicPartition, CommittedOffset]] = {}
        self.busy = False
        self.waiting: deque[Deferred[None]] | None = None
        self.waking = False
        self.rooms: list[Callable[[], None]] | None = None
        self.joining: dict[TopicPartition, ProducerIdentity] | None = None
        self.not_joined: dict[TopicPartition, tuple[ProducerIdentity, BrokerError]] | None = None
        self.timer: TimerHandle | None = None
        self.markers: MarkerRound | None = None


class Turns:
    """All ids and who waits for them.

    Args:
        max_ids: ids at most; one more is refused.

    Attributes:
        entries: by id.
        stopped: whether everything is refused.
        refused: ids that were one too many.
    """

    def __init__(self, max_ids: int) -> None:
        self.entries: dict[str, Entry] = {}
        self.stopped = False
        self.refused = 0
        self._max_ids = max_ids

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self.entries.values()))

    def stop(self) -> None:
        """Refuse everything from now on, and let those who wait hear of it."""
        self.stopped = True
        for entry in self:
            self.changed(entry)

    def check_running(self) -> None:
        """Raise StateError (NOT_COORDINATOR) once stopped."""
        if self.stopped:
            raise refusal(ErrorCode.NOT_COORDINATOR)

    def find(self, transactional_id: str) -> Entry:
        """Return an id's place. Raises BrokerError: INVALID_PRODUCER_ID, or INVALID_REQUEST for no id."""
        self.check_running()
        entry = self.entries.get(transactional_id)
        if entry is None:
            raise refusal(ErrorCode.INVALID_PRODUCER_ID if transactional_id else ErrorCode.INVALID_REQUEST)
        return entry

    @asynccontextmanager
    async def turn(self, transactional_id: str, *, create: bool = False) -> AsyncIterator[Entry]:
        """Have the turn with an id, after all who asked before.

        Raises:
            BrokerError: as ``find``; OVERLOADED when there would be too many ids.
        """
        while True:
            self.check_running()
            if create and transactional_id not in self.entries:
                if len(self.entries) >= self._max_ids:
                    self.refused += 1
                    raise refusal(ErrorCode.OVERLOADED)
                self.entries[transactional_id] = Entry(transactional_id, Transaction())
            entry = self.find(transactional_id)
            if not entry.busy:
                break
            if entry.waiting is None:
                entry.waiting = deque()
            turn: Deferred[None] = Deferred()
            entry.waiting.append(turn)
            await turn
        entry.busy = True
        try:
            yield entry
        finally:
            entry.busy = False
            self.changed(entry)

    def changed(self, entry: Entry) -> None:
        """Let those who wait ask again; an id that never got an identity is forgotten."""
        rooms, entry.rooms = entry.rooms, None
        for callback in rooms or ():
            try:
                callback()
            except Exception:  # noqa: BLE001 - one waiter's fault must not starve the others
                _log.failure("callback-failed", id=entry.id)
        if entry.waking:
            return  # one of those being woken is done already; the loop that woke it goes on
        entry.waking = True
        while entry.waiting and not entry.busy:
            entry.waiting.popleft().callback(None)
        entry.waking = False
        if not entry.waiting:
            entry.waiting = None
        if entry.transaction.producer_id == NO_PRODUCER and not entry.busy and not entry.waiting:
            self.forget(entry)

    def forget(self, entry: Entry) -> None:
        """Forget an id, unless another has taken its place."""
        if self.entries.get(entry.id) is entry:
            del self.entries[entry.id]
