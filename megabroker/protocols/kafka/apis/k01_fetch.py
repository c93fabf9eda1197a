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

from collections.abc import Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING
from uuid import UUID

from megabroker.access import Operation, ResourceType
from megabroker.errors import BrokerError, Cold, ErrorCode, RequestError
from megabroker.interfaces import IPartition
from megabroker.model import NO_LEADER_EPOCH, ReadResult
from megabroker.net.asked import Asked
from megabroker.net.wire import Answer
from megabroker.protocols.kafka.access.refusals import not_allowed
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
_FIRST_BY_ID = 13
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
    """A fetch, possibly waiting; holds what it must give back when it is answered or given up.

    Of the partitions it watches while it waits, those that grow are read again. It knows how much each had,
    and holds no records: whoever asks for more than there is could have any number of fetches wait.
    """

    __slots__ = (
        "_asked",
        "_began",
        "_cold",
        "_committed",
        "_correlation_id",
        "_failed",
        "_found",
        "_left",
        "_metered",
        "_min_bytes",
        "_request",
        "_rows",
        "_session",
        "_size",
        "_timer",
        "_version",
        "_wanted",
        "_watched",
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
        self._began = connection._offered_since or connection.turns.began or monotonic()
        noted = connection.counts.notes is not None
        self._asked = Asked(connection, "Fetch", version, size_bytes, self._began) if noted else None
        self._found: list[IPartition | None] = []
        self._wanted = wanted
        self._session = session
        self._request = request
        self._metered = metered
        self._min_bytes = request.min_bytes
        if metered is not None:
            self._min_bytes = min(request.min_bytes, metered.meter.fetch_bytes)
        self._version = version
        self._correlation_id = correlation_id
        self._committed = request.isolation_level == _READ_COMMITTED
        self._rows: list[_Partition | None] = []
        self._size = 0
        self._left: dict[int, int] = {}  # bytes of records to be read again, by place
        self._failed = False
        self._cold: Cold | None = None
        self._watched: list[IPartition] = []
        self._timer: TimerHandle | None = None

    connection: KafkaConnection

    def begin(self) -> None:
        """Answer at once if there is reason to, else wait."""
        request = self._request
        partitions = self._read()
        cold = self._cold
        if cold is not None and self._size < self._min_bytes and not self._failed:
            if self._metered is not None:
                self._metered.pause()
            self.connection.fetches[self] = None
            self._leave_all()
            if self._asked is not None:
                self._asked.waits()
            cold.when_room(self._warmed)
            return
        wait_ms = min(request.max_wait_ms, self.connection.factory.settings.max_fetch_wait_ms)
        if self._failed or self._size >= self._min_bytes or wait_ms <= 0 or not partitions:
            self._answer()
            return
        if self._metered is not None:
            self._metered.pause()
        self._timer = self.connection.factory.timers.call_later(wait_ms, self.expire)
        self.connection.fetches[self] = None
        self._watched = partitions
        self._leave_all()
        if self._asked is not None:
            self._asked.waits()
        for place, partition in enumerate(partitions):
            partition.watch_as(self, partial(self._grown, place))

    def _leave_all(self) -> None:
        if self._size:
            for place in range(len(self._rows)):
                self._leave(place)

    def _leave(self, place: int) -> None:
        """Hold nothing of what was read of a partition until the answer is due."""
        row = self._rows[place]
        if row is not None and row.records:
            self._left[place] = records_bytes((row,))
            row.records = b""

    def _warmed(self) -> None:
        """What was being read is in memory."""
        if self.parts is None and not self.connection.closed:
            self.connection.fetches.pop(self, None)
            if self._metered is not None:
                self._metered.resume()
            self.begin()

    def _grown(self, place: int) -> None:
        """One of the partitions has more, or is gone."""
        if self._metered is not None:
            self._metered.resume()
        self._size -= self._left.pop(place, 0)
        self._read_again(place)
        if self._failed or self._size >= self._min_bytes:
            self.cancel()
            self._answer()
            return
        self._leave(place)
        if self._metered is not None:
            self._metered.pause()

    def _read_again(self, place: int) -> None:
        one = self._wanted[place]
        try:
            # What lies on the disk only is left out: the client comes for it, and waits then.
            self._rows[place] = self._row(self._find(one), one.partition, self._room())
        except BrokerError as error:
            self._rows[place] = _failed(one.partition.partition, error)
            self._failed = True

    def expire(self) -> None:
        """The wait is over: answer with what there is."""
        self.cancel()
        if self._metered is not None:
            self._metered.resume()
        self._answer()

    def cancel(self) -> None:
        """Stop waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.connection.fetches.pop(self, None)
        watched, self._watched = self._watched, []
        for partition in watched:
            partition.unwatch(self)

    def _answer(self) -> None:
        session = self._session
        if self._left:
            self._size -= sum(self._left.values())
            for place in sorted(self._left):
                self._read_again(place)
            self._left = {}
        if self._metered is not None and self._throttle(self._metered):
            return
        response = fetch.Response(session_id=0 if session is None else session.id)
        topic: _Topic | None = None
        for one, row in zip(self._wanted, self._rows, strict=True):
            if row is None or (session is not None and not session.tell(one, row)):
                continue
            if topic is None or topic.topic != one.topic or topic.topic_id != one.topic_id:
                topic = _Topic(topic=one.topic, topic_id=one.topic_id)
                response.responses.append(topic)
            topic.partitions.append(row)
        found = self._found
        if len(found) == 1 and found[0] is not None:
            found[0].fetched_bytes += self._size
        elif self._size:
            self._count()
        self._rows = []
        parts = encode_answer(response, _KEY, self._version, self._correlation_id)
        self.fill(parts)
        turns, fetched = self.connection.turns, self.connection.factory.fetched
        if turns.since == self._began and turns.kind is fetched:
            turns.alike += 1
        else:
            turns.answered(fetched, self._began)
        if self._asked is not None:
            self._asked.note(parts)

    def _throttle(self, metered: Metered) -> bool:
        """Count what was read; answer with nothing of it, if the client has to wait."""
        throttle_ms = metered.settle(metered.meter.may_consume(self._size))
        if not throttle_ms:
            return False
        response = fetch.Response(throttle_time_ms=throttle_ms)
        if self._session is not None:
            if self._request.session_epoch:
                response.session_id = self._session.id
            else:
                # Clients take no session from an answer without partitions.
                self.connection.factory.fetch_sessions.end(self._session)
        parts = encode_answer(response, _KEY, self._version, self._correlation_id)
        self.fill(parts)
        self.connection.turns.answered(self.connection.factory.fetched, self._began)
        if self._asked is not None:
            self._asked.note(parts)
        return True

    def _count(self) -> None:
        """Count what is fetched of each partition."""
        for row, partition in zip(self._rows, self._found, strict=True):
            if row is not None and row.records and partition is not None:
                partition.fetched_bytes += records_bytes((row,))

    def _find(self, wanted: Wanted) -> IPartition:
        return self.connection.broker.topics.partition(self._name(wanted), wanted.partition.partition)

    def _name(self, wanted: Wanted, *, quiet: bool = False) -> str:
        """Return the name of a topic that may be read. Raises RequestError."""
        rules = self.connection.broker.authorizer.enabled
        if self._version < _FIRST_BY_ID:
            if rules:
                self._check(wanted.topic, quiet)
            return wanted.topic
        found = self.connection.broker.topics.get_by_id(UUID(bytes=wanted.topic_id))
        if found is None:
            raise RequestError(ErrorCode.UNKNOWN_TOPIC_ID)
        if rules:
            self._check(found.name, quiet)
        return found.name

    def _check(self, name: str, quiet: bool) -> None:
        connection = self.connection
        if not connection.broker.authorizer.allowed(
            connection.principal, connection.peer_host, Operation.READ, ResourceType.TOPIC, name, quiet=quiet
        ):
            raise not_allowed(ResourceType.TOPIC)

    def _led(self, wanted: Wanted) -> Sequence[IPartition | None]:
        """Return the partitions of a topic, none if there is no such topic or it may not be read."""
        if self._version < _FIRST_BY_ID and not self.connection.broker.authorizer.enabled:
            return self.connection.broker.topics.led(wanted.topic)
        try:
            return self.connection.broker.topics.led(self._name(wanted, quiet=True))
        except BrokerError:
            return ()

    def _room(self) -> int:
        """Return how many more bytes of records the answer may have."""
        room = min(max(self._request.max_bytes, 0), self.connection.factory.settings.max_fetch_bytes)
        if self._metered is not None:
            room = min(room, self._metered.meter.fetch_bytes)
        return room - self._size

    def _read(self) -> list[IPartition]:
        """Read all partitions wanted: a row for each, or None for one of which a session has no news.

        Returns:
            The partitions, as far as there are such.
        """
        self._size = 0
        self._left = {}
        self._failed = False
        self._cold = None
        rows: list[_Partition | None] = []
        self._rows = rows
        found: list[IPartition | None] = []
        self._found = found
        session, committed, room = self._session, self._committed, self._room()
        led: Sequence[IPartition | None] = ()
        topic: Wanted | None = None
        for one in self._wanted:
            wanted = one.partition
            if topic is None or one.topic != topic.topic or one.topic_id != topic.topic_id:
                topic, led = one, self._led(one)
            index = wanted.partition
            partition = led[index] if 0 <= index < len(led) else None
            try:
                if partition is None:
                    partition = self._find(one)
                high, stable = partition.high_watermark, partition.last_stable_offset
                start = partition.log.start_offset
                epoch = wanted.current_leader_epoch
                if wanted.fetch_offset != (stable if committed else high) or (
                    epoch != partition.leader_epoch and epoch != NO_LEADER_EPOCH
                ):
                    rows.append(self._row(partition, wanted, room - self._size))
                elif session is not None and one.told == (high, stable, start):
                    rows.append(None)
                else:
                    rows.append(self._bare_row(index, high, stable, start))
            except BrokerError as error:
                rows.append(_failed(index, error))
                self._failed = True
            found.append(partition)
        return found if None not in found else [one for one in found if one is not None]  # type: ignore[return-value]

    def _bare_row(self, index: int, high_watermark: int, stable: int, start: int) -> _Partition:
        return _Partition(
            partition_index=index,
            high_watermark=high_watermark,
            last_stable_offset=stable,
            log_start_offset=start,
            records=b"",
            aborted_transactions=[] if self._committed else None,
        )

    def _row(self, partition: IPartition, wanted: fetch.Request.Topic.Partition, room: int) -> _Partition:
        """Read one partition, as far as it is in memory.

        Args:
            room: for how many bytes of records; more if nothing is found before.
        """
        check_leader_epoch(partition, wanted.current_leader_epoch)
        row = self._bare_row(
            wanted.partition,
            partition.high_watermark,
            partition.last_stable_offset,
            partition.log.start_offset,
        )
        limit = min(room, max(wanted.partition_max_bytes, 0))
        if self._size and limit <= 0:
            return row
        committed, offset = self._committed, wanted.fetch_offset
        try:
            found = partition.read(offset, limit, committed=committed, cached_only=True)
            if found.length and (found.length <= limit or not self._size):
                if committed:
                    row.aborted_transactions = _aborted(partition, offset, found)
                row.records = found.data
                self._size += found.length
        except Cold as cold:
            self._cold = self._cold or cold
        return row


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
