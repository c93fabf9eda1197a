"""Transactions across processes: the coordinator asked by leaders, leaders asked by the coordinator.

Owns what is gathered into one request: the questions of a turn, and the markers for one process while it is
writing those before. So there is one request with markers under way per process, and its answer decides when
the next is sent: they share syncs however many transactions end.

*Generations.* A request with markers whose answer does not come may have been carried out, or may lie unread
in a socket. What it asks for is asked again under a higher generation, and the leader carries out nothing of
a lower one any more, so a marker never comes late and ends a transaction after its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from megabroker.errors import BrokerError, ErrorCode, PeerError
from megabroker.interfaces import IPeers, IPlacement, ITransactionPeers
from megabroker.model import ProducerIdentity, TopicPartition, TransactionMarker
from megabroker.protocols.kafka.schema import admit_transactions, end_transactions, explain_transactions
from megabroker.protocols.kafka.schema.told_error import error_of

__all__ = ["TransactionPeers"]

_log = Logger()

_ADMIT: Final = 1011
_END: Final = 1012
_EXPLAIN: Final = 1013
_ASK_SECONDS: Final = 5.0
_MARKERS_SECONDS: Final = 10.0
_MARKERS_AT_ONCE: Final = 5000
_EXPLAINED_AT_ONCE: Final = 10_000

_Done = Callable[[BrokerError | None], None]
_Outcomes = Mapping[TopicPartition, ErrorCode | None]
_Open = tuple[TopicPartition, ProducerIdentity]
_Whose = tuple[str, ProducerIdentity, bool]


class _Markers:
    """Markers for the partitions of one process."""

    def __init__(self, owner: TransactionPeers, node_id: int) -> None:
        self._owner = owner
        self._node_id = node_id
        self._waiting: list[tuple[TopicPartition, TransactionMarker, _Done]] = []
        self._under_way = False
        # Above that of the process before, unless the clock was set back; then the leader says so.
        self._generation = time.time_ns()

    def add(self, partition: TopicPartition, marker: TransactionMarker, done: _Done) -> None:
        """Have a marker written."""
        self._waiting.append((partition, marker, done))
        if not self._under_way:
            self._under_way = True
            self._owner.clock.callLater(0, self._send)

    def _send(self) -> None:
        taken = self._waiting[:_MARKERS_AT_ONCE]
        del self._waiting[:_MARKERS_AT_ONCE]
        request = end_transactions.Request(
            generation=self._generation,
            markers=[
                end_transactions.Request.Marker(
                    topic=partition.topic,
                    index=partition.partition,
                    producer_id=marker.producer_id,
                    producer_epoch=marker.producer_epoch,
                    committed=marker.commit,
                    coordinator_epoch=marker.coordinator_epoch,
                )
                for partition, marker, _ in taken
            ],
        )
        asked = self._owner.peers.ask(self._node_id, _END, 0, request, timeout_seconds=_MARKERS_SECONDS)
        asked.addCallback(self._outcomes, len(taken)).addErrback(self._lost, len(taken))
        asked.addCallback(self._tell, [done for _, _, done in taken])

    def _outcomes(self, response: end_transactions.Response, count: int) -> list[BrokerError | None]:
        if response.generation > self._generation:
            self._generation = response.generation
            raise PeerError(ErrorCode.UNREACHABLE, "markers of an older generation", sent=False)
        if len(response.outcomes) != count:
            raise ValueError(f"{len(response.outcomes)} outcomes of {count} markers")
        return [error_of(outcome.error) for outcome in response.outcomes]

    def _lost(self, failure: Failure, count: int) -> list[BrokerError | None]:
        self._generation += 1
        error = failure.value
        if not isinstance(error, BrokerError):
            _log.failure("worker {node_id} answered markers wrongly", failure, node_id=self._node_id)
            error = PeerError(ErrorCode.UNREACHABLE, str(error), sent=True)
        return [error] * count

    def _tell(self, outcomes: list[BrokerError | None], waiting: list[_Done]) -> None:
        self._under_way = bool(self._waiting)
        if self._under_way:
            self._owner.clock.callLater(0, self._send)
        for done, error in zip(waiting, outcomes, strict=True):
            try:
                done(error)
            except Exception:  # noqa: BLE001 - one transaction's fault must not hold up the others
                _log.failure("callback-failed")


@implementer(ITransactionPeers)
class TransactionPeers:
    """Asks the coordinator, and leaders on its behalf.

    Args:
        clock: the reactor.
    """

    def __init__(self, clock: IReactorTime, peers: IPeers, placement: IPlacement) -> None:
        self.clock = clock
        self.peers = peers
        self._placement = placement
        self._asking: dict[_Whose, dict[TopicPartition, list[Deferred[_Outcomes]]]] = {}
        self._markers: dict[int, _Markers] = {}

    # --- a leader asks the coordinator ------------------------------------------------------------

    def add_partitions(
        self,
        transactional_id: str,
        identity: ProducerIdentity,
        partitions: Sequence[TopicPartition],
        *,
        verify_only: bool,
    ) -> Deferred[_Outcomes]:
        """See ``ITransactionPeers.add_partitions``; what is asked in one turn is one request."""
        if not self._asking:
            self.clock.callLater(0, self._send)
        places = self._asking.setdefault((transactional_id, identity, verify_only), {})
        done: Deferred[_Outcomes] = Deferred()
        for partition in partitions:
            places.setdefault(partition, [])
        places[partitions[0]].append(done)
        return done

    def _send(self) -> None:
        asking, self._asking = self._asking, {}
        by_node: dict[int, list[_Whose]] = {}
        for whose in asking:
            by_node.setdefault(self._placement.coordinator(whose[0]).id, []).append(whose)
        for node_id, those in by_node.items():
            request = admit_transactions.Request(
                transactions=[_transaction(whose, asking[whose]) for whose in those]
            )
            asked = self.peers.ask(node_id, _ADMIT, 0, request, timeout_seconds=_ASK_SECONDS, repeat=True)
            waiting = [asking[whose] for whose in those]
            asked.addCallback(_admitted, waiting).addErrback(_not_admitted, waiting)

    def unexplained(self, open_transactions: Sequence[_Open]) -> Deferred[Sequence[_Open]]:
        """See ``ITransactionPeers.unexplained``."""
        return Deferred.fromCoroutine(self._unexplained(open_transactions))

    async def _unexplained(self, open_transactions: Sequence[_Open]) -> Sequence[_Open]:
        coordinator = self._placement.coordinator("").id
        found: list[_Open] = []
        for begin in range(0, len(open_transactions), _EXPLAINED_AT_ONCE):
            request = explain_transactions.Request(
                transactions=[
                    explain_transactions.OpenTransaction(
                        topic=where.topic,
                        index=where.partition,
                        producer_id=identity.producer_id,
                        producer_epoch=identity.producer_epoch,
                    )
                    for where, identity in open_transactions[begin : begin + _EXPLAINED_AT_ONCE]
                ]
            )
            response = await self.peers.ask(coordinator, _EXPLAIN, 0, request, repeat=True)
            error = error_of(response.error)
            if error is not None:
                raise error
            found += [
                (
                    TopicPartition(one.topic, one.index),
                    ProducerIdentity(one.producer_id, one.producer_epoch),
                )
                for one in response.unexplained
            ]
        return found

    # --- the coordinator asks leaders -------------------------------------------------------------

    def write_marker(self, marker: TransactionMarker, partition: TopicPartition, done: _Done) -> None:
        """See ``ITransactionPeers.write_marker``."""
        node_id = self._placement.leader(partition).id
        markers = self._markers.get(node_id)
        if markers is None:
            markers = self._markers[node_id] = _Markers(self, node_id)
        markers.add(partition, marker, done)


def _transaction(
    whose: _Whose, places: Mapping[TopicPartition, Any]
) -> admit_transactions.Request.Transaction:
    transactional_id, identity, verify_only = whose
    return admit_transactions.Request.Transaction(
        transactional_id=transactional_id,
        producer_id=identity.producer_id,
        producer_epoch=identity.producer_epoch,
        verify_only=verify_only,
        partitions=[
            admit_transactions.Request.Transaction.Partition(topic=one.topic, index=one.partition)
            for one in places
        ],
    )


_Waiting = list[dict[TopicPartition, list[Deferred[_Outcomes]]]]


def _admitted(response: admit_transactions.Response, waiting: _Waiting) -> None:
    for found, places in zip(response.transactions, waiting, strict=True):
        if found.error is not None:
            for one in places.values():
                for done in one:
                    error = error_of(found.error)
                    assert error is not None
                    done.errback(error)
            continue
        outcomes = {
            where: ErrorCode(one.code) if one.code else None
            for where, one in zip(places, found.partitions, strict=True)
        }
        for one in places.values():
            for done in one:
                done.callback(outcomes)


def _not_admitted(failure: Failure, waiting: _Waiting) -> None:
    for places in waiting:
        for one in places.values():
            for done in one:
                if not done.called:
                    done.errback(failure.value)
