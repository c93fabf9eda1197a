"""What the clients on Twisted have in common: connections, how much is under way, what is tried again when.

Requests share a few connections, each pipelined: a new one goes to that with the least under way. At most
``max_under_way`` are there at a time; as many again as ``max_waiting`` may wait for their turn, and further
ones are refused with ``TooManyWaiting``. Repeating follows the rule of the blocking clients: only what is
repeatable, or what was never sent. For the reactor's thread alone.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, gatherResults
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater

from megabroker.client.arguments import checked_seconds
from megabroker.client.conversation import Address, Request, Wire
from megabroker.client.deferred_link import DeferredLink
from megabroker.client.errors import (
    ClientError,
    ConnectFailed,
    ConnectionLost,
    NotConnected,
    Refused,
    RequestTimedOut,
    TooManyWaiting,
)
from megabroker.client.retrying import Retry

__all__ = ["DEFAULT_RETRY", "DeferredClient"]

T = TypeVar("T")

DEFAULT_RETRY: Final = Retry()


class _Links(Factory):
    """Makes the protocol of each connection."""

    noisy = False

    def __init__(self, make: Callable[[], DeferredLink]) -> None:
        self._make = make

    def buildProtocol(self, addr: Any) -> DeferredLink:
        """Return the protocol of a new connection."""
        return self._make()


class DeferredClient:
    """A client of one broker; an asynchronous context manager that connects and closes.

    Args:
        reactor: the one it works in.
        endpoint: where the broker is: an endpoint of Twisted's, or what ``clientFromString`` takes, such as
            ``tcp:localhost:9000`` or ``tls:broker.example.org:9000``.
        wire: the protocol.
        timeout: seconds for each answer until it is complete.
        connect_timeout: seconds for an attempt to connect, TLS and greeting included.
        retry: how often to try what may be repeated, and connecting.
        pool_size: the most connections that requests share.
        max_under_way: the most requests that are asked at a time.
        max_waiting: the most that may wait for their turn.

    Raises:
        TypeError, ValueError: an argument is no such thing.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: str | IStreamClientEndpoint,
        wire: Wire,
        *,
        timeout: float,
        connect_timeout: float,
        retry: Retry,
        pool_size: int,
        max_under_way: int,
        max_waiting: int,
    ) -> None:
        if pool_size < 1:
            raise ValueError(f"pool_size: expected 1 or more, not {pool_size}")
        if max_under_way < 1 or max_waiting < 0:
            raise ValueError("expected a max_under_way of 1 or more, and a max_waiting of 0 or more")
        self.timeout = checked_seconds("timeout", timeout)
        self._reactor = reactor
        self._wire = wire
        self._connect_timeout = checked_seconds("connect_timeout", connect_timeout)
        self._retry = retry
        self._pool_size = pool_size
        self._turns = DeferredSemaphore(max_under_way)
        self._max_waiting = max_waiting
        self._links: list[DeferredLink] = []
        self._beside: set[DeferredLink] = set()  # those of streams
        self._opening: Deferred[None] | None = None
        self._waiters: list[Deferred[None]] = []
        self._is_closed = False
        if isinstance(endpoint, str):
            self._endpoint: IStreamClientEndpoint = clientFromString(reactor, endpoint)  # type: ignore[no-untyped-call]
            self._address = Address(endpoint, endpoint.startswith(("tls:", "ssl:")))
        else:
            self._endpoint = endpoint
            self._address = Address(type(endpoint).__name__)

    @property
    def connected(self) -> bool:
        """Whether there is a connection that requests share."""
        return any(not link.is_lost for link in self._links)

    def open(self) -> Deferred[Self]:
        """Connect, trying again while the broker is not there; fires with this.

        Fails with ConnectFailed, or NotAuthenticated.
        """
        return Deferred.fromCoroutine(self._open())

    def close(self) -> Deferred[None]:
        """Close all connections; fires when they are. What is under way fails with ConnectionLost."""
        self._is_closed = True
        links = [*self._links, *self._beside]
        self._links.clear()
        return gatherResults([link.close() for link in links]).addCallback(lambda _: None)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- for the clients ---

    def _ask(self, request: Request[T], repeatable: bool | None = None) -> Deferred[T]:
        """Fire with the answer."""
        may_repeat = request.repeatable if repeatable is None else repeatable
        return Deferred.fromCoroutine(self._in_turn(request, may_repeat))

    async def _in_turn(self, request: Request[T], may_repeat: bool) -> T:
        if len(self._turns.waiting) >= self._max_waiting and not self._turns.tokens:
            raise TooManyWaiting(f"{self._max_waiting} requests wait for their turn (max_waiting)")
        await self._turns.acquire()
        try:
            return await self._persist(lambda: self._attempt(request), may_repeat)
        finally:
            self._turns.release()

    async def _attempt(self, request: Request[T]) -> T:
        link = await self._link()
        return await link.ask(request, self.timeout)

    async def _persist(self, attempt: Callable[[], Coroutine[Any, Any, T]], may_repeat: bool) -> T:
        """Try until it succeeds, may not be repeated, or has been tried often enough."""
        pauses = self._retry.pauses()
        while True:
            try:
                return await attempt()
            except (ConnectionLost, RequestTimedOut, ConnectFailed) as error:
                again = may_repeat or not error.may_be_done
                pause_s = next(pauses, None) if again and not self._is_closed else None
                if pause_s is None:
                    raise
            except Refused as refusal:
                pause_s = next(pauses, None) if refusal.retriable and may_repeat else None
                if pause_s is None:
                    raise
            await self._sleep(pause_s)

    def _sleep(self, seconds: float) -> Deferred[None]:
        return deferLater(self._reactor, seconds)

    async def _open(self) -> Self:
        self._is_closed = False
        await self._persist(self._link, True)
        return self

    async def _link(self) -> DeferredLink:
        """Return the connection with the least under way; make one while all there are have some."""
        if self._is_closed:
            raise NotConnected("the client is closed")
        self._links = [link for link in self._links if not link.is_lost]
        best = min(self._links, key=lambda link: link.under_way, default=None)
        if best is not None and (not best.under_way or len(self._links) >= self._pool_size):
            return best
        if self._opening is not None:
            if best is not None:
                return best
            await self._opened()
            return await self._link()
        return await self._open_shared()

    async def _open_shared(self) -> DeferredLink:
        self._opening = Deferred()
        try:
            link = await self._connect()
            if self._is_closed:
                await link.close()
                raise NotConnected("the client is closed")
            self._links.append(link)
            return link
        finally:
            self._opening = None
            waiters, self._waiters = self._waiters, []
            for one in waiters:
                one.callback(None)

    def _opened(self) -> Deferred[None]:
        """Fire when the connection that is being opened is there, or failed."""
        waiter: Deferred[None] = Deferred(self._waiters_without)
        self._waiters.append(waiter)
        return waiter

    def _waiters_without(self, waiter: Deferred[None]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    async def _own_link(self) -> DeferredLink:
        """Return a connection for a stream alone."""
        if self._is_closed:
            raise NotConnected("the client is closed")
        link = await self._connect()
        self._beside = {one for one in self._beside if not one.is_lost} | {link}
        return link

    async def _connect(self) -> DeferredLink:
        conversation = self._wire.converse(self._address)
        links = _Links(lambda: DeferredLink(conversation, self._reactor))
        connecting: Deferred[Any] = self._endpoint.connect(links)
        connecting.addTimeout(self._connect_timeout, self._reactor)
        try:
            link: DeferredLink = await connecting
        except CancelledError:
            raise
        except Exception as error:
            raise ConnectFailed(f"{self._address.name}: {error or type(error).__name__}") from error
        try:
            return await link.greet(self._connect_timeout)
        except ClientError as error:
            error.may_be_done = False
            raise
