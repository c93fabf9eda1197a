"""Transactions in a process that leads partitions and coordinates no transaction.

Owns what the coordinator has said of transactions that write to partitions led here. Before the first batch
of a transaction is stored in a partition the coordinator is asked whether the partition is part of it, or to
make it so (KIP-890); its word holds until the transaction's marker is appended, which happens here. Nothing
of this is stored: after a restart the coordinator is asked anew, whatever is open in the log.

*The guard.* Between the coordinator's word and its arrival the transaction may have ended. The marker then
came first, for a transaction is over only when every leader has its marker, and so ``ending`` has voided the
question: it is asked again.

*What nobody explains.* No batch is stored before the coordinator's row is, so what is open in a log after a
crash is known to the coordinator, unless that has lost rows. The leader asks once after its start and aborts
what is part of no transaction. Until it knows, the producers of these may not begin others there.

Invariant: a batch is admitted only if the coordinator has said that its partition is part of the transaction
that is open, and no marker of its producer was appended since the coordinator was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from megabroker.core.producer_ids import ProducerIds
from megabroker.core.timers import TimerWheel
from megabroker.core.transactions.coordinator_epoch import coordinator_epoch
from megabroker.core.transactions.errors import refusal
from megabroker.core.transactions.in_logs import OpenTransaction, open_transactions
from megabroker.errors import BrokerError, ErrorCode, StateError
from megabroker.interfaces import IMetadataStore, ITopicService, ITransactionPeers, ITransactionService
from megabroker.model import (
    CommittedOffset,
    ProducerIdentity,
    TopicPartition,
    TransactionDescription,
    TransactionMarker,
)

__all__ = ["RemoteTransactions"]

_log = Logger()

_ENDING_RETRY_MS = 10
_ENDING_LAST_RETRY_MS = 100
_ENDING_MS = 2000
_TOLD_MS = 5000
_EXPLAIN_RETRY_MS = 1000

_Outcomes = Mapping[TopicPartition, ErrorCode | None]
_Place = tuple[int, TopicPartition]


class _Question:
    """What the coordinator is asked about one producer and partition; satisfies ``Room``.

    Attributes:
        void: whether a marker has come since it was asked.
        retry_ms: how long to wait until it is asked again because the transaction before is being ended.
        waited_ms: how long that has been done.
        error: why the batch is refused, until that is told; then the question is forgotten.
    """

    __slots__ = (
        "error",
        "identity",
        "implicit",
        "over",
        "partition",
        "retry_ms",
        "rooms",
        "transactional_id",
        "void",
        "waited_ms",
    )

    def __init__(
        self,
        transactional_id: str,
        identity: ProducerIdentity,
        partition: TopicPartition,
        implicit: bool,
    ) -> None:
        self.transactional_id = transactional_id
        self.identity = identity
        self.partition = partition
        self.implicit = implicit
        self.void = False
        self.retry_ms = _ENDING_RETRY_MS
        self.waited_ms = 0
        self.error: BrokerError | None = None
        self.over = False
        self.rooms: list[Callable[[], None]] = []

    @property
    def place(self) -> _Place:
        """Whose it is, and where."""
        return self.identity.producer_id, self.partition

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back once when it is worth asking again; at once if it is by now."""
        if self.over:
            callback()
        else:
            self.rooms.append(callback)

    def end(self) -> None:
        """It is decided: let those who wait ask again."""
        self.over = True
        rooms, self.rooms = self.rooms, []
        for callback in rooms:
            try:
                callback()
            except Exception:  # noqa: BLE001 - one waiter's fault must not starve the others
                _log.failure("callback-failed", id=self.transactional_id)


@implementer(ITransactionService)
class RemoteTransactions:
    """Transactions that another process coordinates, as the leader of partitions sees them.

    Args:
        timers: for what is asked again.
        metadata: says which epoch markers carry.
        peers: reaches the coordinator.

    Attributes:
        coordinator_epoch: what markers made here carry; see ``coordinator_epoch``.
        marker_generation: see ``ITransactionService``.
    """

    def __init__(
        self,
        timers: TimerWheel,
        metadata: IMetadataStore,
        topics: ITopicService,
        producer_ids: ProducerIds,
        peers: ITransactionPeers,
    ) -> None:
        self.coordinator_epoch = 0
        self.marker_generation = 0
        self._timers = timers
        self._metadata = metadata
        self._topics = topics
        self._producer_ids = producer_ids
        self._peers = peers
        self._stopped = False
        self._confirmed: dict[_Place, int] = {}  # the epoch of the open transaction
        self._questions: dict[_Place, _Question] = {}
        self._unexplained: set[_Place] = set()  # what the coordinator has not been heard about

    # --- life of the service ----------------------------------------------------------------------

    def load(self) -> None:
        """Ask the coordinator about what is open in the logs here; call once, when topics are loaded.

        Raises:
            StorageError: the store cannot be read.
        """
        self.coordinator_epoch = coordinator_epoch(self._metadata)
        found = list(open_transactions(self._topics))
        self._unexplained = {(identity.producer_id, where) for where, identity in found}
        if found:
            self._explain(found)

    def stop(self) -> None:
        """Admit nothing any more; who waits is told to ask again."""
        self._stopped = True
        self._timers.stop()
        questions, self._questions = list(self._questions.values()), {}
        for question in questions:
            question.end()

    # --- batches ----------------------------------------------------------------------------------

    def admit(
        self, transactional_id: str, identity: ProducerIdentity, partition: TopicPartition, *, implicit: bool
    ) -> _Question | None:
        """See ``ITransactionService.admit``."""
        place = (identity[0], partition)
        if self._confirmed.get(place) == identity[1]:
            return None
        if self._stopped:
            raise refusal(ErrorCode.SHUTTING_DOWN)
        if place in self._unexplained:
            raise refusal(ErrorCode.CONCURRENT_TRANSACTIONS)
        question = self._questions.get(place)
        if question is not None and question.identity == identity:
            if question.error is None:
                return question
            del self._questions[place]
            raise question.error
        if question is not None:
            # Its producer was fenced by this one, or fences it; what it is told does not matter to this one.
            if question.error is None:
                raise refusal(ErrorCode.CONCURRENT_TRANSACTIONS)
            del self._questions[place]
        question = _Question(transactional_id, identity, partition, implicit)
        self._questions[place] = question
        self._ask(question)
        return question

    def _ask(self, question: _Question) -> None:
        question.void = False
        self._peers.add_partitions(
            question.transactional_id,
            question.identity,
            [question.partition],
            verify_only=not question.implicit,
        ).addCallbacks(
            self._answered,
            self._not_answered,
            callbackArgs=(question,),
            errbackArgs=(question,),
        ).addErrback(self._broken, question)

    def _answered(self, outcomes: _Outcomes, question: _Question) -> None:
        if self._questions.get(question.place) is not question:
            return
        code = outcomes[question.partition]
        if code is not None:
            self._refuse(question, refusal(code) if code in _WITH_SENTENCE else StateError(code))
        elif question.void:
            self._ask(question)
        else:
            del self._questions[question.place]
            self._confirmed[question.place] = question.identity.producer_epoch
            question.end()

    def _not_answered(self, failure: Failure, question: _Question) -> None:
        failure.trap(BrokerError)  # type: ignore[no-untyped-call]
        error: BrokerError = failure.value  # type: ignore[assignment]
        if self._questions.get(question.place) is not question:
            return
        being_ended = error.code is ErrorCode.CONCURRENT_TRANSACTIONS
        if question.implicit and being_ended and question.waited_ms < _ENDING_MS:
            self._timers.call_later(question.retry_ms, partial(self._ask_again, question))
            question.waited_ms += question.retry_ms
            question.retry_ms = min(2 * question.retry_ms, _ENDING_LAST_RETRY_MS)
        else:
            self._refuse(question, error)

    def _ask_again(self, question: _Question) -> None:
        if self._questions.get(question.place) is question:
            self._ask(question)

    def _broken(self, failure: Failure, question: _Question) -> None:
        _log.failure("could not ask for a transaction", failure=failure)
        if self._questions.get(question.place) is question:
            self._refuse(question, refusal(ErrorCode.CONCURRENT_TRANSACTIONS))

    def _refuse(self, question: _Question, error: BrokerError) -> None:
        """Have the next one who asks told why; if nobody does it is forgotten."""
        question.error = error
        self._timers.call_later(_TOLD_MS, partial(self._forget, question))
        question.end()

    def _forget(self, question: _Question) -> None:
        if self._questions.get(question.place) is question:
            del self._questions[question.place]

    # --- markers ----------------------------------------------------------------------------------

    def ending(self, partition: TopicPartition, producer_id: int) -> None:
        """See ``ITransactionService.ending``."""
        place = (producer_id, partition)
        self._confirmed.pop(place, None)
        self._unexplained.discard(place)
        question = self._questions.get(place)
        if question is not None:
            question.void = True

    def topic_deleted(self, topic: str) -> None:
        """Forget what was said of a topic's partitions; they get no markers."""
        for place in [place for place in self._confirmed if place[1].topic == topic]:
            del self._confirmed[place]

    def _explain(self, found: Sequence[OpenTransaction]) -> None:
        if not self._stopped:
            asked = self._peers.unexplained(found)
            asked.addCallbacks(self._explained, self._not_explained, errbackArgs=(found,))
            asked.addErrback(lambda failure: _log.failure("could not abort transactions", failure=failure))

    def _explained(self, unexplained: Sequence[OpenTransaction]) -> None:
        waiting, self._unexplained = self._unexplained, set()
        aborted = [one for one in unexplained if (one[1].producer_id, one[0]) in waiting]
        if aborted:
            _log.warn("aborting {count} transactions that no row explains", count=len(aborted))
        for where, identity in aborted:
            self._abort(where, identity)

    def _abort(self, where: TopicPartition, identity: ProducerIdentity) -> None:
        try:
            partition = self._topics.partition(*where)
            if identity in partition.open_transactions():
                marker = TransactionMarker(*identity, False, self.coordinator_epoch)
                partition.append_marker(marker, partial(_not_aborted, where))
        except BrokerError as error:
            _not_aborted(where, error)

    def _not_explained(self, failure: Failure, found: Sequence[OpenTransaction]) -> None:
        failure.trap(BrokerError)  # type: ignore[no-untyped-call]
        self._timers.call_later(_EXPLAIN_RETRY_MS, partial(self._explain, found))

    # --- what only the coordinator does -----------------------------------------------------------

    def init_producer(
        self, transactional_id: str | None, timeout_ms: int, known: ProducerIdentity | None
    ) -> Deferred[ProducerIdentity]:
        """See ``ITransactionService.init_producer``: identities without a transactional id only."""
        if transactional_id is not None:
            return _refused()
        return self._producer_ids.allocate().addCallback(lambda number: ProducerIdentity(number, 0))

    def add_partitions(
        self,
        transactional_id: str,
        identity: ProducerIdentity,
        partitions: Sequence[TopicPartition],
        *,
        verify_only: bool = False,
    ) -> Deferred[_Outcomes]:
        """Fail with NOT_COORDINATOR, as all that follow."""
        return _refused()

    def add_offsets(self, transactional_id: str, identity: ProducerIdentity, group_id: str) -> Deferred[None]:
        """Fail with NOT_COORDINATOR."""
        return _refused()

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
    ) -> Deferred[_Outcomes]:
        """Fail with NOT_COORDINATOR."""
        return _refused()

    def end(
        self, transactional_id: str, identity: ProducerIdentity, commit: bool, *, bump_epoch: bool
    ) -> Deferred[ProducerIdentity]:
        """Fail with NOT_COORDINATOR."""
        return _refused()

    def abort(self, transactional_id: str) -> Deferred[None]:
        """Fail with NOT_COORDINATOR."""
        return _refused()

    def unexplained(self, open_transactions: Sequence[OpenTransaction]) -> Sequence[OpenTransaction]:
        """Raise NOT_COORDINATOR."""
        raise _not_coordinator()

    def describe(self, transactional_id: str) -> TransactionDescription | None:
        """Nothing is known here."""
        return None

    def all(self) -> Sequence[TransactionDescription]:
        """Nothing is known here."""
        return ()


_WITH_SENTENCE = frozenset({ErrorCode.TRANSACTION_ABORTABLE, ErrorCode.INVALID_TXN_STATE})


def _not_aborted(where: TopicPartition, error: BrokerError | None) -> None:
    if error is not None:
        _log.error("transaction-marker-failed", partition=str(where), error=error.message)


def _not_coordinator() -> StateError:
    return StateError(
        ErrorCode.NOT_COORDINATOR, "another node coordinates this transactional id", retriable=True
    )


def _refused() -> Deferred[Any]:
    refused: Deferred[Any] = Deferred()
    refused.errback(_not_coordinator())
    return refused
