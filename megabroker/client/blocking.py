"""What the blocking clients have in common: a pool of connections, and what is tried again when.

A request that failed is repeated if that can do no harm: nothing of it was sent, or the caller has said that
it is repeatable. Everything else fails at its first failure, with ``may_be_done`` set where nobody knows
whether it was carried out. A call may take as long as its attempts: for each at most a wait for a connection,
one for connecting, one for the answer, and the pause.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

from megabroker.client.arguments import checked_seconds
from megabroker.client.conversation import KEPT_BYTES, Message, Request, Wire
from megabroker.client.errors import (
    BadResponse,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    Refused,
    RequestTimedOut,
)
from megabroker.client.link import Link
from megabroker.client.pool import Pool
from megabroker.client.retrying import NO_RETRY, Retry

if TYPE_CHECKING:
    import ssl

__all__ = ["BlockingClient", "in_chunks"]

T = TypeVar("T")

CHUNK_REQUESTS: Final = 128
"""How many requests are sent before their answers are read; the answers are to fit a socket's buffers."""

_CHUNK_BYTES: Final = 256 * 1024


class BlockingClient:
    """A client of one broker; a context manager that connects and closes.

    Args:
        host: name or address of the broker.
        port: of the wire.
        wire: the protocol.
        timeout: seconds for each answer until it is complete.
        connect_timeout: seconds for an attempt to connect, TLS included; ``timeout`` if None.
        tls: with which to connect by TLS, with a client's certificate if it holds one; None for plain TCP.
        connecting: how often ``connect`` tries.
        retry: how often a request that may be repeated is tried; None to leave failures to the caller, and
            connecting anew as well.
        pool_size: the most connections there are at a time.

    Attributes:
        host, port, timeout, tls: as given; a changed ``timeout`` holds from the next request on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        wire: Wire,
        *,
        timeout: float,
        connect_timeout: float | None,
        tls: ssl.SSLContext | None,
        connecting: Retry,
        retry: Retry | None,
        pool_size: int,
    ) -> None:
        self.host = host
        self.port = port
        self.timeout = checked_seconds("timeout", timeout)
        self.tls = tls
        self._connect_timeout = (
            None if connect_timeout is None else checked_seconds("connect_timeout", connect_timeout)
        )
        self._wire = wire
        self._connecting = connecting
        self._retry = retry or NO_RETRY
        self._pool = Pool(self._open_link, pool_size, connects=retry is not None)

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as this side knows."""
        return self._pool.count > 0

    def connect(self) -> None:
        """Connect, trying again while the broker is not there; no effect when connected.

        Raises:
            ConnectFailed: every attempt failed.
            Refused: the broker does not believe who asks; a NotAuthenticated.
        """
        pauses = self._connecting.pauses()
        attempts = 0
        while True:
            attempts += 1
            try:
                self._pool.open()
            except (OSError, ClientError) as error:
                if isinstance(error, Refused):
                    raise
                pause_s = next(pauses, None)
                if pause_s is None:
                    raise self._connect_failed(error, attempts) from error
                time.sleep(pause_s)
            else:
                return

    def close(self) -> None:
        """Close all connections, those of other threads after the request they are at; no effect without."""
        self._pool.close()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- for the clients ---

    def _ask(self, request: Request[T], repeatable: bool | None = None) -> T:
        """Return the answer. Raises Refused, and what ``_ask_all`` raises."""
        pauses = self._retry.pauses()
        may_repeat = request.repeatable if repeatable is None else repeatable
        while True:
            (outcome,) = self._ask_all((request,), may_repeat)
            if not isinstance(outcome, Refused):
                return outcome
            pause_s = next(pauses, None) if outcome.retriable and may_repeat else None
            if pause_s is None:
                raise outcome
            time.sleep(pause_s)

    def _ask_all(self, requests: Sequence[Request[T]], repeatable: bool) -> Iterator[T | Refused]:
        """Ask all of a few requests at once; yield what they are answered with, in order.

        It ends early where the messages that came were large.

        Raises:
            NotConnected, ConnectFailed, ConnectionLost, RequestTimedOut, BadResponse: for the first that
                was not answered.
        """
        left = deque(requests)
        pauses = self._retry.pauses()
        while left:
            outcomes, error = self._attempt(tuple(left))
            for _ in outcomes:
                left.popleft()
            yield from outcomes
            if error is None:
                return
            if outcomes:
                pauses = self._retry.pauses()
            may_repeat = isinstance(error, ConnectionLost | RequestTimedOut | ConnectFailed) and (
                repeatable or not error.may_be_done
            )
            pause_s = next(pauses, None) if may_repeat else None
            if pause_s is None:
                raise error
            time.sleep(pause_s)

    def _attempt(self, requests: Sequence[Request[T]]) -> tuple[list[T | Refused], ClientError | None]:
        """Return what was answered, and what kept the rest from it; large messages not all of them."""
        outcomes: list[T | Refused] = []
        size_bytes = 0
        try:
            link = self._made(lambda: self._pool.take(self.timeout))
        except ClientError as error:
            return outcomes, error
        try:
            for outcome in link.exchange(requests, self.timeout):
                if size_bytes < KEPT_BYTES:
                    outcomes.append(outcome)
                size_bytes += len(outcome.payload) if isinstance(outcome, Message) else 0
        except (ConnectionLost, RequestTimedOut, BadResponse) as error:
            return outcomes, error
        except BaseException:
            link.close()  # interrupted: it may be out of step
            raise
        finally:
            self._pool.give(link)
        return outcomes, None

    def _made(self, make: Callable[[], Link]) -> Link:
        """Return a connection. Raises ClientError, of which ConnectFailed is what else was an OSError."""
        try:
            return make()
        except OSError as error:
            if isinstance(error, ClientError):
                raise
            raise self._connect_failed(error, 1) from error

    def _open_link(self) -> Link:
        connect_timeout_s = self.timeout if self._connect_timeout is None else self._connect_timeout
        return Link(self.host, self.port, self._wire, self.tls, connect_timeout_s, self.timeout)

    def _connect_failed(self, error: Exception, attempts: int) -> ConnectFailed:
        how_often = f" (after {attempts} attempts)" if attempts > 1 else ""
        return ConnectFailed(f"{self.host}:{self.port}: {error}{how_often}{self._hint(error)}")

    def _hint(self, error: Exception) -> str:
        """Say what to look at when TLS did not come about for a reason that is not the certificate's."""
        words = str(error).lower()
        if self.tls is None or not any(
            word in words for word in ("wrong version", "eof", "reset", "record layer")
        ):
            return ""
        return ": is that a port with TLS?"


def in_chunks(requests: Iterable[tuple[Request[T], int]]) -> Iterator[list[Request[T]]]:
    """Yield requests, which come with their sizes in bytes, in lists that may be sent at once."""
    chunk: list[Request[T]] = []
    chunk_bytes = 0
    for request, size_bytes in requests:
        if chunk and (len(chunk) >= CHUNK_REQUESTS or chunk_bytes + size_bytes > _CHUNK_BYTES):
            yield chunk
            chunk, chunk_bytes = [], 0
        chunk.append(request)
        chunk_bytes += size_bytes
    if chunk:
        yield chunk
