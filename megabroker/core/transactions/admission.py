"""Whether a batch of a transaction may be stored, and the adding of partitions by writing to them (KIP-890).

Owns who waits to be admitted: partitions that producers write to within one turn of the reactor are added by
one write, and whoever could not be added is told why when it asks again. The rules are the automaton's, the
writing is the coordinator's.

Invariant: a batch is admitted only when the row that has its partition in the open transaction is committed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Set
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.core.transactions import automaton
from megabroker.core.transactions.errors import refusal
from megabroker.core.transactions.turns import Entry, Turns
from megabroker.errors import BrokerError, ErrorCode
from megabroker.model import ProducerIdentity, TopicPartition

__all__ = ["Admission", "Room"]

_log = Logger()


class Room:
    """What a produce request waits for while its partition is being added."""

    __slots__ = ("_admission", "_entry")

    def __init__(self, admission: Admission, entry: Entry) -> None:
        self._admission = admission
        self._entry = entry

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back once when it is worth asking again."""
        self._admission.call_when_changed(self._entry, callback)


class Admission:
    """Who is asked about every batch of a transaction.

    Args:
        add: has partitions added to the transaction of an entry that has the turn.
    """

    def __init__(
        self,
        clock: IReactorTime,
        turns: Turns,
        add: Callable[[Entry, ProducerIdentity, Set[TopicPartition]], Awaitable[None]],
    ) -> None:
        self._clock = clock
        self._turns = turns
        self._add = add
        self._joining: dict[str, Entry] = {}
        self._join_call: Any = None

    def stop(self) -> None:
        """Add nothing any more."""
        if self._join_call is not None and self._join_call.active():
            self._join_call.cancel()
        self._joining.clear()

    def admit(
        self, entry: Entry | None, identity: ProducerIdentity, partition: TopicPartition, *, implicit: bool
    ) -> Room:
        """Decide on a batch whose partition is not part of its producer's open transaction.

        Args:
            entry: the transactional id's, None if nobody knows it.

        Returns:
            What to wait for before asking again.

        Raises:
            BrokerError: it is not to be stored.
        """
        if self._turns.stopped:
            raise refusal(ErrorCode.SHUTTING_DOWN)
        if entry is None:
            raise refusal(ErrorCode.INVALID_PRODUCER_ID)
        now = entry.transaction
        try:
            if not implicit:
                automaton.verify(now, identity, partition)
            automaton.check_identity(now, identity)
        except BrokerError as error:
            if error.code is ErrorCode.PRODUCER_FENCED:
                raise refusal(ErrorCode.INVALID_PRODUCER_EPOCH) from None
            raise
        _tell_why_not(entry, identity, partition)
        if now.state in automaton.PREPARE:
            if entry.markers is None or entry.markers.struggling:
                raise refusal(ErrorCode.CONCURRENT_TRANSACTIONS)
        else:
            self._join(entry, partition, identity)
        return Room(self, entry)

    def _join(self, entry: Entry, partition: TopicPartition, identity: ProducerIdentity) -> None:
        if entry.joining is None:
            entry.joining = {}
            self._joining[entry.id] = entry
            if self._join_call is None:
                self._join_call = self._clock.callLater(0, self._join_all)
        entry.joining[partition] = identity

    def _join_all(self) -> None:
        self._join_call = None
        joining, self._joining = self._joining, {}
        for entry in joining.values():
            partitions, entry.joining = entry.joining or {}, None
            joined = Deferred.fromCoroutine(self._add_joining(entry, partitions))
            joined.addErrback(self._not_joined, entry)

    async def _add_joining(self, entry: Entry, partitions: Mapping[TopicPartition, ProducerIdentity]) -> None:
        async with self._turns.turn(entry.id) as found:
            present = found.transaction.identity
            wanted = frozenset(one for one, identity in partitions.items() if identity == present)
            if wanted and found.transaction.state not in automaton.PREPARE:
                try:
                    await self._add(found, present, wanted)
                except BrokerError as error:
                    # Before the turn ends, for then those who wait ask again.
                    found.not_joined = dict.fromkeys(wanted, (present, error))

    def _not_joined(self, failure: Failure, entry: Entry) -> None:
        """There was no turn to be had; those who wait are told so when they ask."""
        if not isinstance(failure.value, BrokerError):
            _log.failure("could not add partitions to a transaction", failure=failure)
        self._turns.changed(entry)

    def call_when_changed(self, entry: Entry, callback: Callable[[], None]) -> None:
        """Call back once when it is worth asking again."""
        turns = self._turns
        waits = entry.busy or entry.joining is not None or entry.transaction.state in automaton.PREPARE
        if turns.stopped or not waits or turns.entries.get(entry.id) is not entry:
            self._clock.callLater(0, callback)
            return
        if entry.rooms is None:
            entry.rooms = []
        entry.rooms.append(callback)


def _tell_why_not(entry: Entry, identity: ProducerIdentity, partition: TopicPartition) -> None:
    """Raise, once, why the partition could not be added for this producer."""
    if entry.not_joined is not None:
        for_whom, error = entry.not_joined.pop(partition, (None, None))
        if not entry.not_joined:
            entry.not_joined = None
        if error is not None and for_whom == identity:
            raise error
