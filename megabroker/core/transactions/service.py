"""The transaction coordinator: every transactional id, its time, its rows and who waits for them.

Owns the clock side, the turns in which requests about one id are served, and the memory of pending offsets;
the rules are the automaton's. Memory is the truth and changes when the store has committed the row: only then
is a request answered. At most one row of an id is on its way that an answer or an admission depends on.

A decision is one write: the row in its Prepare state, the offsets that become visible by it and the pending
ones that go. Then the markers are written, then memory is Complete and a row says so; nothing waits for that
row, because a Prepare row read after a crash has the same markers written once more, and no batch of a
transaction is admitted before the row of its own beginning is committed.

Invariant: every Deferred given out fires exactly once, as soon as the store has answered, and must not be
cancelled; who was told to wait for room is called back, at the latest in ``stop``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from megabroker.core.groups.transactional import TransactionalOffsets
from megabroker.core.producer_ids import ProducerIds
from megabroker.core.timers import TimerHandle, TimerWheel
from megabroker.core.transactions import automaton
from megabroker.core.transactions.coordinator_epoch import coordinator_epoch
from megabroker.core.transactions.errors import refusal
from megabroker.core.transactions.markers import MarkerRound, Markers
from megabroker.core.transactions.settings import TransactionSettings
from megabroker.core.transactions.transaction import (
    OFFSETS_TABLE,
    TRANSACTIONS_TABLE,
    Transaction,
    TransactionState,
    from_row,
    offset_from_row,
    offset_rows,
    to_row,
)
from megabroker.errors import BrokerError, ErrorCode
from megabroker.interfaces import IMetadataStore, ITopicService, ITransactionService
from megabroker.model import (
    NO_PRODUCER,
    Change,
    CommittedOffset,
    ProducerIdentity,
    TopicPartition,
    TransactionDescription,
    TransactionMarker,
)

__all__ = ["TransactionService"]

_log = Logger()

_ABORT_RETRY_MS = 1000
_EXPIRED_AT_ONCE = 1000

Outcomes = Mapping[TopicPartition, ErrorCode | None]


class _Entry:
    """One transactional id.

    Attributes:
        busy: whether a request has the turn.
        waiting: who wants the next turn.
        waking: whether they are being told, one after the other.
        rooms: who asks again once something has changed.
        joining: partitions to be added for producers that wait.
        join_error: why they could not be added, for the next who asks.
    """

    __slots__ = (
        "busy",
        "id",
        "join_error",
        "joining",
        "markers",
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
        self.join_error: BrokerError | None = None
        self.timer: TimerHandle | None = None
        self.markers: MarkerRound | None = None


class _Room:
    """What a produce request waits for while its partition is being added."""

    __slots__ = ("_entry", "_service")

    def __init__(self, service: TransactionService, entry: _Entry) -> None:
        self._service = service
        self._entry = entry

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back once when it is worth asking again."""
        self._service._call_when_changed(self._entry, callback)


@implementer(ITransactionService)
class TransactionService:
    """All transactional ids this broker coordinates.

    Args:
        clock: source of time and delayed calls.
        metadata: read at ``load``; written through ``groups``.
        groups: the offsets of groups, and the order of writes they share with transactions.
    """

    def __init__(
        self,
        clock: IReactorTime,
        metadata: IMetadataStore,
        settings: TransactionSettings,
        topics: ITopicService,
        groups: TransactionalOffsets,
        producer_ids: ProducerIds,
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._metadata = metadata
        self._topics = topics
        self._groups = groups
        self._producer_ids = producer_ids
        self._timers = TimerWheel(clock)
        self._markers = Markers(topics, self._timers)
        self._entries: dict[str, _Entry] = {}
        self._joining: dict[str, _Entry] = {}
        self._join_call: Any = None
        self._stopped = False

    @property
    def coordinator_epoch(self) -> int:
        """See ``ITransactionService``."""
        return self._markers.coordinator_epoch

    # --- life of the service ----------------------------------------------------------------------

    def load(self) -> None:
        """Read what the store holds and end what a crash left undecided or half done.

        Blocking; call once, when topics and groups are loaded.

        Raises:
            StorageError: the store cannot be read.
        """
        self._markers.coordinator_epoch = coordinator_epoch(self._metadata)
        for transactional_id, row in self._metadata.rows(TRANSACTIONS_TABLE).items():
            try:
                self._entries[transactional_id] = _Entry(transactional_id, from_row(row))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                _log.error("unreadable transaction {id!r}: {error}", id=transactional_id, error=error)
        self._load_offsets()
        explained = {
            entry.transaction.producer_id: entry.transaction
            for entry in self._entries.values()
            if entry.transaction.partitions
        }

        def is_explained(identity: ProducerIdentity, partition: TopicPartition) -> bool:
            transaction = explained.get(identity.producer_id)
            return transaction is not None and partition in transaction.partitions

        unexplained = self._markers.abort_unexplained(is_explained)
        if unexplained:
            _log.warn("aborting {count} transactions that no row explains", count=unexplained)
        for entry in list(self._entries.values()):
            self._follow(entry)
        self._expire_later()

    def _load_offsets(self) -> None:
        strays: list[Change] = []
        for key, value in self._metadata.rows(OFFSETS_TABLE).items():
            try:
                transactional_id, group_id, partition, offset = offset_from_row(key, value)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                _log.error("unreadable pending offset {key!r}: {error}", key=key, error=error)
                continue
            entry = self._entries.get(transactional_id)
            if entry is None or entry.transaction.state is not TransactionState.ONGOING:
                strays.append(Change(OFFSETS_TABLE, key, None))
                continue
            entry.offsets.setdefault(group_id, {})[partition] = offset
            self._groups.hold(group_id, [partition])
        if strays:
            self._write_unanswered(strays, "forget pending offsets")

    def stop(self) -> None:
        """Refuse everything from now on and begin nothing; call before topics stop.

        Rows on their way are still answered for by the store.
        """
        self._stopped = True
        self._markers.stop()
        self._timers.stop()
        if self._join_call is not None and self._join_call.active():
            self._join_call.cancel()
        self._joining.clear()
        for entry in list(self._entries.values()):
            self._changed(entry)

    def _check_running(self) -> None:
        if self._stopped:
            raise refusal(ErrorCode.NOT_COORDINATOR)

    # --- identities -------------------------------------------------------------------------------

    def init_producer(
        self, transactional_id: str | None, timeout_ms: int, known: ProducerIdentity | None
    ) -> Deferred[ProducerIdentity]:
        """See ``ITransactionService.init_producer``."""
        return Deferred.fromCoroutine(self._init_producer(transactional_id, timeout_ms, known))

    async def _init_producer(
        self, transactional_id: str | None, timeout_ms: int, known: ProducerIdentity | None
    ) -> ProducerIdentity:
        if transactional_id is None:
            return ProducerIdentity(await self._producer_ids.allocate(), 0)
        self._check_running()
        if not transactional_id:
            raise refusal(ErrorCode.INVALID_REQUEST)
        if not 0 < timeout_ms <= self.settings.max_timeout_ms:
            raise refusal(ErrorCode.INVALID_TXN_TIMEOUT)
        async with self._turn(transactional_id, create=True) as entry:
            fresh_id = await self._fresh_id_for(entry.transaction)
            now, now_ms = entry.transaction, self._timers.now_ms()
            if now.state is TransactionState.ONGOING:
                automaton.check_known(now, known)
                await self._decide(entry, automaton.fence(now, known, now_ms))
                raise refusal(ErrorCode.CONCURRENT_TRANSACTIONS)
            await self._store(entry, automaton.initialise(now, timeout_ms, known, fresh_id, now_ms))
            return entry.transaction.identity

    async def _fresh_id_for(self, transaction: Transaction) -> int:
        if transaction.producer_id == NO_PRODUCER or automaton.is_exhausted(transaction.producer_epoch):
            return await self._producer_ids.allocate()
        return NO_PRODUCER

    # --- the transaction --------------------------------------------------------------------------

    def add_partitions(
        self,
        transactional_id: str,
        identity: ProducerIdentity,
        partitions: Sequence[TopicPartition],
        *,
        verify_only: bool = False,
    ) -> Deferred[Outcomes]:
        """See ``ITransactionService.add_partitions``: all are added, or none when one is refused."""
        if verify_only:
            return Deferred.fromCoroutine(self._verify(transactional_id, identity, partitions))
        return Deferred.fromCoroutine(self._add_partitions(transactional_id, identity, partitions))

    async def _verify(
        self, transactional_id: str, identity: ProducerIdentity, partitions: Sequence[TopicPartition]
    ) -> Outcomes:
        now = self._find(transactional_id).transaction
        outcomes: dict[TopicPartition, ErrorCode | None] = {}
        for partition in partitions:
            try:
                automaton.verify(now, identity, partition)
                outcomes[partition] = None
            except BrokerError as error:
                if error.code is not ErrorCode.TRANSACTION_ABORTABLE:
                    raise
                outcomes[partition] = error.code
        return outcomes

    async def _add_partitions(
        self, transactional_id: str, identity: ProducerIdentity, partitions: Sequence[TopicPartition]
    ) -> Outcomes:
        self._check_running()
        outcomes: dict[TopicPartition, ErrorCode | None] = {
            partition: None if self._exists(partition) else ErrorCode.UNKNOWN_PARTITION
            for partition in partitions
        }
        if any(outcomes.values()):
            return outcomes
        async with self._turn(transactional_id) as entry:
            now_ms = self._timers.now_ms()
            await self._store(
                entry, automaton.add(entry.transaction, identity, frozenset(partitions), frozenset(), now_ms)
            )
        return outcomes

    def _exists(self, partition: TopicPartition) -> bool:
        topic = self._topics.get(partition.topic)
        return topic is not None and 0 <= partition.partition < topic.partitions

    def admit(
        self, transactional_id: str, identity: ProducerIdentity, partition: TopicPartition, *, implicit: bool
    ) -> _Room | None:
        """See ``ITransactionService.admit``; additions asked for in one turn are stored by one write."""
        entry = self._entries.get(transactional_id)
        if entry is not None:
            now = entry.transaction
            if (
                now.state is TransactionState.ONGOING
                and partition in now.partitions
                and now.producer_epoch == identity[1]
                and now.producer_id == identity[0]
            ):
                return None
        if self._stopped:
            raise refusal(ErrorCode.SHUTTING_DOWN)
        if entry is None:
            raise refusal(ErrorCode.INVALID_PRODUCER_ID)
        try:
            if not implicit:
                automaton.verify(now, identity, partition)
            automaton.check_identity(now, identity)
        except BrokerError as error:
            if error.code is ErrorCode.PRODUCER_FENCED:
                raise refusal(ErrorCode.INVALID_PRODUCER_EPOCH) from None
            raise
        if entry.join_error is not None:
            join_error, entry.join_error = entry.join_error, None
            raise join_error
        if now.state in automaton.PREPARE:
            if entry.markers is None or entry.markers.struggling:
                raise refusal(ErrorCode.CONCURRENT_TRANSACTIONS)
        else:
            self._join(entry, partition, identity)
        return _Room(self, entry)

    def _join(self, entry: _Entry, partition: TopicPartition, identity: ProducerIdentity) -> None:
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

    async def _add_joining(
        self, entry: _Entry, partitions: Mapping[TopicPartition, ProducerIdentity]
    ) -> None:
        async with self._turn(entry.id) as found:
            now_ms = self._timers.now_ms()
            present = found.transaction.identity
            wanted = frozenset(one for one, identity in partitions.items() if identity == present)
            if wanted and found.transaction.state not in automaton.PREPARE:
                await self._store(
                    found, automaton.add(found.transaction, present, wanted, frozenset(), now_ms)
                )

    def _not_joined(self, failure: Failure, entry: _Entry) -> None:
        if isinstance(failure.value, BrokerError):
            entry.join_error = failure.value
        else:
            _log.failure("could not add partitions to a transaction", failure=failure)
        self._changed(entry)

    def _call_when_changed(self, entry: _Entry, callback: Callable[[], None]) -> None:
        waits = entry.busy or entry.joining is not None or entry.transaction.state in automaton.PREPARE
        if self._stopped or not waits or self._entries.get(entry.id) is not entry:
            self._clock.callLater(0, callback)
            return
        if entry.rooms is None:
            entry.rooms = []
        entry.rooms.append(callback)

    def add_offsets(self, transactional_id: str, identity: ProducerIdentity, group_id: str) -> Deferred[None]:
        """See ``ITransactionService.add_offsets``."""
        return Deferred.fromCoroutine(self._add_offsets(transactional_id, identity, group_id))

    async def _add_offsets(self, transactional_id: str, identity: ProducerIdentity, group_id: str) -> None:
        self._check_running()
        async with self._turn(transactional_id) as entry:
            await self._store(entry, self._with_group(entry, identity, group_id))

    def _with_group(self, entry: _Entry, identity: ProducerIdentity, group_id: str) -> Transaction:
        now = entry.transaction
        grown = automaton.add(now, identity, frozenset(), frozenset([group_id]), self._timers.now_ms())
        if len(grown.groups) > self.settings.max_offsets:
            raise refusal(ErrorCode.OVERLOADED)
        return grown

    def commit_offsets(
        self,
        transactional_id: str,
        identity: ProducerIdentity,
        group_id: str,
        generation: int,
        member_id: str,
        instance_id: str | None,
        offsets: Mapping[TopicPartition, CommittedOffset],
        *,
        implicit: bool = False,
    ) -> Deferred[Outcomes]:
        """See ``ITransactionService.commit_offsets``."""
        member = (group_id, generation, member_id, instance_id)
        return Deferred.fromCoroutine(
            self._commit_offsets(transactional_id, identity, member, offsets, implicit)
        )

    async def _commit_offsets(
        self,
        transactional_id: str,
        identity: ProducerIdentity,
        member: tuple[str, int, str, str | None],
        offsets: Mapping[TopicPartition, CommittedOffset],
        implicit: bool,
    ) -> Outcomes:
        self._check_running()
        group_id = member[0]
        async with self._turn(transactional_id) as entry:
            if implicit:
                grown = self._with_group(entry, identity, group_id)
            else:
                grown = entry.transaction
                automaton.check_offsets_of(grown, identity, group_id)
            outcomes, accepted = self._groups.admit(*member, offsets)
            if accepted:
                await self._keep(entry, grown, group_id, accepted)
        return outcomes

    async def _keep(
        self,
        entry: _Entry,
        grown: Transaction,
        group_id: str,
        accepted: dict[TopicPartition, CommittedOffset],
    ) -> None:
        fresh = accepted.keys() - entry.offsets.get(group_id, {}).keys()
        if sum(map(len, entry.offsets.values())) + len(fresh) > self.settings.max_offsets:
            raise refusal(ErrorCode.OVERLOADED)

        def apply() -> None:
            entry.offsets.setdefault(group_id, {}).update(accepted)

        self._groups.hold(group_id, fresh)
        try:
            await self._store(entry, grown, offset_rows(entry.id, group_id, accepted), apply)
        except BaseException:
            self._groups.release({group_id: fresh} if fresh else {})
            raise

    def end(
        self, transactional_id: str, identity: ProducerIdentity, commit: bool, *, bump_epoch: bool
    ) -> Deferred[ProducerIdentity]:
        """See ``ITransactionService.end``."""
        return Deferred.fromCoroutine(self._end(transactional_id, identity, commit, bump_epoch))

    async def _end(
        self, transactional_id: str, identity: ProducerIdentity, commit: bool, bump_epoch: bool
    ) -> ProducerIdentity:
        self._check_running()
        async with self._turn(transactional_id) as entry:
            fresh_id = await self._fresh_id_for(entry.transaction) if bump_epoch else NO_PRODUCER
            now_ms = self._timers.now_ms()
            decided = automaton.end(entry.transaction, identity, commit, bump_epoch, fresh_id, now_ms)
            await self._decide(entry, decided)
            return decided.identity

    # --- deciding and ending ----------------------------------------------------------------------

    async def _decide(self, entry: _Entry, decided: Transaction) -> None:
        """Store a decision with all that becomes true by it, then have the markers written."""
        if decided is entry.transaction:
            return
        pending = entry.offsets
        changes = [
            change
            for group_id, offsets in pending.items()
            for change in offset_rows(entry.id, group_id, offsets.keys())
        ]
        visible: Mapping[str, Mapping[TopicPartition, CommittedOffset]] = {}
        if decided.state in (TransactionState.PREPARE_COMMIT, TransactionState.COMPLETE_COMMIT):
            visible = self._groups.surviving(pending)
            changes += self._groups.changes(visible)

        def apply() -> None:
            entry.offsets = {}
            self._groups.applied(visible)
            self._groups.release(pending)

        await self._store(entry, decided, changes, apply)

    async def _store(
        self,
        entry: _Entry,
        grown: Transaction,
        also: Sequence[Change] = (),
        apply: Callable[[], None] | None = None,
    ) -> None:
        """Write a row and the changes ``also``; memory follows when they are committed."""
        changes = list(also)
        if grown is not entry.transaction:
            changes.append(Change(TRANSACTIONS_TABLE, entry.id, to_row(grown)))

        def applied() -> None:
            entry.transaction = grown
            if apply is not None:
                apply()
            self._follow(entry)

        if changes:
            await self._groups.write(changes, applied)

    def _follow(self, entry: _Entry) -> None:
        """Do what the present state asks for: a deadline, or markers."""
        now = entry.transaction
        if now.state is TransactionState.ONGOING:
            if entry.timer is None and not self._stopped:
                deadline_ms = now.start_time_ms + now.timeout_ms
                entry.timer = self._timers.call_at(deadline_ms, partial(self._time_is_up, entry))
        elif entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        if now.state in automaton.PREPARE and entry.markers is None:
            marker = TransactionMarker(
                now.producer_id,
                now.producer_epoch,
                now.state is TransactionState.PREPARE_COMMIT,
                self._markers.coordinator_epoch,
            )
            begun = self._markers.begin(
                marker, now.partitions, partial(self._complete, entry), partial(self._changed, entry)
            )
            # The round may be over before its beginning returns.
            if entry.transaction is now:
                entry.markers = begun

    def _complete(self, entry: _Entry) -> None:
        entry.markers = None
        entry.transaction = automaton.complete(entry.transaction, self._timers.now_ms())
        row = Change(TRANSACTIONS_TABLE, entry.id, to_row(entry.transaction))
        self._write_unanswered([row], "store that a transaction is complete")
        self._changed(entry)

    def _time_is_up(self, entry: _Entry) -> None:
        entry.timer = None
        aborted = Deferred.fromCoroutine(self._abort_overdue(entry))
        aborted.addErrback(self._not_aborted, entry)

    async def _abort_overdue(self, entry: _Entry) -> None:
        async with self._turn(entry.id) as found:
            now, now_ms = found.transaction, self._timers.now_ms()
            if automaton.is_overdue(now, now_ms):
                _log.info(
                    "transaction-timed-out",
                    id=entry.id,
                    producer_id=now.producer_id,
                    timeout_ms=now.timeout_ms,
                )
                await self._decide(found, automaton.fence(now, None, now_ms))
            else:
                self._follow(found)

    def _not_aborted(self, failure: Failure, entry: _Entry) -> None:
        if self._stopped or self._entries.get(entry.id) is not entry:
            return
        _log.failure("could not abort a transaction whose time is up", failure=failure)
        if entry.timer is None:
            entry.timer = self._timers.call_later(_ABORT_RETRY_MS, partial(self._time_is_up, entry))

    # --- turns ------------------------------------------------------------------------------------

    def _find(self, transactional_id: str) -> _Entry:
        self._check_running()
        entry = self._entries.get(transactional_id)
        if entry is None:
            raise refusal(ErrorCode.INVALID_PRODUCER_ID if transactional_id else ErrorCode.INVALID_REQUEST)
        return entry

    @asynccontextmanager
    async def _turn(self, transactional_id: str, *, create: bool = False) -> AsyncIterator[_Entry]:
        """Serve requests about one id one after the other, in the order of asking."""
        while True:
            self._check_running()
            if create and transactional_id not in self._entries:
                if len(self._entries) >= self.settings.max_transactional_ids:
                    raise refusal(ErrorCode.OVERLOADED)
                self._entries[transactional_id] = _Entry(transactional_id, Transaction())
            entry = self._find(transactional_id)
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
            self._changed(entry)

    def _changed(self, entry: _Entry) -> None:
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
            self._forget(entry)

    def _forget(self, entry: _Entry) -> None:
        if self._entries.get(entry.id) is entry:
            del self._entries[entry.id]

    def _write_unanswered(self, changes: Sequence[Change], what: str) -> None:
        self._groups.write(changes, _nothing).addErrback(_log_failure, what)

    # --- administration ---------------------------------------------------------------------------

    def describe(self, transactional_id: str) -> TransactionDescription | None:
        """See ``ITransactionService.describe``."""
        self._check_running()
        entry = self._entries.get(transactional_id)
        return None if entry is None else _description(entry)

    def all(self) -> Sequence[TransactionDescription]:
        """See ``ITransactionService.all``."""
        self._check_running()
        return [_description(entry) for _, entry in sorted(self._entries.items())]

    def expire(self, now_ms: int) -> Deferred[int]:
        """Forget ids that nobody has used for long; fire with how many, some thousand at a time."""
        expired = [
            entry
            for entry in self._entries.values()
            if not entry.busy
            and automaton.is_expired(entry.transaction, self.settings.id_expiration_ms, now_ms)
        ][:_EXPIRED_AT_ONCE]

        def forget() -> None:
            for entry in expired:
                self._forget(entry)

        def settle(result: object) -> object:
            for entry in expired:
                entry.busy = False
                self._changed(entry)
            return result

        for entry in expired:
            entry.busy = True
        written = self._groups.write([Change(TRANSACTIONS_TABLE, one.id, None) for one in expired], forget)
        return written.addBoth(settle).addCallback(lambda _: len(expired))

    def _expire_later(self) -> None:
        if self.settings.check_interval_ms > 0:
            self._timers.call_later(self.settings.check_interval_ms, self._expire_now)

    def _expire_now(self) -> None:
        self._expire_later()
        self.expire(self._timers.now_ms()).addErrback(_log_failure, "forget idle transactional ids")


def _description(entry: _Entry) -> TransactionDescription:
    now = entry.transaction
    return TransactionDescription(
        entry.id,
        now.state.value,
        now.timeout_ms,
        now.producer_id,
        now.producer_epoch,
        now.start_time_ms,
        sorted(now.partitions),
    )


def _nothing() -> None:
    """Memory is ahead of what is being written."""


def _log_failure(failure: Failure, what: str) -> None:
    _log.failure("could not {what}", failure=failure, what=what)
