"""One connection of a blocking client: a socket with deadlines around a ``Conversation``.

Every wait has a deadline: connecting with the TLS handshake, and each answer from when it is awaited until it
is complete, however slowly it drips. After any failure the link is broken and only good for closing, for its
stream can no longer be trusted to be in step. One thread at a time.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from megabroker.client.conversation import Address, Answer, Request, Wire
from megabroker.client.errors import BadResponse, ClientError, ConnectionLost, Refused, RequestTimedOut

if TYPE_CHECKING:
    import ssl

__all__ = ["Link"]

T = TypeVar("T")

_RECEIVE_BYTES: Final = 256 * 1024
_WOULD_BLOCK_NAMES: Final = ("SSLWantReadError", "SSLWantWriteError")


class Link:
    """A connection that is open.

    Args:
        timeout_s: what connecting and the greeting may take each.

    Raises:
        OSError: no connection came about.
        ClientError: it did, and then the greeting failed or was refused.
    """

    def __init__(
        self,
        host: str,
        port: int,
        wire: Wire,
        tls: ssl.SSLContext | None,
        connect_timeout_s: float,
        timeout_s: float,
    ) -> None:
        self.is_broken = False
        self._conversation = wire.converse(Address(f"{host}:{port}", tls is not None))
        self._socket = _connect(host, port, tls, connect_timeout_s)
        try:
            for request in self._conversation.greeting:
                for outcome in self.exchange((request,), timeout_s):
                    if isinstance(outcome, Refused):
                        raise outcome
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close it; what is under way is given up."""
        self.is_broken = True
        self._socket.close()

    def is_usable(self) -> bool:
        """Look whether an idle link is still good: the peer has neither closed it nor sent anything."""
        if self.is_broken:
            return False
        try:
            self._socket.setblocking(False)
            self._socket.recv(1)
        except OSError as error:
            return isinstance(error, BlockingIOError) or type(error).__name__ in _WOULD_BLOCK_NAMES
        return False

    def exchange(self, requests: Sequence[Request[T]], timeout_s: float) -> Iterator[T | Refused]:
        """Ask all of these at once; yield what they are answered with, in order.

        All are sent before the first answer is read. What keeps the two sides from waiting for each other
        is that callers ask so little at once that the answers fit the buffers of the sockets, or the
        requests do.

        Raises:
            ConnectionLost, RequestTimedOut, BadResponse: the link is broken.
        """
        numbers: deque[int] = deque()
        parts = []
        for request in requests:
            number, data = self._conversation.ask(request)
            numbers.append(number)
            parts.append(data)
        self._send(b"".join(parts), timeout_s)
        found: dict[int, Any] = {}
        deadline = time.monotonic() + timeout_s
        while numbers:
            if numbers[0] in found:
                yield found.pop(numbers.popleft())
                deadline = time.monotonic() + timeout_s
                continue
            for answer in self._receive(deadline, timeout_s):
                found[answer.number] = answer.value

    def stream(self, request: Request[T], timeout_s: float, later_s: float | None) -> Iterator[T | None]:
        """Ask this; yield what comes until it ends, and None where the wire says that it begins.

        Args:
            timeout_s: for the first piece.
            later_s: for each further one; None to wait for ever.

        Raises:
            ConnectionLost, RequestTimedOut, BadResponse: the link is broken.
            Refused: the stream ended with this.
        """
        _, data = self._conversation.ask(request)
        self._send(data, timeout_s)
        wait_s: float | None = timeout_s
        while True:
            deadline = None if wait_s is None else time.monotonic() + wait_s
            answers: Sequence[Answer] = ()
            while not answers:
                answers = self._receive(deadline, wait_s)
            wait_s = later_s
            for answer in answers:
                if isinstance(answer.value, Refused):
                    raise answer.value
                if answer.is_last:
                    return
                yield answer.value

    def _send(self, data: bytes, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        is_begun = False
        try:
            with memoryview(data) as view:
                at = 0
                while at < len(view):
                    self._wait_until(deadline)
                    at += self._socket.send(view[at : at + _RECEIVE_BYTES])
                    is_begun = True
        except TimeoutError as error:
            raise self._broken(
                RequestTimedOut(f"nothing more could be sent within {timeout_s} s"), is_begun
            ) from error
        except OSError as error:
            raise self._broken(ConnectionLost(f"{error}{self._conversation.doubt()}"), is_begun) from error

    def _receive(self, deadline: float | None, timeout_s: float | None) -> Sequence[Answer]:
        try:
            self._wait_until(deadline)
            data = self._socket.recv(_RECEIVE_BYTES)
            if data:
                return self._conversation.receive(data)
            self.is_broken = True
            return self._conversation.peer_closed()
        except (BadResponse, ConnectionLost) as error:
            raise self._broken(error) from None
        except TimeoutError as error:
            raise self._broken(RequestTimedOut(f"no answer within {timeout_s} s")) from error
        except OSError as error:
            raise self._broken(ConnectionLost(f"{error}{self._conversation.doubt()}")) from error

    def _wait_until(self, deadline: float | None) -> None:
        left_s = None if deadline is None else deadline - time.monotonic()
        if left_s is not None and left_s <= 0:
            raise TimeoutError
        self._socket.settimeout(left_s)

    def _broken(self, error: ClientError, may_be_done: bool = True) -> ClientError:
        self.close()
        error.may_be_done = may_be_done
        return error


def _connect(host: str, port: int, tls: ssl.SSLContext | None, timeout_s: float) -> socket.socket:
    """Return a connected socket, its handshake done. Raises OSError."""
    deadline = time.monotonic() + timeout_s
    connection = socket.create_connection((host, port), timeout_s)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is None:
            return connection
        connection.settimeout(max(0.001, deadline - time.monotonic()))  # the handshake as a whole
        return tls.wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise
