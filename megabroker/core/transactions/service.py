"""The transaction coordinator: every transactional id, its time and its rows.

Owns the clock side, what is written, and the memory of pending offsets; the rules are the automaton's, the
turns in which requests about one id are served ``turns``', whether a batch may be stored ``admission``'s.
Memory is the truth and changes when the store has committed the row: only then is a request answered. At most
one row of an id is on its way that an answer or an admission depends on.

A decision is one write: the row in its Prepare state, the offsets that become visible by it and the pending
ones that go. Then the markers are written, then memory is Complete and a row says so; nothing waits for that
row, because a Prepare row read after a crash has the same markers written once more, and no batch of a
transaction is admitted before the row of its own beginning is committed.

Invariant: every Deferred given out fires exactly once, as soon as the store has answered, and must not be
cancelled; who was told to wait for room is called back, at the latest in ``stop``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from megabroker.core.groups.transactional import TransactionalOffsets
from megabroker.core.producer_ids import ProducerIds
from megabroker.core.timers import TimerWheel
from megabroker.core.transactions import automaton
from megabroker.core.transactions.admission import Admission, Room
from megabroker.core.transactions.coordinator_epoch import coordinator_epoch
from megabroker.core.transactions.errors import refusal
from megabroker.core.transactions.expiry import Expiry
from megabroker.core.transactions.markers import Markers
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
from megabroker.core.transactions.turns import Entry, Turns
from megabroker.errors import BrokerError, ErrorCode
from megabroker.interfaces import IMetadataStore, ITopicService, ITransactionPeers, ITransactionService
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

Outcomes = Mapping[TopicPartition, ErrorCode | None]


@implementer(ITransactionService)
class TransactionService:
    """All transactional ids this broker coordinates.

    Args:
        clock: source of time and delayed calls.
        metadata: read at ``load``; written through ``groups``.
        groups: the offsets of groups, and the order of writes they share with transactions.
        peers: how partitions that others lead are given their markers.
    """

    def __init__(
        self,
        clock: IReactorTime,
        metadata: IMetadataStore,
        settings: TransactionSettings,
        topics: ITopicService,
        groups: TransactionalOffsets,
        producer_ids: ProducerIds,
        peers: ITransactionPeers | None = None,
    ) -> None:
        self.settings = settings
        self.marker_generation = 0
        self.refused_offsets = 0
        self._clock = clock
        self._metadata = metadata
        self._topics = topics
        self._groups = groups
        self._producer_ids = producer_ids
        self._timers = TimerWheel(clock)
        self._markers = Markers(topics, self._timers, peers)
        self._turns = Turns(settings.max_transactional_ids)
        self._admission = Admission(clock, self._turns, self._join)
        self._expiry = Expiry(self._timers, self._turns, groups.write, settings)

    @property
    def coordinator_epoch(self) -> int:
        """See ``ITransactionService``."""
        return self._markers.coordinator_epoch

    @property
    def id_count(self) -> int:
        """How many transactional ids are remembered."""
        return len(self._turns.entries)

    @property
    def refused_ids(self) -> int:
        """How many ids were one too many."""
        return self._turns.refused

    def states(self) -> list[str]:
        """Return the state of every id's transaction, in Kafka's words."""
        return [entry.transaction.state.value for entry in self._turns]

    # --- life of the service ----------------------------------------------------------------------

    def load(self) -> None:
        """Read what the store holds and end what a crash left undecided or half done.

        Blocking; call once, when topics and groups are loaded.

        Raises:
            StorageError: the store cannot be read.
        """
        now_ms = self._timers.now_ms()
        self._markers.coordinator_epoch = coordinator_epoch(self._metadata)
        for transactional_id, row in self._metadata.rows(TRANSACTIONS_TABLE).items():
            try:
                transaction = from_row(row)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                _log.error("unreadable transaction {id!r}: {error}", id=transactional_id, error=error)
                continue
            if transaction.start_time_ms > now_ms:  # the clock was set back since
                transaction = attrs.evolve(transaction, start_time_ms=now_ms)
            self._turns.entries[transactional_id] = Entry(transactional_id, transaction)
        self._load_offsets()
        unexplained = self._markers.abort_unexplained(self._explaining())
        if unexplained:
            _log.warn("aborting {count} transactions that no row explains", count=unexplained)
        for entry in self._turns:
            self._follow(entry)
        self._expiry.begin()

    def heed(self, epochs: Mapping[int, int]) -> None:
        """Let no epoch begin again that a log knows, by producer id; call after ``load``.

        A power cut may have taken the rows that said so. What the log has of such an epoch would be taken for
        what its next holder sends.
        """
        for entry in self._turns:
            known = epochs.get(entry.transaction.producer_id, -1)
            if known > entry.transaction.producer_epoch:
                entry.transaction = attrs.evolve(entry.transaction, producer_epoch=known)

    def _explaining(self) -> Callable[[TopicPartition, ProducerIdentity], bool]:
        explained = {
            entry.transaction.producer_id: entry.transaction
            for entry in self._turns
            if entry.transaction.partitions
        }

        def is_explained(partition: TopicPartition, identity: ProducerIdentity) -> bool:
            transaction = explained.get(identity.producer_id)
            if transaction is None or partition not in transaction.partitions:
                return False
            # A power cut may have taken the row of an epoch whose batches are in the log.
            return identity.producer_epoch <= transaction.producer_epoch

        return is_explained

    def _load_offsets(self) -> None:
        strays: list[Change] = []
        for key, value in self._metadata.rows(OFFSETS_TABLE).items():
            try:
                transactional_id, group_id, partition, offset = offset_from_row(key, value)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                _log.error("unreadable pending offset {key!r}: {error}", key=key, error=error)
                continue
            entry = self._turns.entries.get(transactional_id)
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
        self._markers.stop()
        self._timers.stop()
        self._admission.stop()
        self._turns.stop()

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
        self._turns.check_running()
        if not transactional_id:
            raise refusal(ErrorCode.INVALID_REQUEST)
        if not 0 < timeout_ms <= self.settings.max_timeout_ms:
            raise refusal(ErrorCode.INVALID_TXN_TIMEOUT)
        async with self._turns.turn(transactional_id, create=True) as entry:
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
        now = self._turns.find(transactional_id).transaction
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
        self._turns.check_running()
        outcomes: dict[TopicPartition, ErrorCode | None] = {
            partition: None if self._exists(partition) else ErrorCode.UNKNOWN_PARTITION
            for partition in partitions
        }
        if any(outcomes.values()):
            return outcomes
        async with self._turns.turn(transactional_id) as entry:
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
    ) -> Room | None:
        """See ``ITransactionService.admit``; additions asked for in one turn are stored by one write."""
        entry = self._turns.entries.get(transactional_id)
        if entry is not None:
            now = entry.transaction
            # Asked for every batch, and true for all but the first of a partition.
            if (
                now.state is TransactionState.ONGOING
                and partition in now.partitions
                and now.producer_epoch == identity[1]
                and now.producer_id == identity[0]
            ):
                return None
        return self._admission.admit(entry, identity, partition, implicit=implicit)

    async def _join(self, entry: Entry, identity: ProducerIdentity, partitions: Set[TopicPartition]) -> None:
        now_ms = self._timers.now_ms()
        await self._store(entry, automaton.add(entry.transaction, identity, partitions, frozenset(), now_ms))

    def add_offsets(self, transactional_id: str, identity: ProducerIdentity, group_id: str) -> Deferred[None]:
        """See ``ITransactionService.add_offsets``."""
        return Deferred.fromCoroutine(self._add_offsets(transactional_id, identity, group_id))

    async def _add_offsets(self, transactional_id: str, identity: ProducerIdentity, group_id: str) -> None:
        self._turns.check_running()
        async with self._turns.turn(transactional_id) as entry:
            await self._store(entry, self._with_group(entry, identity, group_id))

    def _with_group(self, entry: Entry, identity: ProducerIdentity, group_id: str) -> Transaction:
        now = entry.transaction
        grown = automaton.add(now, identity, frozenset(), frozenset([group_id]), self._timers.now_ms())
        if len(grown.groups) > self.settings.max_offsets:
            self.refused_offsets += 1
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
        self._turns.check_running()
        group_id = member[0]
        async with self._turns.turn(transactional_id) as entry:
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
        entry: Entry,
        grown: Transaction,
        group_id: str,
        accepted: dict[TopicPartition, CommittedOffset],
    ) -> None:
        fresh = accepted.keys() - entry.offsets.get(group_id, {}).keys()
        if sum(map(len, entry.offsets.values())) + len(fresh) > self.settings.max_offsets:
            self.refused_offsets += 1
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
        self._turns.check_running()
        async with self._turns.turn(transactional_id) as entry:
            fresh_id = await self._fresh_id_for(entry.transaction) if bump_epoch else NO_PRODUCER
            now_ms = self._timers.now_ms()
            decided = automaton.end(entry.transaction, identity, commit, bump_epoch, fresh_id, now_ms)
            await self._decide(entry, decided)
            return decided.identity

    def abort(self, transactional_id: str) -> Deferred[None]:
        """See ``ITransactionService.abort``."""
        return Deferred.fromCoroutine(self._abort(transactional_id))

    async def _abort(self, transactional_id: str) -> None:
        if self.describe(transactional_id) is None:
            raise refusal(ErrorCode.TRANSACTIONAL_ID_NOT_FOUND)
        async with self._turns.turn(transactional_id) as entry:
            if entry.transaction.state is not TransactionState.ONGOING:
                raise refusal(ErrorCode.INVALID_TXN_STATE)
            await self._decide(entry, automaton.fence(entry.transaction, None, self._timers.now_ms()))

    # --- deciding and ending ----------------------------------------------------------------------

    async def _decide(self, entry: Entry, decided: Transaction) -> None:
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
        entry: Entry,
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
            entry.not_joined = None
            if apply is not None:
                apply()
            self._follow(entry)

        if changes:
            await self._groups.write(changes, applied)

    def _follow(self, entry: Entry) -> None:
        """Do what the present state asks for: a deadline, or markers."""
        now = entry.transaction
        if now.state is TransactionState.ONGOING:
            if entry.timer is None and not self._turns.stopped:
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
                marker, now.partitions, partial(self._complete, entry), partial(self._turns.changed, entry)
            )
            # The round may be over before its beginning returns.
            if entry.transaction is now:
                entry.markers = begun

    def _complete(self, entry: Entry) -> None:
        entry.markers = None
        entry.transaction = automaton.complete(entry.transaction, self._timers.now_ms())
        row = Change(TRANSACTIONS_TABLE, entry.id, to_row(entry.transaction))
        self._write_unanswered([row], "store that a transaction is complete")
        self._turns.changed(entry)

    def _time_is_up(self, entry: Entry) -> None:
        entry.timer = None
        aborted = Deferred.fromCoroutine(self._abort_overdue(entry))
        aborted.addErrback(self._not_aborted, entry)

    async def _abort_overdue(self, entry: Entry) -> None:
        async with self._turns.turn(entry.id) as found:
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

    def _not_aborted(self, failure: Failure, entry: Entry) -> None:
        if self._turns.stopped or self._turns.entries.get(entry.id) is not entry:
            return
        _log.failure("could not abort a timed-out transaction", failure=failure)
        if entry.timer is None:
            entry.timer = self._timers.call_later(_ABORT_RETRY_MS, partial(self._time_is_up, entry))

    def _write_unanswered(self, changes: Sequence[Change], what: str) -> None:
        self._groups.write(changes, _nothing).addErrback(_log_failure, what)

    # --- what leaders tell and ask ----------------------------------------------------------------

    def ending(self, partition: TopicPartition, producer_id: int) -> None:
        """See ``ITransactionService.ending``: what is known here does not depend on it."""

    def unexplained(
        self, open_transactions: Sequence[tuple[TopicPartition, ProducerIdentity]]
    ) -> Sequence[tuple[TopicPartition, ProducerIdentity]]:
        """See ``ITransactionService.unexplained``."""
        self._turns.check_running()
        is_explained = self._explaining()
        return [one for one in open_transactions if not is_explained(*one)]

    # --- administration ---------------------------------------------------------------------------

    def describe(self, transactional_id: str) -> TransactionDescription | None:
        """See ``ITransactionService.describe``."""
        self._turns.check_running()
        entry = self._turns.entries.get(transactional_id)
        return None if entry is None else _description(entry)

    def all(self) -> Sequence[TransactionDescription]:
        """See ``ITransactionService.all``."""
        self._turns.check_running()
        return [_description(entry) for _, entry in sorted(self._turns.entries.items())]

    def expire(self, now_ms: int) -> Deferred[int]:
        """Forget ids that nobody has used for long; fire with how many, some thousand at a time."""
        return self._expiry.expire(now_ms)


def _description(entry: Entry) -> TransactionDescription:
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
