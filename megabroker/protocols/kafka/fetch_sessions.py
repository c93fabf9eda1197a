"""Fetch sessions (KIP-227): a consumer of many partitions names them once, then only what changed.

Owns what each session wants and what it was last told. A session is made by a fetch with epoch 0 and
carried on by epochs that count up; the broker then reads every partition of it and answers for those that
have something to say: records, an error, another high watermark or start of the log. Those that had records
go to the end of the line, so that the limits of an answer do not starve anybody.

Sessions are a convenience of the broker's, not a right of the client's: who gets none has session id 0 in
its answers and names all its partitions every time. Both how many there are and how many partitions they
have together is bounded; a session that nobody used for two minutes makes room for a new one. They are
not tied to a connection: a client that connects again goes on with its session.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import fetch

__all__ = ["FetchSession", "FetchSessions", "SessionRefused", "Wanted"]

_STALE_SECONDS = 120
_LAST_EPOCH = 2**31 - 1
_INITIAL_EPOCH = 0
_FINAL_EPOCH = -1
_FIRST_WITH_IDS = 13
_MAX_PARTITIONS = 200_000
"""Partitions of all sessions together; about 400 bytes each."""

_Key = tuple[str | bytes, int]


class SessionRefused(Exception):
    """The request does not go with its session; ``error`` is the answer to all of it."""

    def __init__(self, error: KafkaError) -> None:
        super().__init__(error.name)
        self.error = error


class Wanted:
    """One partition that a fetch wants.

    Attributes:
        topic: its topic by name, empty where the version names topics by id.
        topic_id: its topic by id.
        partition: what of it.
        told: high watermark, last stable offset and log start as last answered in the session, or None.
    """

    __slots__ = ("partition", "told", "topic", "topic_id")

    def __init__(self, topic: str, topic_id: bytes, partition: fetch.Request.Topic.Partition) -> None:
        self.topic = topic
        self.topic_id = topic_id
        self.partition = partition
        self.told: tuple[int, int, int] | None = None


def _wanted_by(request: fetch.Request) -> list[Wanted]:
    """Return the partitions that a request names, in its order."""
    return [
        Wanted(topic.topic, bytes(topic.topic_id), partition)
        for topic in request.topics
        for partition in topic.partitions
    ]


class FetchSession:
    """What one consumer fetches.

    Attributes:
        id: positive.
        epoch: what the next request of it must say.
        by_id: whether topics are named by id.
        wanted: the partitions, in the order in which they are read.
        used: when it was last used, in seconds of the cache's clock.
    """

    __slots__ = ("by_id", "epoch", "id", "used", "wanted")

    def __init__(self, session_id: int, by_id: bool, wanted: Sequence[Wanted], now: float) -> None:
        self.id = session_id
        self.epoch = 1
        self.by_id = by_id
        self.wanted: OrderedDict[_Key, Wanted] = OrderedDict()
        self.used = now
        for one in wanted:
            self.wanted[self._key(one)] = one

    def _key(self, one: Wanted) -> _Key:
        return (one.topic_id if self.by_id else one.topic, one.partition.partition)

    def change(self, request: fetch.Request) -> None:
        """Take what an incremental request adds, changes and forgets."""
        for one in _wanted_by(request):
            known = self.wanted.get(self._key(one))
            if known is None:
                self.wanted[self._key(one)] = one
            else:
                known.partition = one.partition
        for topic in request.forgotten_topics_data:
            name = bytes(topic.topic_id) if self.by_id else topic.topic
            for index in topic.partitions:
                self.wanted.pop((name, index), None)

    def tell(self, one: Wanted, row: fetch.Response.Topic.Partition) -> bool:
        """Note what an answer is about to say of a partition; return whether there is any news in it."""
        told = None if row.error_code else (row.high_watermark, row.last_stable_offset, row.log_start_offset)
        has_records = bool(row.records)
        news = told is None or told != one.told or has_records
        one.told = told
        if has_records:
            key = self._key(one)
            if self.wanted.get(key) is one:
                self.wanted.move_to_end(key)
        return news


class FetchSessions:
    """The sessions of one listener.

    Args:
        limit: asked for how many there may be; 0 for none.
        seconds: the clock.
    """

    def __init__(self, limit: Callable[[], int], seconds: Callable[[], float]) -> None:
        self._limit = limit
        self._seconds = seconds
        self._sessions: OrderedDict[int, FetchSession] = OrderedDict()  # longest unused first
        self._partitions = 0
        self.refused = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[FetchSession]:
        return iter(self._sessions.values())

    def take(self, request: fetch.Request, version: int) -> tuple[Sequence[Wanted], FetchSession | None]:
        """Return what a request wants, and the session to answer it in, or None.

        Raises:
            SessionRefused: it goes on with a session that there is not, or is not the next request of it.
        """
        if request.session_epoch in (_INITIAL_EPOCH, _FINAL_EPOCH):
            wanted = _wanted_by(request)
            return wanted, self._begin(request, version, wanted)
        session = self._go_on(request, version)
        return list(session.wanted.values()), session

    def end(self, session: FetchSession) -> None:
        """Forget a session."""
        self._drop(session.id)

    def _begin(self, request: fetch.Request, version: int, wanted: Sequence[Wanted]) -> FetchSession | None:
        """Make a session, if one is asked for and there is room; end the one the request names."""
        if request.session_id:
            self._drop(request.session_id)
        if request.session_epoch == _FINAL_EPOCH or not wanted:
            return None
        now = self._seconds()
        if not self._make_room(len(wanted), now):
            return None
        session_id = 0
        while not session_id or session_id in self._sessions:
            session_id = secrets.randbelow(_LAST_EPOCH)
        session = FetchSession(session_id, version >= _FIRST_WITH_IDS, wanted, now)
        self._sessions[session_id] = session
        self._partitions += len(session.wanted)
        return session

    def _go_on(self, request: fetch.Request, version: int) -> FetchSession:
        session = self._sessions.get(request.session_id)
        if session is None:
            raise SessionRefused(KafkaError.FETCH_SESSION_ID_NOT_FOUND)
        if session.epoch != request.session_epoch:
            raise SessionRefused(KafkaError.INVALID_FETCH_SESSION_EPOCH)
        if session.by_id != (version >= _FIRST_WITH_IDS):
            raise SessionRefused(KafkaError.FETCH_SESSION_TOPIC_ID_ERROR)
        before = len(session.wanted)
        session.change(request)
        self._partitions += len(session.wanted) - before
        session.epoch = session.epoch % _LAST_EPOCH + 1
        session.used = self._seconds()
        self._sessions.move_to_end(session.id)
        if self._partitions > _MAX_PARTITIONS:
            self._drop(session.id)  # the client begins anew, naming all it wants
            raise SessionRefused(KafkaError.FETCH_SESSION_ID_NOT_FOUND)
        return session

    def _make_room(self, partitions: int, now: float) -> bool:
        if partitions > _MAX_PARTITIONS:
            return False
        while len(self._sessions) >= self._limit() or self._partitions + partitions > _MAX_PARTITIONS:
            oldest = next(iter(self._sessions.values()), None)
            if oldest is None or now - oldest.used < _STALE_SECONDS:
                self.refused += 1
                return False
            self.evicted += 1
            self._drop(oldest.id)
        return True

    def _drop(self, session_id: int) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._partitions -= len(session.wanted)
