"""Published messages whose ids another process decides about, on their way there; see ``IPublishers``.

Owns the gathering: one request per process is under way, and what is published meanwhile is the next. So the
messages of a connection keep their order, and many clients share a request as they share a batch.

*Whose an id is.* All of a topic are those of the process that leads its partition 0; where ids are unique
over all topics one process has them all. Nothing that depends on the id would do: messages of one connection
for one partition go one way, whatever their ids, and so keep their order; and it stays the same when the
topic grows.

Invariant: every message has one outcome, success only if that process said so. Where it does not answer in
time, all that wait for it are told so with those that were sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from megabroker.errors import BrokerError, ErrorCode, PeerError, StateError
from megabroker.interfaces import IPeers, IPlacement, IPublisher, IPublishers
from megabroker.model import Acks, TopicPartition
from megabroker.protocols.kafka.schema import publish_messages
from megabroker.protocols.kafka.schema.told_error import error_of

__all__ = ["Publishers"]

_log = Logger()

_PUBLISH: Final = 1015
_SECONDS: Final = 30.0
_AT_ONCE: Final = 1000
_AT_ONCE_BYTES: Final = 4 << 20
_MAX_MESSAGES: Final = 10_000
_MAX_BYTES: Final = 16 << 20
_INT64: Final = 1 << 63

Outcome = Callable[[BrokerError | None], None]


class _Message(NamedTuple):
    topic: str
    message_id: int
    data: bytes
    acks: Acks
    outcome: Outcome


@implementer(IPublisher)
class _Publisher:
    """Messages for one process."""

    def __init__(self, owner: Publishers, node_id: int) -> None:
        self._owner = owner
        self._node_id = node_id
        self._messages: deque[_Message] = deque()
        self._bytes = 0
        self._under_way: list[_Message] = []
        self._due = False
        self._rooms: deque[Callable[[], None]] = deque()
        self._waking = False

    @property
    def has_room(self) -> bool:
        """See ``IPublisher``."""
        return not (self._rooms and not self._waking) and self._is_low

    @property
    def _is_low(self) -> bool:
        return self._bytes < _MAX_BYTES and len(self._messages) < _MAX_MESSAGES

    def when_room(self, callback: Callable[[], None]) -> None:
        """See ``IPublisher``."""
        if self._waking:
            self._rooms.appendleft(callback)
        else:
            self._rooms.append(callback)

    def publish(self, topic: str, message_id: int, data: bytes, acks: Acks, outcome: Outcome) -> None:
        """See ``IPublisher``."""
        self._messages.append(_Message(topic, message_id, data, acks, outcome))
        self._bytes += len(data)
        self._send_soon()

    def _send_soon(self) -> None:
        if self._messages and not self._due and not self._under_way:
            self._due = True
            self._owner.clock.callLater(0, self._send)

    def _send(self) -> None:
        self._due = False
        messages, size = self._messages, 0
        taken = self._under_way = []
        while messages and len(taken) < _AT_ONCE and messages[0].acks == (taken or messages)[0].acks:
            size += len(messages[0].data)
            if taken and size > _AT_ONCE_BYTES:
                break
            taken.append(messages.popleft())
        request = publish_messages.Request(
            acks=int(taken[0].acks),
            messages=[
                publish_messages.Request.Published(
                    topic=one.topic,
                    message_id=one.message_id - (one.message_id >= _INT64) * 2 * _INT64,
                    message=one.data,
                )
                for one in taken
            ],
        )
        asked = self._owner.peers.ask(self._node_id, _PUBLISH, 0, request, timeout_seconds=_SECONDS)
        asked.addCallback(self._outcomes).addErrback(self._lost).addCallback(self._tell)

    def _outcomes(self, response: publish_messages.Response) -> list[BrokerError | None]:
        if len(response.outcomes) != len(self._under_way):
            raise ValueError(f"{len(response.outcomes)} outcomes of {len(self._under_way)} messages")
        return [error_of(one.error) for one in response.outcomes]

    def _lost(self, failure: Failure) -> list[BrokerError | None]:
        error = failure.value
        if isinstance(error, PeerError) and error.code is ErrorCode.TIMED_OUT:
            waiting, self._messages = self._messages, deque()
            self._bytes -= sum(len(one.data) for one in waiting)
            for one in waiting:
                self._owner.clock.callLater(
                    0, _call, one.outcome, PeerError(error.code, error.message, sent=False)
                )
        if not isinstance(error, BrokerError):
            _log.failure("publishing-elsewhere-failed", failure=failure)
            error = StateError(ErrorCode.UNREACHABLE, str(error), retriable=True)
        return [error] * len(self._under_way)

    def _tell(self, outcomes: list[BrokerError | None]) -> None:
        told, self._under_way = self._under_way, []
        self._bytes -= sum(len(one.data) for one in told)
        self._send_soon()
        for one, error in zip(told, outcomes, strict=True):
            _call(one.outcome, error)
        self._wake()

    def _wake(self) -> None:
        self._waking = True
        try:
            while self._rooms and self._is_low:
                count = len(self._rooms)
                _call(self._rooms.popleft())
                if len(self._rooms) >= count:
                    break
        finally:
            self._waking = False


@implementer(IPublishers)
class Publishers:
    """Finds who decides about an id.

    Args:
        clock: the reactor.
        is_global: whether ids are unique over all topics.
    """

    def __init__(self, clock: IReactorTime, placement: IPlacement, peers: IPeers, *, is_global: bool) -> None:
        self.clock = clock
        self.peers = peers
        self._placement = placement
        self._is_global = is_global
        self._publishers: dict[int, _Publisher] = {}

    def elsewhere(self, topic: str) -> _Publisher | None:
        """See ``IPublishers``."""
        placement = self._placement
        node_id = placement.leader(TopicPartition("" if self._is_global else topic, 0)).id
        if node_id == placement.me.id:
            return None
        found = self._publishers.get(node_id)
        if found is None:
            found = self._publishers[node_id] = _Publisher(self, node_id)
        return found


def _call(callback: Callable[..., None], *args: BrokerError | None) -> None:
    try:
        callback(*args)
    except Exception:  # noqa: BLE001 - one client's fault must not starve the others
        _log.failure("callback-failed")
