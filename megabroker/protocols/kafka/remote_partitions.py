"""All partitions of a broker of several processes, wherever they are led; see ``IPartitions``.

Owns the partitions that others lead, as far as somebody has asked for them; what has been fetched of them and
not been taken, within one bound for all; and one question per leader that is answered when one of the
partitions watched is further than known.

Invariant: who waits for a fetch or a look is called back once, within ``_ASK_SECONDS``; watchers are told of
whatever they may have missed when a leader is back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from megabroker.core.topic_configs import TopicPolicy
from megabroker.errors import BrokerError, Cold, ErrorCode, RequestError, StateError
from megabroker.interfaces import IPartition, IPartitions, IPlacement, ITopicService
from megabroker.model import AbortedTransaction, Topic, TopicPartition
from megabroker.protocols.kafka.peer_lane import Lane
from megabroker.protocols.kafka.peers import Peers
from megabroker.protocols.kafka.remote_partition import FetchedBatches, RemotePartition
from megabroker.protocols.kafka.schema import look_at_partitions, read_partition
from megabroker.protocols.kafka.schema.told_error import error_of

__all__ = ["AllPartitions"]

_log = Logger()

_LOOK: Final = 1010
_READ: Final = 1014
_NO_OFFSET: Final = -1
_ASK_SECONDS: Final = 10.0
_WATCH_MS: Final = 1000
_RETRY_SECONDS: Final = 0.2
_FETCHED_BYTES: Final = 64 << 20
_ENTRY_BYTES: Final = 200
_STALE_SECONDS: Final = 5.0

_Key = tuple[RemotePartition, int, bool]
_Fetched = tuple[FetchedBatches | BrokerError, float]


class _Watching:
    """The question to one leader: are these further by now?"""

    def __init__(self, owner: AllPartitions, node_id: int) -> None:
        self._owner = owner
        self._node_id = node_id
        self._partitions: dict[RemotePartition, None] = {}
        self._asked: Deferred[Any] | None = None
        self._due: IDelayedCall | None = None
        self._was_lost = False
        self._stopped = False

    def add(self, partition: RemotePartition) -> None:
        """Watch a partition too, until nobody watches it."""
        if partition in self._partitions:
            return
        self._partitions[partition] = None
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.cancel()
        self._ask_soon(0)

    def stop(self) -> None:
        """Ask no more."""
        self._stopped = True
        if self._asked is not None:
            self._asked.cancel()
        if self._due is not None:
            self._due.cancel()

    def _ask_soon(self, seconds: float) -> None:
        if self._due is None and not self._stopped:
            self._due = self._owner.clock.callLater(seconds, self._ask)

    def _ask(self) -> None:
        self._due = None
        for partition in [one for one in self._partitions if not one.watchers]:
            del self._partitions[partition]
        watched = list(self._partitions)
        if not watched or self._asked is not None:
            return
        request = look_at_partitions.Request(
            wait_ms=_WATCH_MS,
            partitions=[
                look_at_partitions.Request.Partition(
                    topic=one.topic.name,
                    topic_id=one.topic.id.bytes,
                    index=one.index,
                    known_offset=one.high_watermark,
                )
                for one in watched
            ],
        )
        asked = self._owner.peers.ask(self._node_id, _LOOK, 0, request, timeout_seconds=_ASK_SECONDS)
        self._asked = asked
        asked.addCallbacks(self._told, self._lost, callbackArgs=(watched,))
        asked.addErrback(lambda failure: _log.failure("watching-failed", failure=failure))

    def _told(self, response: look_at_partitions.Response, watched: list[RemotePartition]) -> None:
        self._asked = None
        was_lost, self._was_lost = self._was_lost, False
        failed = False
        for one, standing in zip(watched, response.partitions, strict=True):
            if standing.error is not None:
                failed = True
                if standing.error.code == ErrorCode.UNKNOWN_TOPIC.value:
                    self._partitions.pop(one, None)
                    one.tell_watchers()
            elif one.follow(standing) or was_lost:
                one.tell_watchers()
        self._ask_soon(_RETRY_SECONDS if failed else 0)

    def _lost(self, failure: Failure) -> None:
        if failure.check(CancelledError):  # type: ignore[no-untyped-call]
            return
        self._asked = None
        self._was_lost = True
        self._ask_soon(_RETRY_SECONDS)


@implementer(IPartitions)
class AllPartitions:
    """Partitions led here and elsewhere.

    Args:
        clock: the reactor.
    """

    def __init__(
        self, clock: IReactorTime, topics: ITopicService, placement: IPlacement, peers: Peers
    ) -> None:
        self.clock = clock
        self.peers = peers
        self._topics = topics
        self._placement = placement
        self._remote: dict[tuple[str, int], RemotePartition] = {}
        self._fetched: OrderedDict[_Key, _Fetched] = OrderedDict()
        self._fetched_bytes = 0
        self._fetching: dict[_Key, list[Cold]] = {}
        self._watching: dict[int, _Watching] = {}
        self._policies: dict[str, tuple[Topic, TopicPolicy]] = {}

    def partition(self, topic: str, index: int) -> IPartition:
        """See ``IPartitions``."""
        try:
            return self._topics.partition(topic, index)
        except StateError as error:
            if error.code is not ErrorCode.NOT_LEADER:
                raise
        known = self._topics.get(topic)
        if known is None:
            raise RequestError(ErrorCode.UNKNOWN_TOPIC, f"there is no topic {topic}")
        found = self._remote.get((topic, index))
        if found is None or found.topic.id != known.id:
            node_id = self._placement.leader(TopicPartition(topic, index)).id
            found = self._remote[topic, index] = RemotePartition(self, known, index, node_id)
        found.topic = known
        return found

    def topic_deleted(self, name: str) -> None:
        """Forget a topic's partitions; whoever reads them is told to look."""
        self._policies.pop(name, None)
        for key in [key for key in self._remote if key[0] == name]:
            self._remote.pop(key).tell_watchers()

    def stop(self) -> None:
        """Watch nothing any more."""
        for watching in self._watching.values():
            watching.stop()

    # --- for the partitions -----------------------------------------------------------------------

    def lane(self, node_id: int) -> Lane:
        """Return the connection for batches to a leader."""
        return self.peers.lane(node_id)

    def policy(self, topic: Topic) -> TopicPolicy:
        """Return what a topic's configuration means."""
        known = self._policies.get(topic.name)
        if known is None or known[0] is not topic:
            known = self._policies[topic.name] = (topic, self._topics.configs.policy(topic.configs))
        return known[1]

    def watch(self, partition: RemotePartition) -> None:
        """Have the leader asked whether a partition is further."""
        watching = self._watching.get(partition.node_id)
        if watching is None:
            watching = self._watching[partition.node_id] = _Watching(self, partition.node_id)
        watching.add(partition)

    def look(self, partition: RemotePartition, looked: Callable[[BrokerError | None], None]) -> None:
        """Ask how far a partition is."""
        self._read(partition, _NO_OFFSET, 0, committed=False).addCallbacks(
            lambda response: error_of(response.standing.error), _error
        ).addCallback(looked).addErrback(_log_failure)

    def fetch(self, partition: RemotePartition, offset: int, max_bytes: int, *, committed: bool) -> Cold:
        """Have batches fetched; return what to wait for."""
        cold = Cold()
        key = (partition, offset, committed)
        waiting = self._fetching.get(key)
        if waiting is not None:
            waiting.append(cold)
            return cold
        self._fetching[key] = [cold]
        asked = self._read(partition, offset, max_bytes, committed=committed)
        asked.addCallbacks(_batches, _error).addCallback(partial(self._keep, key)).addErrback(_log_failure)
        return cold

    def take(
        self, partition: RemotePartition, offset: int, *, committed: bool
    ) -> FetchedBatches | BrokerError | None:
        """Return, once, what has been fetched."""
        kept = self._fetched.pop((partition, offset, committed), None)
        if kept is None:
            return None
        found, time = kept
        size = _size(found)
        self._fetched_bytes -= size
        if size == _ENTRY_BYTES and self.clock.seconds() - time > _STALE_SECONDS:
            return None
        return found

    def _read(
        self, partition: RemotePartition, offset: int, max_bytes: int, *, committed: bool
    ) -> Deferred[read_partition.Response]:
        request = read_partition.Request(
            topic=partition.topic.name,
            topic_id=partition.topic.id.bytes,
            index=partition.index,
            offset=offset,
            max_bytes=max_bytes,
            committed=committed,
        )
        asked = self.peers.ask(
            partition.node_id, _READ, 0, request, timeout_seconds=_ASK_SECONDS, repeat=True
        )

        def follow(response: read_partition.Response) -> read_partition.Response:
            if response.standing.error is None and partition.follow(response.standing):
                self.clock.callLater(0, partition.tell_watchers)
            return response

        return asked.addCallback(follow)

    def _keep(self, key: _Key, found: FetchedBatches | BrokerError) -> None:
        self._fetched[key] = (found, self.clock.seconds())
        self._fetched_bytes += _size(found)
        while self._fetched_bytes > _FETCHED_BYTES and len(self._fetched) > 1:
            _, (oldest, _) = self._fetched.popitem(last=False)
            self._fetched_bytes -= _size(oldest)
        for cold in self._fetching.pop(key):
            for callback in cold.over():
                try:
                    callback()
                except Exception:  # noqa: BLE001 - one reader's fault must not starve the others
                    _log.failure("callback-failed")


def _size(found: FetchedBatches | BrokerError) -> int:
    return _ENTRY_BYTES if isinstance(found, BrokerError) else found.length + _ENTRY_BYTES


def _batches(response: read_partition.Response) -> FetchedBatches | BrokerError:
    error = error_of(response.error)
    if error is not None:
        return error
    data: Any = response.records or b""
    aborted = [
        AbortedTransaction(one.producer_id, one.first_offset, one.last_offset, one.last_stable_offset)
        for one in response.aborted
    ]
    return FetchedBatches(data, len(data), aborted)


def _error(failure: Failure) -> BrokerError:
    if isinstance(failure.value, BrokerError):
        return failure.value
    _log.failure("reading-elsewhere-failed", failure=failure)
    return StateError(ErrorCode.UNREACHABLE, failure.getErrorMessage(), retriable=True)


def _log_failure(failure: Failure) -> None:
    _log.failure("reading-elsewhere-failed", failure=failure)
