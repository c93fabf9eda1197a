"""A blocking client of the MEGA protocol.

Owns one connection and its byte layout, independent of the broker's own codec. Requests are written in
the original form, with the trailing zero length, which both the original broker and this one take.
Results are dictionaries, as the original client gives them; a refusal by the broker is a result
(``success`` False), a failure of the network an exception. After such an exception the connection is
closed: its stream can no longer be trusted to be in step. Nothing but connecting is ever retried, for a
repeated produce could store a message twice. One thread at a time.

    request   i32 correlation id | u8 type | i32 n | n bytes topic | i64 timestamp | ...
      1 PRODUCE        i32 m | m bytes payload
      2 CONSUME        i32 offset | i32 0
      3 CREATE_TOPIC   i32 0
    success   i32 correlation id | 01 | i64 timestamp | ...
      PRODUCE          i32 offset
      CONSUME          i32 next offset | i32 m | m bytes payload
      CREATE_TOPIC     u16 n | n bytes topic
    error     i32 correlation id | 00 | u8 code
"""

from __future__ import annotations

import socket
import struct
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import ssl

__all__ = [
    "BadResponse",
    "ConnectFailed",
    "ConnectionLost",
    "MessageClient",
    "NotConnected",
    "RequestTimedOut",
    "Response",
]

Response = dict[str, Any]
"""One answer: ``correlation_id`` and ``success``, then ``timestamp`` and what the request asks for, or
``error_code``."""

_PRODUCE = 1
_CONSUME = 2
_CREATE_TOPIC = 3

_ERROR_NAMES: Final = {
    1: "INVALID_REQUEST",
    2: "INVALID_MESSAGE_TYPE",
    3: "MESSAGE_TOO_LARGE",
    4: "TOPIC_NOT_FOUND",
    5: "TOPIC_ALREADY_EXISTS",
    6: "INVALID_OFFSET",
    7: "INTERNAL_ERROR",
    8: "NETWORK_ERROR",
    9: "RESOURCE_EXHAUSTED",
}

_HEAD = struct.Struct(">iBi")
_I32 = struct.Struct(">i")
_I64 = struct.Struct(">q")
_U16 = struct.Struct(">H")
_TWO_I32 = struct.Struct(">ii")
_RESPONSE_HEAD = struct.Struct(">iB")

_TLS_BEGINS: Final = (b"\x15\x03", b"\x16\x03")  # an alert or a handshake, of any version
_OTHER_PORT = "is that a MEGA port? One with TLS needs an ssl.SSLContext as tls"
_OTHER_TLS_PORT = "is that a MEGA port, and is your certificate one that the broker takes?"
_I32_MIN, _I32_MAX = -(2**31), 2**31 - 1

_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 2.0
_RECEIVE_BYTES = 256 * 1024


class NotConnected(ConnectionError):
    """There is no connection: ``connect`` was not called, or an earlier failure closed it."""


class ConnectFailed(ConnectionError):
    """No connection after all attempts; the last attempt's error is the cause."""


class ConnectionLost(ConnectionError):
    """The broker closed the connection, or the network did, before the answer was complete."""


class BadResponse(ConnectionError):
    """The peer answered with something that is not the MEGA protocol; the message says what it may be."""


class RequestTimedOut(TimeoutError):
    """No complete answer in time; whether the request was carried out is unknown."""


class MessageClient:
    """A connection to one broker.

    Args:
        host: name or address of the broker.
        port: its MEGA port.
        timeout: seconds for each attempt to connect, and for each request until its complete answer.
        connect_attempts: how often ``connect`` tries, with pauses of 0.1 s doubling up to 2 s between.
        tls: with which to connect by TLS, with a client's certificate if it holds one; None for plain TCP.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 8080,
        *,
        timeout: float = 30.0,
        connect_attempts: int = 5,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.timeout = timeout
        self.connect_attempts = connect_attempts
        self.tls = tls
        self._socket: socket.socket | None = None
        self._deadline = 0.0
        self._was_answered = False

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as this side knows."""
        return self._socket is not None

    def connect(self) -> None:
        """Connect, trying again while the broker is not there; no effect when connected.

        Raises:
            ConnectFailed: every attempt failed.
        """
        if self._socket is not None:
            return
        backoff_s = _FIRST_BACKOFF_S
        attempts = max(1, self.connect_attempts)
        for attempt in range(1, attempts + 1):
            try:
                connection = self._connect_once()
            except OSError as error:
                if attempt == attempts:
                    raise ConnectFailed(
                        f"{self.host}:{self.port}: {error} (after {attempts} attempts){self._hint(error)}"
                    ) from error
                time.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)
            else:
                self._socket = connection
                self._was_answered = False
                return

    def _hint(self, error: OSError) -> str:
        """Say what to look at when TLS did not come about for a reason that is not the certificate's."""
        words = str(error).lower()
        if self.tls is None or not any(
            word in words for word in ("wrong version", "eof", "reset", "record layer")
        ):
            return ""
        return ": is that a port with TLS?"

    def _connect_once(self) -> socket.socket:
        connection = socket.create_connection((self.host, self.port), self.timeout)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return (
                connection
                if self.tls is None
                else self.tls.wrap_socket(connection, server_hostname=self.host)
            )
        except OSError:
            connection.close()
            raise

    def close(self) -> None:
        """Close the connection; no effect when there is none."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> MessageClient:
        self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def create_topic(self, topic_name: str, correlation_id: int = 1) -> Response:
        """Create a topic.

        Returns:
            ``correlation_id``, ``success``, ``timestamp`` and ``topic``; or, when refused,
            ``correlation_id``, ``success`` and ``error_code``.

        Raises:
            NotConnected, ConnectionLost, RequestTimedOut, BadResponse: see there.
            TypeError, ValueError: an argument is no such thing; nothing was sent.
        """
        return self._request(_CREATE_TOPIC, topic_name, correlation_id, _I32.pack(0))

    def produce(self, topic_name: str, payload: str | bytes, correlation_id: int = 1) -> Response:
        """Store one message, stamped with the present time.

        Args:
            payload: text is sent as UTF-8.

        Returns:
            ``correlation_id``, ``success``, ``timestamp`` and ``offset``; or a refusal.

        Raises:
            NotConnected, ConnectionLost, RequestTimedOut, BadResponse: see there.
            TypeError, ValueError: an argument is no such thing; nothing was sent.
        """
        if not isinstance(payload, str | bytes | bytearray | memoryview):
            raise TypeError(f"payload: expected a str or bytes, not {_shown(payload)}")
        data = payload.encode() if isinstance(payload, str) else bytes(payload)
        return self._request(_PRODUCE, topic_name, correlation_id, _I32.pack(len(data)) + data)

    def consume(self, topic_name: str, offset: int, correlation_id: int = 1) -> Response:
        """Fetch the message at ``offset``, or the next one where the broker holds none there.

        Returns:
            ``correlation_id``, ``success``, ``timestamp`` (the message's), ``next_offset`` and ``payload``;
            or a refusal. The payload is a ``str``, except one that is not UTF-8: that is ``bytes``.

        Raises:
            NotConnected, ConnectionLost, RequestTimedOut, BadResponse: see there.
            TypeError, ValueError: an argument is no such thing; nothing was sent.
        """
        _check_i32("offset", offset)
        return self._request(_CONSUME, topic_name, correlation_id, _TWO_I32.pack(offset, 0))

    def _request(self, kind: int, topic_name: str, correlation_id: int, rest: bytes) -> Response:
        if not isinstance(topic_name, str):
            raise TypeError(f"topic_name: expected a str, not {_shown(topic_name)}")
        _check_i32("correlation_id", correlation_id)
        topic = topic_name.encode()
        now_ms = time.time_ns() // 1_000_000
        data = b"".join(
            (_HEAD.pack(correlation_id, kind, len(topic)), topic, _I64.pack(now_ms), rest),
        )
        connection = self._socket
        if connection is None:
            raise NotConnected("not connected: call connect() first")
        self._deadline = time.monotonic() + self.timeout
        try:
            connection.settimeout(self.timeout)
            connection.sendall(data)
            return self._response(connection, kind, correlation_id)
        except TimeoutError as error:
            self.close()
            raise RequestTimedOut(f"no answer within {self.timeout} s") from error
        except (BadResponse, ConnectionLost):
            self.close()
            raise
        except OSError as error:
            self.close()
            raise ConnectionLost(f"{error}{self._doubt()}") from error

    def _response(self, connection: socket.socket, kind: int, correlation_id: int) -> Response:
        head = self._receive(connection, _RESPONSE_HEAD.size)
        if not self._was_answered and head.startswith(_TLS_BEGINS):
            raise BadResponse(f"{self.host}:{self.port} speaks TLS: give the client an ssl.SSLContext as tls")
        answered_id, flag = _RESPONSE_HEAD.unpack(head)
        if flag not in (0, 1):
            raise BadResponse(f"success flag {flag}: expected 0 or 1{self._doubt()}")
        if answered_id != correlation_id:
            raise BadResponse(f"answer to request {answered_id}: expected {correlation_id}{self._doubt()}")
        self._was_answered = True
        response: Response = {"correlation_id": answered_id, "success": bool(flag)}
        if not flag:
            code = self._receive(connection, 1)[0]
            response["error_code"] = _ERROR_NAMES.get(code, f"UNKNOWN_ERROR_{code}")
            return response
        (response["timestamp"],) = _I64.unpack(self._receive(connection, 8))
        if kind == _PRODUCE:
            (response["offset"],) = _I32.unpack(self._receive(connection, 4))
        elif kind == _CREATE_TOPIC:
            (length,) = _U16.unpack(self._receive(connection, 2))
            response["topic"] = self._receive(connection, length).decode("utf-8", "replace")
        else:
            next_offset, length = _TWO_I32.unpack(self._receive(connection, 8))
            if length < 0:
                raise BadResponse(f"payload length {length}: expected 0 or more")
            payload = self._receive(connection, length)
            response["next_offset"] = next_offset
            try:
                response["payload"] = payload.decode()
            except UnicodeDecodeError:
                response["payload"] = payload
        return response

    def _receive(self, connection: socket.socket, count: int) -> bytes:
        """Receive exactly ``count`` bytes before the deadline, holding no more than has come."""
        received = bytearray()
        while len(received) < count:
            left_s = self._deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            connection.settimeout(left_s)
            chunk = connection.recv(min(count - len(received), _RECEIVE_BYTES))
            if not chunk:
                raise ConnectionLost(
                    f"the broker closed the connection before its answer was complete{self._doubt()}"
                )
            received += chunk
        return bytes(received)

    def _doubt(self) -> str:
        """Ask, while nothing was ever answered, whether this is the right port."""
        if self._was_answered:
            return ""
        doubt = _OTHER_PORT if self.tls is None else _OTHER_TLS_PORT
        return f" ({self.host}:{self.port}: {doubt})"


def _shown(value: object) -> str:
    return f"{type(value).__name__} {value!r:.60}"


def _check_i32(name: str, value: object) -> None:
    """Raise TypeError or ValueError for what has no place in 32 bits."""
    if not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, not {_shown(value)}")
    if not _I32_MIN <= value <= _I32_MAX:
        raise ValueError(f"{name}: expected a number of 32 bits, not {value}")
