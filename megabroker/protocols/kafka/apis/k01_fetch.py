"""Fetch (1): read record batches.

**Behaviour.** Whole batches as they were stored, from the one that holds the wanted offset; files are
sent from the page cache by sendfile. At least one batch is returned, whatever the limits, if any partition
has data; the limits hold for all that comes after it, and the last batch of a partition may be cut off by
them. With less than ``min_bytes`` the request waits for its partitions to grow, at most ``max_wait_ms``;
an error in any partition is told at once. What lies on the disk and not in memory is read by another thread;
the answer leaves it out if others have enough, else waits for it. A consumer that reads only what is
committed gets what lies below the last stable offset, and the list of aborted transactions in it, whose
records it leaves out itself. From the second request of a session on, answers leave out the partitions with
nothing new (KIP-227). A client that has read more than its quota allows gets an answer without partitions
that says how long to wait, as from Apache Kafka; the session goes on as if it had not asked. What counts are
the bytes of records.

**Version notes.** 4 adds the isolation level, 5 the log start offset, 7 sessions, 9 the leader epoch to
check, 12 is flexible, 13 names topics by id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from megabroker.errors import BrokerError, Cold, ErrorCode, RequestError
from megabroker.interfaces import IPartition
from megabroker.model import ReadResult
from megabroker.net.connection import Answer
from megabroker.protocols.kafka.answers import encode_answer
from megabroker.protocols.kafka.errors import kafka_error
from megabroker.protocols.kafka.fetch_sessions import (
    FetchSession,
    SessionRefused,
    Wanted,
)
from megabroker.protocols.kafka.leaders import check_leader_epoch
from megabroker.protocols.kafka.metering import Metered, records_bytes
from megabroker.protocols.kafka.schema import fetch

if TYPE_CHECKING:
    from megabroker.core.timers import TimerHandle
    from megabroker.protocols.kafka.protocol import KafkaConnection

__all__ = ["FetchAnswer", "receive"]

_KEY = 1
_READ_COMMITTED = 1
_ABSENT = (ErrorCode.UNKNOWN_TOPIC, ErrorCode.UNKNOWN_PARTITION, ErrorCode.UNKNOWN_TOPIC_ID)

_Topic = fetch.Response.Topic
_Partition = fetch.Response.Topic.Partition
_Aborted = fetch.Response.Topic.Partition.AbortedTransaction


def receive(
    connection: KafkaConnection,
    request: fetch.Request,
    version: int,
    correlation_id: int,
    size_bytes: int,
    metered: Metered | None = None,
) -> None:
    """Take one Fetch request and answer it now or when there is enough to read."""
    try:
        wanted, session = connection.factory.fetch_sessions.take(request, version)
    except SessionRefused as refused:
        response = fetch.Response(error_code=refused.error)
        if metered is not None:
            response.throttle_time_ms = metered.settle()
        connection.answer(encode_answer(response, _KEY, version, correlation_id))
        return
    answer = FetchAnswer(connection, request, version, correlation_id, size_bytes, wanted, session, metered)
    connection.add_slot(answer)
    answer.begin()


class FetchAnswer(Answer):
    """A fetch, possibly waiting; holds what it must give back when it is answered or given up."""

    __slots__ = (
        "_cancels",
        "_correlation_id",
        "_metered",
        "_min_bytes",
        "_request",
        "_session",
        "_timer",
        "_version",
        "_wanted",
    )

    def __init__(
        self,
        connection: KafkaConnection,
        request: fetch.Request,
        version: int,
        correlation_id: int,
        size_bytes: int,
        wanted: Sequence[Wanted],
        session: FetchSession | None,
        metered: Metered | None,
    ) -> None:
        super().__init__(connection, size_bytes)
        self._wanted = wanted
        self._session = session
        self._request = request
        self._metered = metered
        self._min_bytes = request.min_bytes
        if metered is not None:
            self._min_bytes = min(request.min_bytes, metered.meter.fetch_bytes)
        self._version = version
        self._correlation_id = correlation_id
        self._cancels: list[Callable[[], None]] = []
        self._timer: TimerHandle | None = None

    connection: KafkaConnection

    def begin(self) -> None:
        """Answer at once if there is reason to, else wait."""
        request = self._request
        rows, size, failed, cold = self._read()
        if cold is not None and size < self._min_bytes and not failed:
            if self._metered is not None:
                self._metered.pause()
            self.connection.fetches.add(self)
            cold.when_room(self._warmed)
            return
        wait_ms = min(request.max_wait_ms, self.connection.factory.settings.max_fetch_wait_ms)
        if failed or size >= self._min_bytes or wait_ms <= 0 or not rows:
            self._answer(rows)
            return
        if self._metered is not None:
            self._metered.pause()
        self._timer = self.connection.factory.timers.call_later(wait_ms, self.expire)
        self.connection.fetches.add(self)
        for one in self._wanted:
            self._cancels.append(self._find(one).watch(self._grown))

    def _warmed(self) -> None:
        """What was being read is in memory."""
        if self.parts is None and not self.connection.closed:
            self.connection.fetches.discard(self)
            if self._metered is not None:
                self._metered.resume()
            self.begin()

    def _grown(self) -> None:
        """One of the partitions has more, or is gone."""
        if self._metered is not None:
            self._metered.resume()
        rows, size, failed, _ = self._read()
        if failed or size >= self._min_bytes:
            self.cancel()
            self._answer(rows)
        elif self._metered is not None:
            self._metered.pause()

    def expire(self) -> None:
        """The wait is over: answer with what there is."""
        self.cancel()
        if self._metered is not None:
            self._metered.resume()
        self._answer(self._read()[0])

    def cancel(self) -> None:
        """Stop waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.connection.fetches.discard(self)
        cancels, self._cancels = self._cancels, []
        for cancel in cancels:
            cancel()

    def _answer(self, rows: Sequence[_Partition]) -> None:
        session = self._session
        if self._metered is not None and self._throttle(self._metered, rows):
            return
        response = fetch.Response(session_id=0 if session is None else session.id)
        topic: _Topic | None = None
        for one, row in zip(self._wanted, rows, strict=True):
            if session is not None and not session.tell(one, row):
                continue
            if topic is None or topic.topic != one.topic or topic.topic_id != one.topic_id:
                topic = _Topic(topic=one.topic, topic_id=one.topic_id)
                response.responses.append(topic)
            topic.partitions.append(row)
        self.fill(encode_answer(response, _KEY, self._version, self._correlation_id))

    def _throttle(self, metered: Metered, rows: Sequence[_Partition]) -> bool:
        """Count what was read; answer with nothing of it, if the client has to wait."""
        size = records_bytes(rows)
        throttle_ms = metered.settle(metered.meter.may_consume(size))
        if not throttle_ms:
            return False
        response = fetch.Response(throttle_time_ms=throttle_ms)
        if self._session is not None:
            if self._request.session_epoch:
                response.session_id = self._session.id
            else:
                # Clients take no session from an answer without partitions.
                self.connection.factory.fetch_sessions.end(self._session)
        self.fill(encode_answer(response, _KEY, self._version, self._correlation_id))
        return True

    def _find(self, wanted: Wanted) -> IPartition:
        topics = self.connection.broker.topics
        name = wanted.topic
        if self._version >= 13:
            found = topics.get_by_id(UUID(bytes=wanted.topic_id))
            if found is None:
                raise RequestError(ErrorCode.UNKNOWN_TOPIC_ID)
            name = found.name
        return topics.partition(name, wanted.partition.partition)

    def _read(self) -> tuple[list[_Partition], int, bool, Cold | None]:
        """Read all partitions wanted.

        Returns:
            A row for each, the bytes of records, whether any failed, and the first that is being read.
        """
        request = self._request
        committed = request.isolation_level == _READ_COMMITTED
        room = min(max(request.max_bytes, 0), self.connection.factory.settings.max_fetch_bytes)
        if self._metered is not None:
            room = min(room, self._metered.meter.fetch_bytes)
        total = 0
        failed = False
        first_cold: Cold | None = None
        rows: list[_Partition] = []
        for one in self._wanted:
            wanted = one.partition
            row = _Partition(
                partition_index=wanted.partition,
                high_watermark=-1,
                records=b"",
                aborted_transactions=[] if committed else None,
            )
            rows.append(row)
            try:
                partition = self._find(one)
                check_leader_epoch(partition, wanted.current_leader_epoch)
                row.high_watermark = partition.high_watermark
                row.last_stable_offset = partition.last_stable_offset
                row.log_start_offset = partition.start_offset
                limit = min(room - total, max(wanted.partition_max_bytes, 0))
                if total and limit <= 0:
                    continue
                found = partition.read(wanted.fetch_offset, limit, committed=committed, cached_only=True)
                if found.length and (found.length <= limit or not total):
                    if committed:
                        row.aborted_transactions = _aborted(partition, wanted.fetch_offset, found)
                    row.records = found.data
                    total += found.length
            except Cold as cold:
                first_cold = first_cold or cold
            except BrokerError as error:
                row = rows[-1] = _failed(wanted.partition, error)
                failed = True
        return rows, total, failed, first_cold


def _failed(index: int, error: BrokerError) -> _Partition:
    """Return the row of a partition that cannot be read; as Kafka's, it tells nothing else.

    The list of aborted transactions is empty for what does not exist and null otherwise, as Kafka's is.
    """
    row = _Partition(partition_index=index, high_watermark=-1, records=b"", error_code=kafka_error(error))
    if error.code not in _ABSENT:
        row.aborted_transactions = None
    return row


def _aborted(partition: IPartition, fetch_offset: int, found: ReadResult) -> list[_Aborted]:
    """Return the aborted transactions with records in what was read."""
    end_offset = min(partition.log.end_of(found, cached_only=True), partition.last_stable_offset)
    return [
        _Aborted(producer_id=one.producer_id, first_offset=one.first_offset)
        for one in partition.aborted_transactions(fetch_offset, end_offset)
    ]
