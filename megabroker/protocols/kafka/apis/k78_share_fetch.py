"""ShareFetch (78): acquire records for a member of a share group (KIP-932).

**Behaviour.** A session says which partitions are fetched; epoch 0 begins one, -1 ends it and takes back what
its member has acquired. Acknowledgements that come along are taken first, and told when they are stored. Then
records are acquired: whole batches as they were stored, sent from the page cache by sendfile, with the
offsets in them that are the member's. Records of markers, of holes in a compacted log and, if the group reads
only what is committed, of aborted transactions are never acquired. With less than ``min_bytes`` to be had the
request waits, at most ``max_wait_ms``, for producers or for other members to let go; it holds up no request
behind it. An error in any partition is told at once. When there are as many sessions as may be, a new one is
SHARE_SESSION_LIMIT_REACHED at the end of that wait. A request that renews locks fetches nothing.

**Version notes.** 2 adds the renewal of locks (KIP-1222) and the acquire mode (KIP-1206): 0 fills the last
batch, 1 never acquires more than ``max_records``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.access import Operation, ResourceType
from megabroker.core.shares.sessions import FINAL_EPOCH, INITIAL_EPOCH, ShareSession, ShareSessions
from megabroker.errors import BrokerError, Cold, ErrorCode, PeerError, RequestError
from megabroker.interfaces import IPartition
from megabroker.model import ReadResult
from megabroker.net.asked import Asked
from megabroker.net.wire import Answer
from megabroker.protocols.kafka.access.refusals import not_allowed
from megabroker.protocols.kafka.acknowledging import Outcome, Place, acknowledge, check_names
from megabroker.protocols.kafka.answers import encode_answer
from megabroker.protocols.kafka.errors import kafka_error
from megabroker.protocols.kafka.metering import Metered, records_bytes
from megabroker.protocols.kafka.schema import share_fetch
from megabroker.protocols.kafka.share_reading import batches_of, piece

if TYPE_CHECKING:
    from megabroker.core.timers import TimerHandle
    from megabroker.protocols.kafka.protocol import KafkaConnection

__all__ = ["ShareFetchAnswer", "receive"]

_log = Logger()

_KEY: Final = 78
_STRICT: Final = 1

_Topic = share_fetch.Response.Topic
_Row = share_fetch.Response.Topic.Partition
_Acquired = share_fetch.Response.Topic.Partition.AcquiredRecords


def receive(
    connection: KafkaConnection,
    request: share_fetch.Request,
    version: int,
    correlation_id: int,
    size_bytes: int,
    metered: Metered | None = None,
) -> None:
    """Take one ShareFetch request and answer it now or when there is enough to acquire."""
    answer = ShareFetchAnswer(connection, request, version, correlation_id, size_bytes, metered)
    connection.add_slot(answer)
    group_id, shares = request.group_id, connection.broker.shares
    if group_id and group_id not in shares:
        answer.begin_vouched(shares.vouched(group_id))
    else:
        answer.begin()
    if metered is not None:
        metered.pause()


class _Ready(NamedTuple):
    """A partition that has something to be acquired."""

    place: Place
    partition: IPartition
    share: Any
    offset: int
    found: ReadResult


class ShareFetchAnswer(Answer):
    """A share fetch, possibly waiting; holds what it must give back when it is answered or given up.

    The answer leaves when both halves are there: what became of the acknowledgements, and the rows acquired.
    """

    __slots__ = (
        "_acknowledged",
        "_again",
        "_asked",
        "_cancels",
        "_correlation_id",
        "_group_id",
        "_member_id",
        "_metered",
        "_places",
        "_refusal",
        "_request",
        "_rows",
        "_session",
        "_timer",
        "_version",
    )

    connection: KafkaConnection

    def __init__(
        self,
        connection: KafkaConnection,
        request: share_fetch.Request,
        version: int,
        correlation_id: int,
        size_bytes: int,
        metered: Metered | None,
    ) -> None:
        super().__init__(connection, size_bytes)
        self._asked = Asked(connection, "ShareFetch", version, size_bytes)
        self._request = request
        self._metered = metered
        self._version = version
        self._correlation_id = correlation_id
        self._group_id = self._member_id = ""
        self._session: ShareSession | None = None
        self._places: list[Place] = []
        self._refusal: BrokerError | None = None
        self._acknowledged: dict[Place, Outcome] | None = None
        self._rows: dict[Place, _Row] | None = None
        self._cancels: list[Callable[[], None]] = []
        self._timer: TimerHandle | None = None
        self._again = False

    # --- the request ------------------------------------------------------------------------------

    def begin_vouched(self, vouched: Deferred[None] | None) -> None:
        """Begin when the coordinator has told whether there is such a group."""
        if vouched is None:
            self.begin()
        else:
            vouched.addBoth(self._vouched).addErrback(self._failed)

    def _vouched(self, result: Failure | None) -> None:
        if self.connection.closed:
            return
        if isinstance(result, Failure) and not result.check(BrokerError):  # type: ignore[no-untyped-call]
            result.raiseException()
        error = result.value if isinstance(result, Failure) else None
        if isinstance(error, PeerError):
            self._refusal = error
            self._refuse()
        else:
            self.begin()

    def begin(self) -> None:
        """Answer at once if there is reason to, else wait."""
        request = self._request
        try:
            self._group_id, self._member_id = check_names(request.group_id, request.member_id)
            if not self._may_read(ResourceType.GROUP, self._group_id):
                raise not_allowed(ResourceType.GROUP)
            self._check()
            session = self._session = self._take_session()
        except BrokerError as error:
            self._refusal = error
            if error.code is ErrorCode.SHARE_SESSION_LIMIT:
                self._wait()
            else:
                self._refuse()
            return
        if session is not None and not request.is_renew_ack and self._wants_records():
            turn = request.share_session_epoch % len(session.places) if session.places else 0
            places = list(session.places)
            self._places = places[turn:] + places[:turn]
        acknowledged = acknowledge(
            self.connection.broker,
            self._group_id,
            self._member_id,
            request.topics,
            self._version,
            request.is_renew_ack,
            lambda name: self._may_read(ResourceType.TOPIC, name),
        )
        acknowledged.addCallback(self._told).addErrback(self._failed)
        if not self._places or not self._acquire(is_last=self._wait_ms() <= 0):
            self._wait_for_records()

    def _check(self) -> None:
        request = self._request
        if request.is_renew_ack and any(
            (request.max_bytes, request.min_bytes, request.max_records, request.max_wait_ms)
        ):
            raise RequestError(
                ErrorCode.INVALID_REQUEST,
                "a request that renews locks has 0 for max_bytes, min_bytes, max_records and max_wait_ms",
            )
        if self._group_id not in self.connection.broker.shares:
            raise RequestError(ErrorCode.GROUP_NOT_FOUND, "there is no such share group")

    def _take_session(self) -> ShareSession | None:
        """Return the session whose partitions are to be fetched, None when it ends. Raises StateError."""
        request = self._request
        sessions: ShareSessions = self.connection.broker.shares.sessions
        named = [
            (UUID(bytes=bytes(topic.topic_id)), partition.partition_index)
            for topic in request.topics
            for partition in topic.partitions
        ]
        if request.share_session_epoch == INITIAL_EPOCH:
            if any(
                partition.acknowledgement_batches
                for topic in request.topics
                for partition in topic.partitions
            ):
                raise RequestError(
                    ErrorCode.INVALID_REQUEST, "a session does not begin with acknowledgements"
                )
            return sessions.begin(self._group_id, self._member_id, named, self.connection)
        session = sessions.proceed(self._group_id, self._member_id, request.share_session_epoch)
        if request.share_session_epoch == FINAL_EPOCH:
            return None
        sessions.update(
            session,
            named,
            (
                (UUID(bytes=bytes(topic.topic_id)), index)
                for topic in request.forgotten_topics_data
                for index in topic.partitions
            ),
        )
        return session

    def _wants_records(self) -> bool:
        return self._request.max_records > 0 and self._request.max_bytes > 0

    def _wait_ms(self) -> int:
        return min(self._request.max_wait_ms, self.connection.factory.settings.max_fetch_wait_ms)

    # --- waiting ----------------------------------------------------------------------------------

    def _wait(self) -> None:
        self._timer = self.connection.factory.timers.call_later(max(self._wait_ms(), 0), self.expire)
        self.connection.fetches[self] = None

    def _wait_for_records(self) -> None:
        if not self._places:
            self._acquired({})
            return
        self._wait()
        for place in self._places:
            try:
                partition = self._find(place)
                share = self._share(place, partition)
            except BrokerError:
                self.connection.broker.reactor.callLater(0, self._grown)
                return
            self._cancels.append(partition.watch(self._grown))
            self._cancels.append(share.watch(self._grown))

    def _grown(self) -> None:
        """One of the partitions may have more to acquire, or is gone."""
        if self._rows is None and not self.connection.closed and self._acquire(is_last=False):
            self._stop_waiting()

    def _once_more(self) -> None:
        self._again = False
        self._grown()

    def expire(self) -> None:
        """The wait is over: answer with what there is."""
        self._stop_waiting()
        if self._refusal is not None:
            self._refuse()
        elif self._rows is None:
            self._acquire(is_last=True)

    def cancel(self) -> None:
        """The connection is gone: stop waiting."""
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.connection.fetches.pop(self, None)
        cancels, self._cancels = self._cancels, []
        for cancel in cancels:
            cancel()

    # --- acquiring --------------------------------------------------------------------------------

    def _acquire(self, *, is_last: bool) -> bool:
        """Acquire what can be had; return whether that makes an answer."""
        rows: dict[Place, _Row] = {}
        if self._session is not None and self._session.ended:
            # The member has begun anew, perhaps on another connection, and waits for nothing here.
            self._acquired(rows)
            return True
        ready = self._ready(rows)
        size = sum(one.found.length for one in ready)
        if not (is_last or rows or size >= max(self._request.min_bytes, 1)):
            return False
        room = self._request.max_records
        moved = False
        for one in ready:
            if room <= 0:
                break
            try:
                row, count = self._take(one, room)
            except Cold as cold:
                cold.when_room(self._grown)
                continue
            except BrokerError as error:
                rows[one.place] = _failed_row(one.place, error)
                continue
            room -= count
            if row is not None:
                rows[one.place] = row
            else:
                moved = moved or one.share.fetch_offset(one.partition.start_offset) != one.offset
        if not rows and not is_last:
            if moved and not self._again:
                # All of it was markers or the like, and there may be more behind.
                self._again = True
                self.connection.broker.reactor.callLater(0, self._once_more)
            return False
        self._acquired(rows)
        return True

    def _ready(self, rows: dict[Place, _Row]) -> list[_Ready]:
        """Read each partition from where records can be acquired; put rows for those that failed."""
        ready: list[_Ready] = []
        room = min(self._request.max_bytes, self.connection.factory.settings.max_fetch_bytes)
        limit = max(room // len(self._places), 1)
        for place in self._places:
            try:
                partition = self._find(place)
                share = self._share(place, partition)
                offset = share.fetch_offset(partition.start_offset)
                if offset is None or offset >= self._end(partition):
                    continue
                found = partition.read(offset, limit, committed=self._committed, cached_only=True)
            except Cold as cold:
                cold.when_room(self._grown)
                continue
            except BrokerError as error:
                rows[place] = _failed_row(place, error)
                continue
            if found.length and (found.length <= room or not ready):
                room -= found.length
                ready.append(_Ready(place, partition, share, offset, found))
        return ready

    def _take(self, one: _Ready, room: int) -> tuple[_Row | None, int]:
        batches = batches_of(one.partition, one.found, one.offset, self._committed)
        acquired = one.share.acquire(
            self._member_id,
            one.offset,
            [batch.span for batch in batches],
            room,
            self._request.batch_size,
            strict=self._request.share_acquire_mode == _STRICT,
        )
        if not acquired:
            return None, 0
        row = _Row(
            partition_index=one.place[1],
            records=piece(one.found.data, batches, acquired[0].first_offset, acquired[-1].last_offset),
            acquired_records=[_Acquired(**records._asdict()) for records in acquired],
        )
        return row, sum(records.last_offset - records.first_offset + 1 for records in acquired)

    def _find(self, place: Place) -> IPartition:
        topics = self.connection.broker.topics
        topic = topics.get_by_id(place[0])
        if topic is None:
            raise RequestError(ErrorCode.UNKNOWN_TOPIC_ID, "no topic has this id")
        if not self._may_read(ResourceType.TOPIC, topic.name):
            raise not_allowed(ResourceType.TOPIC)
        return topics.partition(topic.name, place[1])

    def _may_read(self, resource_type: ResourceType, name: str) -> bool:
        connection = self.connection
        return connection.broker.authorizer.allowed(
            connection.principal, connection.peer_host, Operation.READ, resource_type, name
        )

    def _share(self, place: Place, partition: IPartition) -> Any:
        return self.connection.broker.shares.partitions.attend(self._group_id, place, partition)

    @property
    def _committed(self) -> bool:
        configs = self.connection.broker.shares.configs
        return bool(configs.value(self._group_id, "share.isolation.level") == "read_committed")

    def _end(self, partition: IPartition) -> int:
        return partition.last_stable_offset if self._committed else partition.high_watermark

    # --- the answer -------------------------------------------------------------------------------

    def _acquired(self, rows: dict[Place, _Row]) -> None:
        self._rows = rows
        self._answer()

    def _told(self, outcomes: dict[Place, Outcome]) -> None:
        self._acknowledged = outcomes
        if self._request.share_session_epoch == FINAL_EPOCH:
            self.connection.broker.shares.end_session(self._group_id, self._member_id)
        self._answer()

    def _failed(self, failure: Any) -> None:
        _log.failure("ShareFetch from {peer}", failure, peer=self.connection.peer)
        self.connection.close("internal error, logged above")

    def _answer(self) -> None:
        rows, outcomes = self._rows, self._acknowledged
        if rows is None or outcomes is None or self.connection.closed:
            return
        for place, outcome in outcomes.items():
            row = rows.setdefault(place, _Row(partition_index=place[1], records=b""))
            row.acknowledge_error_code = outcome.error_code
            row.acknowledge_error_message = outcome.message
        throttle_ms = 0
        if self._metered is not None:
            # They are acquired: keeping them from the client would keep them from everyone else too.
            size = records_bytes(rows.values())
            self._metered.resume()
            throttle_ms = self._metered.settle(self._metered.meter.consumed(size))
        topics: dict[UUID, _Topic] = {}
        for place, row in rows.items():
            topic = topics.setdefault(place[0], _Topic(topic_id=place[0].bytes))
            topic.partitions.append(row)
        configs = self.connection.broker.shares.configs
        response = share_fetch.Response(
            throttle_time_ms=throttle_ms,
            acquisition_lock_timeout_ms=configs.number(self._group_id, "share.record.lock.duration.ms"),
            responses=list(topics.values()),
        )
        self._send(response)

    def _send(self, response: share_fetch.Response) -> None:
        parts = encode_answer(response, _KEY, self._version, self._correlation_id)
        self.fill(parts)
        self._asked.answered(parts)

    def _refuse(self) -> None:
        error = self._refusal
        assert error is not None
        response = share_fetch.Response(error_code=kafka_error(error), error_message=error.message)
        self._send(response)


def _failed_row(place: Place, error: BrokerError) -> _Row:
    return _Row(
        partition_index=place[1], error_code=kafka_error(error), error_message=error.message, records=b""
    )
