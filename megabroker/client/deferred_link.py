"""One connection of a client on Twisted: a protocol around a ``Conversation``.

Requests may be asked while others are under way; the wire decides how their answers are told apart. Each has
its time until the answer is complete; when one takes longer the connection is closed, since what comes after
it could not be trusted, and so do all others under way fail.

*Back-pressure.* A stream's messages wait in the stream until they are asked for. Above
``_MOST_HELD_MESSAGES`` or ``_MOST_HELD_BYTES`` the transport is paused; it goes on when they have been
taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from megabroker.client.conversation import Answer, Conversation, Request
from megabroker.client.errors import (
    BadResponse,
    ClientError,
    ConnectionLost,
    NotConnected,
    Refused,
    RequestTimedOut,
)

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

__all__ = ["DeferredLink", "DeferredStream"]

T = TypeVar("T")

_MOST_HELD_MESSAGES: Final = 1024
_MOST_HELD_BYTES: Final = 4 << 20
_DONE: Final = Failure(ConnectionDone())  # type: ignore[no-untyped-call]


class _Waiting:
    """A request under way: whom to tell, until when; None instead of whom when nobody wants to know."""

    __slots__ = ("deadline", "target", "timeout_s")

    def __init__(
        self, target: Deferred[Any] | DeferredStream[Any] | None, timeout_s: float | None, now: float
    ) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self.deadline = None if timeout_s is None else now + timeout_s

    def postpone(self, now: float) -> None:
        """Begin the time anew."""
        self.deadline = None if self.timeout_s is None else now + self.timeout_s


class DeferredLink(Protocol):
    """A connection; its Deferreds fire in the reactor's thread."""

    def __init__(self, conversation: Conversation, clock: IReactorTime) -> None:
        self.is_lost = False
        self._conversation = conversation
        self._clock = clock
        self._waiting: dict[int, _Waiting] = {}
        self._timer: Any = None
        self._error: ClientError | None = None  # why the connection is closed, if this side does it
        self._gone: list[Deferred[None]] = []

    @property
    def under_way(self) -> int:
        """How many requests have no complete answer yet."""
        return len(self._waiting)

    def greet(self, timeout_s: float) -> Deferred[DeferredLink]:
        """Say what has to be said first; fires with this when it is granted. Fails with ClientError."""
        return Deferred.fromCoroutine(self._greet(timeout_s))

    async def _greet(self, timeout_s: float) -> DeferredLink:
        for request in self._conversation.greeting:
            try:
                await self.ask(request, timeout_s)
            except BaseException:
                self.close()
                raise
        return self

    def ask(self, request: Request[T], timeout_s: float) -> Deferred[T]:
        """Ask this; fires with the answer.

        It may be cancelled; the request is carried out all the same, and the answer dropped.

        Fails with Refused, ConnectionLost, RequestTimedOut, BadResponse, NotConnected.
        """
        if self.is_lost:
            return fail(NotConnected("the connection is gone"))
        number, data = self._conversation.ask(request)
        waiting = _Waiting(None, timeout_s, self._clock.seconds())

        def forget(_: Deferred[T]) -> None:
            waiting.target = None

        answered: Deferred[T] = Deferred(forget)
        waiting.target = answered
        self._begin(number, waiting, data)
        return answered

    def stream(self, request: Request[T], timeout_s: float, later_s: float | None) -> DeferredStream[T]:
        """Ask this; return what comes. The connection is closed with it.

        Args:
            timeout_s: for the first piece.
            later_s: for each further one; None to wait for ever.
        """
        stream: DeferredStream[T] = DeferredStream(self)
        if self.is_lost:
            stream.failed(NotConnected("the connection is gone"))
            return stream
        number, data = self._conversation.ask(request)
        waiting = _Waiting(stream, timeout_s, self._clock.seconds())
        waiting.timeout_s = later_s
        self._begin(number, waiting, data)
        return stream

    def close(self) -> Deferred[None]:
        """Close the connection; fires when it is. What is under way fails with ConnectionLost."""
        if self.is_lost and self.transport is None:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._gone.append(gone)
        self._abort(ConnectionLost("the connection was closed by this side"))
        return gone

    def hold(self) -> None:
        """Read no more for now, because messages of a stream wait to be taken."""
        if self.transport is not None:
            self.transport.pauseProducing()  # type: ignore[attr-defined]
        for waiting in self._waiting.values():
            waiting.deadline = None
        self._arm()

    def go_on(self) -> None:
        """Read again."""
        for waiting in self._waiting.values():
            waiting.postpone(self._clock.seconds())
        self._arm()
        if self.transport is not None and not self.is_lost:
            self.transport.resumeProducing()  # type: ignore[attr-defined]

    # --- for Twisted ---

    def connectionMade(self) -> None:
        """Small requests go at once."""
        transport = self.transport
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        """Bytes came."""
        if self._error is not None:
            return
        try:
            answers = self._conversation.receive(data)
        except BadResponse as error:
            self._abort(error)
        else:
            self._deliver(answers)

    def connectionLost(self, reason: Failure = _DONE) -> None:
        """The connection is gone, whoever closed it."""
        error = self._error
        if error is None and isinstance(reason.value, ConnectionDone):
            try:
                self._deliver(self._conversation.peer_closed())
            except ConnectionLost as lost:
                error = lost
        elif error is None:
            error = ConnectionLost(f"{_words(reason)}{self._conversation.doubt()}")
        self.is_lost = True
        self.transport = None
        self._fail(error or ConnectionLost("the broker closed the connection"))
        gone, self._gone = self._gone, []
        for one in gone:
            one.callback(None)

    # --- inside ---

    def _begin(self, number: int, waiting: _Waiting, data: bytes) -> None:
        self._waiting[number] = waiting
        assert self.transport is not None
        self.transport.write(data)
        if self._timer is None:
            self._arm()

    def _deliver(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            waiting = self._waiting.get(answer.number)
            if waiting is None:
                return  # whoever got the one before has closed the connection, and with it failed the rest
            if answer.is_last:
                del self._waiting[answer.number]
            else:
                waiting.postpone(self._clock.seconds())
            target = waiting.target
            if isinstance(target, DeferredStream):
                target.came(answer)
            elif target is not None:
                if isinstance(answer.value, Refused):
                    target.errback(answer.value)
                else:
                    target.callback(answer.value)
        self._arm()

    def _arm(self) -> None:
        """Have one delayed call for the earliest deadline."""
        deadlines = [one.deadline for one in self._waiting.values() if one.deadline is not None]
        if self._timer is not None and self._timer.active():
            if deadlines and self._timer.getTime() <= min(deadlines):
                return  # it looks again then
            self._timer.cancel()
        self._timer = None
        if deadlines:
            wait_s = max(0.0, min(deadlines) - self._clock.seconds())
            self._timer = self._clock.callLater(wait_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for waiting in self._waiting.values():
            if waiting.deadline is not None and waiting.deadline <= now:
                self._abort(RequestTimedOut("no answer in time"))
                return
        self._arm()

    def _abort(self, error: ClientError) -> None:
        """Close at once and fail what is under way."""
        if self._error is None:
            self._error = error
        self.is_lost = True
        self._fail(error)
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def _fail(self, error: ClientError) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        waiting, self._waiting = self._waiting, {}
        error.may_be_done = True
        for one in waiting.values():
            if isinstance(one.target, DeferredStream):
                one.target.failed(error)
            elif one.target is not None:
                one.target.errback(error)


class DeferredStream(Generic[T]):
    """What comes, as an asynchronous iterator; None where the wire says that it begins.

    One at a time may be asked for.
    """

    def __init__(self, link: DeferredLink) -> None:
        self._link = link
        self._held: deque[T | None] = deque()
        self._held_bytes = 0
        self._is_holding = False
        self._end: BaseException | None = None
        self._asked: Deferred[T | None] | None = None

    def close(self) -> Deferred[None]:
        """End it, and its connection; fires when that is closed."""
        return self._link.close()

    def __aiter__(self) -> DeferredStream[T]:
        return self

    def __anext__(self) -> Deferred[T | None]:
        """Return a Deferred of the next piece; fails with StopAsyncIteration, or as ``DeferredLink.ask``."""
        if self._held:
            piece = self._held.popleft()
            self._held_bytes -= _size(piece)
            if self._is_holding and not self._held:
                self._is_holding = False
                self._link.go_on()
            return succeed(piece)
        if self._end is not None:
            return fail(self._end)

        def forget(_: Deferred[T | None]) -> None:
            self._asked = None

        self._asked = Deferred(forget)
        return self._asked

    def came(self, answer: Answer) -> None:
        """Take a piece."""
        if answer.is_last:
            self.failed(answer.value if isinstance(answer.value, Refused) else StopAsyncIteration())
            return
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.callback(answer.value)
            return
        self._held.append(answer.value)
        self._held_bytes += _size(answer.value)
        too_much = len(self._held) > _MOST_HELD_MESSAGES or self._held_bytes > _MOST_HELD_BYTES
        if too_much and not self._is_holding:
            self._is_holding = True
            self._link.hold()

    def failed(self, error: BaseException) -> None:
        """Nothing more comes."""
        if self._end is None:
            self._end = error
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.errback(error)


def _size(piece: object) -> int:
    return len(piece) if isinstance(piece, bytes) else 0


def _words(reason: Failure) -> str:
    error = reason.value
    return str(error) if isinstance(error, ConnectionClosed) or str(error) else type(error).__name__
