"""The deduplication window: message ids stored within the last 30 minutes.

Owns the ids confirmed and the ids being stored. An id is *free*, *claimed* (one caller is storing it),
*acknowledged* (as claimed, but the client has its answer, and repeats get the same at once) or *confirmed*.
A confirmed id leaves the window by age, or as the oldest when ``max_entries`` are held. Ids are remembered
per second: expiry drops whole seconds, so its cost is constant per id.

The invariants: an id enters the journal, which outlives the process, only by ``confirm``, that is after its
message is as durable as the broker promises; until then a crash or ``release`` makes it free, and a retry
is stored. Nobody is told that an id is confirmed before it is in the journal, so such a reply stays true
over kill -9. The confirmations of a turn are journalled by one append in the next turn, or as soon as one
is asked for. Never reads the clock of the machine and never blocks but for the journal's append.

Memory: about 90 bytes per id (one set slot, one integer, two list slots).
"""

from __future__ import annotations

import enum
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

import attrs
from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from megabroker.errors import BrokerError, StorageError
from megabroker.interfaces import IDedup, IWindowStore

__all__ = ["DedupScope", "DedupSettings", "DeduplicationService"]

_log = Logger()

MINUTES_MS = 60_000
_EXPIRY_INTERVAL_S = 60

Outcome = Callable[[BrokerError | None], None]


class DedupScope(enum.Enum):
    """Within what an id is unique."""

    TOPIC = "topic"
    GLOBAL = "global"
    OFF = "off"


@attrs.frozen
class DedupSettings:
    """How the window is kept."""

    scope: DedupScope = DedupScope.TOPIC
    window_ms: int = 30 * MINUTES_MS
    max_entries: int = 1_000_000


class _Scope:
    """The confirmed ids of one scope; ``number`` is what the journal calls it."""

    __slots__ = ("ids", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.ids: set[int] = set()


class _Second:
    """What was confirmed within one second, oldest first; everything before ``head`` is gone."""

    __slots__ = ("head", "ids", "scopes", "second")

    def __init__(self, second: int) -> None:
        self.second = second
        self.head = 0
        self.ids: list[int] = []
        self.scopes: list[_Scope] = []


class _Claim:
    """An id somebody is storing; nobody waits for one that is acknowledged."""

    __slots__ = ("acknowledged", "outcomes", "scope")

    def __init__(self, scope: int) -> None:
        self.acknowledged = False
        self.scope = scope
        self.outcomes: list[Outcome] = []


@implementer(IDedup)
class DeduplicationService(Service):
    """The window, its journal and its expiry.

    Args:
        journal: where confirmed ids survive a restart; None keeps them in memory only.
        topic_id: finds a topic's id by name: a topic deleted and created anew begins with an empty window.
        reactor: a clock, for turns and for the expiry of an idle window.
        now_ms: the time in epoch milliseconds.

    Attributes:
        hits: messages that were not stored again.
        evicted: ids forgotten early because of ``max_entries``.
        journal_failures: confirmations that could not be journalled and live in memory only.
    """

    name = "dedup"

    def __init__(
        self,
        settings: DedupSettings,
        journal: IWindowStore | None,
        topic_id: Callable[[str], UUID | None],
        reactor: Any,
        now_ms: Callable[[], int],
    ) -> None:
        self.settings = settings
        self.evicted = 0
        self.hits = 0
        self.journal_failures = 0
        self._journal = journal
        self._topic_id = topic_id
        self._reactor = reactor
        self._now_ms = now_ms
        self._entries = 0
        self._scopes: dict[int, _Scope] = {}
        self._seconds: deque[_Second] = deque()
        self._claims: dict[tuple[str, int], _Claim] = {}
        self._to_journal: list[tuple[int, int, int]] = []
        self._to_tell: list[Outcome] = []
        self._journal_due = False
        self._expiry = LoopingCall(self._expire_all)
        self._expiry.clock = reactor

    def __len__(self) -> int:
        return self._entries

    # --- life ---------------------------------------------------------------------------------------

    def load(self, is_mine: Callable[[int, int], bool] | None = None) -> None:
        """Read the window back from its journal. Blocking. Raises StorageError.

        Args:
            is_mine: whether this process decides about an id, by scope number and id; None for all.
        """
        if self._journal is None or self.settings.scope is DedupScope.OFF:
            return
        now_ms = self._now_ms()
        for scope, message_id, time_ms in self._journal.load(now_ms - self.settings.window_ms):
            if is_mine is None or is_mine(scope, message_id):
                self._remember(scope, message_id, min(time_ms, now_ms))
        self._expire(now_ms)

    def startService(self) -> None:
        """Begin to expire."""
        super().startService()  # type: ignore[no-untyped-call]
        self._expiry.start(_EXPIRY_INTERVAL_S, now=False).addErrback(_expiry_died)

    def stopService(self) -> None:
        """Journal what is confirmed and stop expiring; the journal is its owner's to close."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._journal_turn()
        if self._expiry.running:
            self._expiry.stop()

    def scope_names(self, topics: Iterable[str]) -> dict[int, str]:
        """Return the topics by their scope numbers; with the global scope there is one, by no name."""
        if self.settings.scope is DedupScope.GLOBAL:
            return {0: ""}
        return {self._number(topic): topic for topic in topics}

    # --- the window ---------------------------------------------------------------------------------

    def seen(self, topic: str, message_id: int) -> bool:
        """Whether the id was confirmed for this scope within the window."""
        if self.settings.scope is DedupScope.OFF:
            return False
        self._expire(self._now_ms())
        return self._holds(self._number(topic), message_id)

    def claim(self, topic: str, message_id: int, outcome: Outcome) -> bool:
        """Claim an id for storing; see ``IDedup``."""
        if self.settings.scope is DedupScope.OFF:
            return True
        self._expire(self._now_ms())
        number = self._number(topic)
        if self._holds(number, message_id):
            self.hits += 1
            self._write_journal()
            outcome(None)
            return False
        key = self._key(topic, message_id)
        claim = self._claims.get(key)
        if claim is not None:
            self.hits += 1
            if claim.acknowledged:
                outcome(None)
            else:
                claim.outcomes.append(outcome)
            return False
        self._claims[key] = _Claim(number)
        return True

    def acknowledge(self, topic: str, message_ids: Sequence[int]) -> None:
        """The claimed messages may be answered for and may yet be lost; see ``IDedup``."""
        for message_id in message_ids:
            claim = self._claims.get(self._key(topic, message_id))
            if claim is not None:
                claim.acknowledged = True
                outcomes, claim.outcomes = claim.outcomes, []
                for outcome in outcomes:
                    self._tell(outcome, None)

    def confirm(self, topic: str, message_ids: Sequence[int], done: Outcome | None = None) -> None:
        """The claimed messages are durable: remember them, journal them, then tell who waits.

        A journal that fails costs the ids' survival of a restart, not the acknowledgement: the messages
        are stored.
        """
        if self.settings.scope is not DedupScope.OFF:
            now_ms = self._now_ms()
            self._expire(now_ms)
            for message_id in message_ids:
                claim = self._claims.pop(self._key(topic, message_id), None)
                number = self._number(topic) if claim is None else claim.scope
                if claim is not None:
                    self._to_tell += claim.outcomes
                if not self._holds(number, message_id):
                    self._to_journal.append((number, message_id, now_ms))
                    self._remember(number, message_id, now_ms)
        if done is not None:
            self._to_tell.append(done)
        if not self._journal_due:
            self._journal_due = True
            self._reactor.callLater(0, self._journal_turn)

    def release(self, topic: str, message_ids: Sequence[int], error: BrokerError) -> None:
        """The claimed messages are not stored: who waited gets ``error``, the next one may claim them."""
        outcomes: list[Outcome] = []
        for message_id in message_ids:
            claim = self._claims.pop(self._key(topic, message_id), None)
            if claim is not None:
                outcomes += claim.outcomes
        for outcome in outcomes:
            self._tell(outcome, error)

    # --- the inside ---------------------------------------------------------------------------------

    def _journal_turn(self) -> None:
        """Journal what was confirmed and tell who waits for it."""
        self._journal_due = False
        self._write_journal()
        outcomes, self._to_tell = self._to_tell, []
        for outcome in outcomes:
            self._tell(outcome, None)

    def _write_journal(self) -> None:
        entries, self._to_journal = self._to_journal, []
        if entries and self._journal is not None:
            try:
                self._journal.append(entries)
            except StorageError as error:
                if not self.journal_failures:
                    _log.error("dedup-journal-failed", error=error.message)
                self.journal_failures += len(entries)

    def _tell(self, outcome: Outcome, error: BrokerError | None) -> None:
        try:
            outcome(error)
        except Exception:  # noqa: BLE001 - the others who wait must still be told
            _log.failure("dedup-outcome-failed")

    def _key(self, topic: str, message_id: int) -> tuple[str, int]:
        return ("" if self.settings.scope is DedupScope.GLOBAL else topic, message_id)

    def _number(self, topic: str) -> int:
        """Return the scope's number in the journal: 63 bits of the topic's id, or 0 for the global one."""
        if self.settings.scope is DedupScope.GLOBAL:
            return 0
        topic_id = self._topic_id(topic)
        if topic_id is not None:
            return topic_id.int >> 65
        return int.from_bytes(hashlib.blake2b(topic.encode(), digest_size=8).digest()) >> 1

    def _holds(self, number: int, message_id: int) -> bool:
        scope = self._scopes.get(number)
        return scope is not None and message_id in scope.ids

    def _remember(self, number: int, message_id: int, time_ms: int) -> None:
        scope = self._scopes.get(number)
        if scope is None:
            scope = self._scopes[number] = _Scope(number)
        elif message_id in scope.ids:
            return
        second = time_ms // 1000
        seconds = self._seconds
        if not seconds or seconds[-1].second < second:
            seconds.append(_Second(second))
        last = seconds[-1]
        last.ids.append(message_id)
        last.scopes.append(scope)
        scope.ids.add(message_id)
        self._entries += 1
        if self._entries > self.settings.max_entries:
            self._evict_oldest()

    def _evict_oldest(self) -> None:
        oldest = self._seconds[0]
        self._forget(oldest.scopes[oldest.head], oldest.ids[oldest.head])
        oldest.head += 1
        if oldest.head == len(oldest.ids):
            self._seconds.popleft()
        self.evicted += 1

    def _forget(self, scope: _Scope, message_id: int) -> None:
        scope.ids.discard(message_id)
        if not scope.ids:
            self._scopes.pop(scope.number, None)
        self._entries -= 1

    def _expire(self, now_ms: int) -> None:
        seconds = self._seconds
        limit = (now_ms - self.settings.window_ms) // 1000
        while seconds and seconds[0].second < limit:
            oldest = seconds.popleft()
            for place in range(oldest.head, len(oldest.ids)):
                self._forget(oldest.scopes[place], oldest.ids[place])

    def _expire_all(self) -> None:
        now_ms = self._now_ms()
        self._expire(now_ms)
        if self._journal is not None:
            try:
                self._journal.expire(now_ms - self.settings.window_ms)
            except StorageError as error:
                _log.error("dedup-journal-failed", error=error.message)


def _expiry_died(failure: Failure) -> None:
    _log.failure("dedup-expiry-died", failure=failure)
