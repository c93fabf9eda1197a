"""Markers: how a decided transaction ends in each of its partitions.

Owns the retries. A partition that cannot take its marker now is asked again, ever more slowly, for as long as
the broker runs; one that is gone, or whose producer has moved on, needs none. Knows no transactional ids and
stores nothing: who was asked before a crash is asked again after it. Partitions that another process leads
are asked over ``ITransactionPeers``, which is away for a second when that process is started anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from twisted.logger import Logger

from megabroker.core.timers import TimerWheel
from megabroker.core.transactions.in_logs import open_transactions
from megabroker.errors import BrokerError, ErrorCode, PeerError
from megabroker.interfaces import ITopicService, ITransactionPeers
from megabroker.model import ProducerIdentity, TopicPartition, TransactionMarker

__all__ = ["MarkerRound", "Markers"]

_log = Logger()

_FIRST_RETRY_MS = 100
_LAST_RETRY_MS = 30_000
_LAST_RETRY_OF_PEERS_MS = 1000
_NEEDS_NONE = frozenset(
    {
        ErrorCode.UNKNOWN_TOPIC,
        ErrorCode.UNKNOWN_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.INVALID_PRODUCER_EPOCH,
    }
)


class MarkerRound:
    """One marker on its way to several partitions.

    Attributes:
        missing: the partitions that have not got it yet.
        struggling: whether some partition could not take it at the first attempt.
        struggled: called when that happens.
        again: those to be asked again when the next retry is due.
    """

    __slots__ = ("again", "done", "marker", "missing", "retry_ms", "struggled", "struggling")

    def __init__(
        self,
        marker: TransactionMarker,
        partitions: Iterable[TopicPartition],
        done: Callable[[], None],
        struggled: Callable[[], None],
    ) -> None:
        self.struggled = struggled
        self.marker = marker
        self.missing = set(partitions)
        self.again: set[TopicPartition] = set()
        self.done = done
        self.retry_ms = _FIRST_RETRY_MS
        self.struggling = False


class Markers:
    """Writes markers into partitions.

    Args:
        peers: reaches those that others lead; None when all are led here.

    Attributes:
        coordinator_epoch: what every marker made here carries.
    """

    def __init__(
        self, topics: ITopicService, timers: TimerWheel, peers: ITransactionPeers | None = None
    ) -> None:
        self._topics = topics
        self._peers = peers
        self._timers = timers
        self._stopped = False
        self.coordinator_epoch = 0

    def stop(self) -> None:
        """Begin nothing any more; markers already accepted still tell."""
        self._stopped = True

    def begin(
        self,
        marker: TransactionMarker,
        partitions: Iterable[TopicPartition],
        done: Callable[[], None],
        struggled: Callable[[], None],
    ) -> MarkerRound | None:
        """Write ``marker`` to every partition, then call ``done``, once and perhaps at once.

        Args:
            struggled: called once, not at once, if some partition does not take it at the first attempt.

        Returns:
            The round, for asking how it goes; None when stopped, and then ``done`` is never called.
        """
        if self._stopped:
            return None
        asked = MarkerRound(marker, partitions, done, struggled)
        for topic_partition in sorted(asked.missing):
            self._ask(asked, topic_partition)
        return asked

    def abort_unexplained(self, explained: Callable[[TopicPartition, ProducerIdentity], bool]) -> int:
        """Abort what is open in the logs here and part of no transaction; return how many."""
        found = 0
        for where, identity in open_transactions(self._topics):
            if not explained(where, identity):
                found += 1
                marker = TransactionMarker(*identity, False, self.coordinator_epoch)
                self.begin(marker, [where], _nothing, _nothing)
        return found

    def _ask(self, asked: MarkerRound, where: TopicPartition) -> None:
        if self._stopped:
            return
        try:
            self._topics.partition(*where).append_marker(asked.marker, partial(self._told, asked, where))
        except BrokerError as error:
            if error.code is ErrorCode.NOT_LEADER and self._peers is not None:
                self._peers.write_marker(asked.marker, where, partial(self._told, asked, where))
            else:
                self._told(asked, where, error)

    def _told(self, asked: MarkerRound, where: TopicPartition, error: BrokerError | None) -> None:
        if where not in asked.missing:
            return
        if error is None or (error.code in _NEEDS_NONE and not self._knows_better(where, error)):
            if error is not None:
                _log.info("transaction-marker-not-needed", partition=str(where), error=error.message)
            asked.missing.discard(where)
            if not asked.missing:
                asked.done()
        elif not self._stopped:
            if not asked.struggling:
                asked.struggling = True
                _log.error("transaction-marker-failed", partition=str(where), error=error.message)
                self._timers.call_later(0, asked.struggled)
            if not asked.again:
                last_ms = _LAST_RETRY_OF_PEERS_MS if isinstance(error, PeerError) else _LAST_RETRY_MS
                self._timers.call_later(min(asked.retry_ms, last_ms), partial(self._retry, asked))
                asked.retry_ms = min(2 * asked.retry_ms, _LAST_RETRY_MS)
            asked.again.add(where)

    def _knows_better(self, where: TopicPartition, error: BrokerError) -> bool:
        """Whether a partition that its leader does not know exists: another process may not have followed."""
        if self._peers is None or error.code is ErrorCode.INVALID_PRODUCER_EPOCH:
            return False
        topic = self._topics.get(where.topic)
        return topic is not None and 0 <= where.partition < topic.partitions

    def _retry(self, asked: MarkerRound) -> None:
        again, asked.again = asked.again, set()
        for where in sorted(again):
            self._ask(asked, where)


def _nothing() -> None:
    """Nobody waits for what a crash left behind."""
