"""A partition that another process of this broker leads, for wires that serve all partitions.

Owns what is known of it here: how far it was when its leader last said so. Reading and appending go to the
leader (``remote_partitions``); nothing is known for certain, so ``look`` before what must not be missed.

*Reading.* ``read`` gives what has been fetched for it and else raises ``Cold``, and the caller asks again, as
with what lies on the disk. *Appending.* Batches leave in the order of the calls, over one connection; their
acknowledgements are the leader's.

Invariant: ``done`` is called once for every batch, in the order of the calls, and never within ``append``:
with None only when the leader has said that the batch is as durable as was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from megabroker.core.topic_configs import TopicPolicy
from megabroker.errors import BrokerError, ErrorCode, ProtocolError, RequestError, StateError
from megabroker.interfaces import IRemotePartition
from megabroker.model import (
    NO_TIMESTAMP,
    AbortedTransaction,
    Acks,
    BatchHeader,
    Buffer,
    FileRange,
    ProducerDescription,
    ProducerIdentity,
    TimestampedOffset,
    Topic,
    TopicPartition,
    TransactionMarker,
)
from megabroker.protocols.kafka.errors import error_for
from megabroker.protocols.kafka.peers import decode_answer, encode_request
from megabroker.protocols.kafka.schema import delete_records, list_offsets, produce
from megabroker.protocols.kafka.schema.look_at_partitions import Standing

if TYPE_CHECKING:
    from megabroker.protocols.kafka.remote_partitions import AllPartitions

__all__ = ["FetchedBatches", "RemotePartition"]

_log = Logger()

_PRODUCE: Final = 0
_PRODUCE_VERSION: Final = 13
_PRODUCE_SECONDS: Final = 30.0
_LIST_OFFSETS: Final = 2
_LIST_OFFSETS_VERSION: Final = 7
_DELETE_RECORDS: Final = 21
_DELETE_RECORDS_VERSION: Final = 2

Done = Callable[[BrokerError | None], None]
Stored = Callable[[int, BrokerError | None], None]


class FetchedBatches(NamedTuple):
    """A ``ReadResult`` with the aborted transactions in it."""

    data: Buffer | FileRange
    length: int
    aborted: Sequence[AbortedTransaction]


_NOTHING = FetchedBatches(b"", 0, ())


class _Log:
    """What can be said of the leader's log."""

    next_offset = 0
    size_bytes = 0


class _Sent:
    """A batch on its way, and who else waits for its being durable."""

    __slots__ = ("also", "done")

    def __init__(self, done: Done | None) -> None:
        self.done = done
        self.also: list[Done] = []

    def settled(self, base_offset: int, error: BrokerError | None) -> None:
        """Tell everybody."""
        for done in (self.done, *self.also):
            if done is not None:
                try:
                    done(error)
                except Exception:  # noqa: BLE001 - one waiter's fault must not starve the others
                    _log.failure("callback-failed")


@implementer(IRemotePartition)
class RemotePartition:
    """Partition ``index`` of ``topic``, led by the process ``node_id``.

    Attributes:
        topic: as it is known here; replaced when its configuration changes.
    """

    is_here = False
    append_time_ms = NO_TIMESTAMP
    codec = None
    fetched_bytes = 0

    def __init__(self, all_partitions: AllPartitions, topic: Topic, index: int, node_id: int) -> None:
        self.topic = topic
        self.index = index
        self.topic_partition = TopicPartition(topic.name, index)
        self.node_id = node_id
        self.start_offset = 0
        self.high_watermark = 0
        self.last_stable_offset = 0
        self.log: Any = _Log()
        self.watchers: dict[object, Callable[[], None]] = {}
        self._all = all_partitions
        self._lane = all_partitions.lane(node_id)
        self._latest: _Sent | None = None

    @property
    def leader_epoch(self) -> int:
        """The topic's."""
        return self.topic.leader_epoch

    @property
    def policy(self) -> TopicPolicy:
        """What the topic's configuration means."""
        return self._all.policy(self.topic)

    @property
    def needs_keys(self) -> bool:
        """Whether the topic is compacted."""
        return self.policy.log.compact

    def follow(self, standing: Standing) -> bool:
        """Take note of what the leader says; return whether readers may find more.

        Answers overtake each other, and no offset that readers have seen ever goes back.
        """
        moved = standing.high_watermark > self.high_watermark
        self.start_offset = max(self.start_offset, standing.start_offset)
        self.high_watermark = max(self.high_watermark, standing.high_watermark)
        self.last_stable_offset = max(self.last_stable_offset, standing.last_stable_offset)
        self.log.next_offset = max(standing.next_offset, self.high_watermark)
        self.log.size_bytes = standing.size_bytes
        return moved

    # --- appending --------------------------------------------------------------------------------

    def has_room(self, messages: int, size_bytes: int) -> bool:
        """Whether more may be on its way to the leader; it has its own queue behind that."""
        return self._lane.has_room

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back once when there is room."""
        self._lane.when_room(callback)

    def append(self, header: BatchHeader, data: bytearray | memoryview, acks: Acks, done: Done | None) -> int:
        """See ``IPartition``; the offset is not known, and what is acknowledged is durable in any case."""
        sent = self._latest = _Sent(done)
        self.send(header, data, Acks.DURABLE, sent.settled)
        return -1

    def when_durable(self, end_offset: int, done: Done) -> None:
        """Wait for the batch of the last ``append``."""
        assert self._latest is not None
        self._latest.also.append(done)

    def send(self, header: BatchHeader, data: bytearray | memoryview, acks: Acks, stored: Stored) -> None:
        """See ``IRemotePartition``."""
        request = produce.Request(
            acks=int(acks or Acks.WRITTEN),
            timeout_ms=int(_PRODUCE_SECONDS * 1000),
            topic_data=[
                produce.Request.Topic(
                    topic_id=self.topic.id.bytes,
                    partition_data=[produce.Request.Topic.Partition(index=self.index, records=data)],
                )
            ],
        )
        parts = encode_request(_PRODUCE, _PRODUCE_VERSION, request)
        self._lane.send(parts, _PRODUCE_SECONDS, partial(self._sent, header.record_count, stored))

    def _sent(
        self,
        count: int,
        stored: Stored,
        frame: memoryview | None,
        error: BrokerError | ProtocolError | None,
    ) -> None:
        base_offset = -1
        if frame is not None:
            try:
                base_offset, error = _outcome(decode_answer(_PRODUCE, _PRODUCE_VERSION, frame))
            except ProtocolError as caught:
                error = caught
        if error is None:
            self.log.next_offset = max(self.log.next_offset, base_offset + count)
            stored(base_offset, None)
        elif isinstance(error, BrokerError):
            stored(-1, error)
        else:
            _log.error("worker {node_id} answered wrongly: {error}", node_id=self.node_id, error=str(error))
            stored(-1, StateError(ErrorCode.UNREACHABLE, str(error), retriable=True))

    # --- reading ----------------------------------------------------------------------------------

    def read(self, offset: int, max_bytes: int, *, committed: bool = False, cached_only: bool = False) -> Any:
        """Return ``FetchedBatches``.

        Raises:
            Cold: they are being fetched; ask again then.
            BrokerError: as ``ILog.read``, or the leader did not answer.
        """
        found = self._all.take(self, offset, committed=committed)
        if isinstance(found, BrokerError):
            raise found
        if found is not None:
            return found
        if offset >= (self.last_stable_offset if committed else self.high_watermark):
            return _NOTHING
        raise self._all.fetch(self, offset, max_bytes, committed=committed)

    def look(self, looked: Done) -> None:
        """See ``IRemotePartition``."""
        self._all.look(self, looked)

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when the leader has told of more; return what ends that."""
        key = object()
        self.watch_as(key, callback)
        return partial(self.unwatch, key)

    def watch_as(self, key: object, callback: Callable[[], None]) -> None:
        """Do the same until ``unwatch(key)``."""
        self.watchers[key] = callback
        self._all.watch(self)

    def unwatch(self, key: object) -> None:
        """Watch no more."""
        self.watchers.pop(key, None)

    def tell_watchers(self) -> None:
        """Call back everybody who watches."""
        for key in list(self.watchers):
            callback = self.watchers.get(key)
            if callback is not None:
                try:
                    callback()
                except Exception:  # noqa: BLE001 - one watcher's fault must not starve the others
                    _log.failure("callback-failed", topic=self.topic.name)

    # --- asking ---------------------------------------------------------------------------------------

    def find(self, timestamp_ms: int) -> Deferred[TimestampedOffset | None]:
        """See ``IRemotePartition``."""
        topic = list_offsets.Request.Topic
        request = list_offsets.Request(
            replica_id=-1,
            topics=[
                topic(
                    name=self.topic.name,
                    partitions=[topic.Partition(partition_index=self.index, timestamp=timestamp_ms)],
                )
            ],
        )
        asked = self._all.peers.ask(self.node_id, _LIST_OFFSETS, _LIST_OFFSETS_VERSION, request)
        return asked.addCallback(_found)

    def delete_records_there(self, before_offset: int) -> Deferred[int]:
        """See ``IRemotePartition``."""
        topic = delete_records.Request.Topic
        request = delete_records.Request(
            topics=[
                topic(
                    name=self.topic.name,
                    partitions=[topic.Partition(partition_index=self.index, offset=before_offset)],
                )
            ]
        )
        asked = self._all.peers.ask(self.node_id, _DELETE_RECORDS, _DELETE_RECORDS_VERSION, request)
        return asked.addCallback(_low_watermark)

    # --- what only a leader does ------------------------------------------------------------------

    def aborted_transactions(self, from_offset: int, to_offset: int) -> Sequence[AbortedTransaction]:
        """Raise NOT_LEADER, as what follows: what is read has them with it."""
        raise self._not_leader()

    def append_marker(self, marker: TransactionMarker, done: Done) -> int:
        """Raise NOT_LEADER."""
        raise self._not_leader()

    def delete_records(self, before_offset: int) -> int:
        """Raise NOT_LEADER."""
        raise self._not_leader()

    def open_transactions(self) -> Sequence[ProducerIdentity]:
        """Raise NOT_LEADER."""
        raise self._not_leader()

    def remembers(self, producer_id: int) -> bool:
        """Raise NOT_LEADER."""
        raise self._not_leader()

    def is_repeat(self, header: BatchHeader) -> bool:
        """Raise NOT_LEADER."""
        raise self._not_leader()

    def describe_producers(self) -> Sequence[ProducerDescription]:
        """Raise NOT_LEADER."""
        raise self._not_leader()

    def describe_producer(self, producer_id: int) -> ProducerDescription | None:
        """Raise NOT_LEADER."""
        raise self._not_leader()

    def _not_leader(self) -> StateError:
        return StateError(
            ErrorCode.NOT_LEADER,
            f"node {self.node_id} leads partition {self.index} of {self.topic.name}",
            retriable=True,
        )


def _found(response: list_offsets.Response) -> TimestampedOffset | None:
    """Return the one offset. Raises BrokerError."""
    row = response.topics[0].partitions[0]
    if row.error_code:
        raise error_for(row.error_code, "")
    return None if row.offset < 0 else TimestampedOffset(row.offset, row.timestamp, row.leader_epoch)


def _low_watermark(response: delete_records.Response) -> int:
    """Return the first offset that is readable then. Raises BrokerError."""
    row = response.topics[0].partitions[0]
    if row.error_code:
        raise error_for(row.error_code, "")
    return row.low_watermark


def _outcome(response: produce.Response) -> tuple[int, BrokerError | None]:
    """Return the offset of the one batch, or why it is not stored. Raises ProtocolError."""
    if len(response.responses) != 1 or len(response.responses[0].partition_responses) != 1:
        raise ProtocolError("an answer to another Produce request")
    row = response.responses[0].partition_responses[0]
    if not row.error_code:
        return row.base_offset, None
    error = error_for(row.error_code, row.error_message or "")
    if error.code is ErrorCode.UNKNOWN_TOPIC_ID:
        error = RequestError(ErrorCode.UNKNOWN_TOPIC, error.message)
    return -1, error
