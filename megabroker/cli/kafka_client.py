"""A blocking client of Kafka's wire, as much of one as our commands need.

Owns one connection: TLS if wanted, SASL if wanted, then one request after the other.
"""

from __future__ import annotations

import socket
import ssl
import struct
from types import TracebackType
from typing import Any, Final

from megabroker.cli.login import Login, log_in
from megabroker.errors import AuthenticationError, ErrorCode, ProtocolError, StateError
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import sasl_authenticate, sasl_handshake
from megabroker.protocols.kafka.schema.fields import Message
from megabroker.protocols.kafka.schema.registry import APIS, response_header_version

__all__ = ["KafkaClient"]

_CLIENT_ID: Final = b"megabroker"
_BEST: Final = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
_MAX_ANSWER_BYTES: Final = 64 << 20
_HEAD = struct.Struct(">hhih")
_SIZE = struct.Struct(">i")


class KafkaClient:
    """Asks one broker; use it as a context manager.

    Args:
        host: name or address; in TLS it is what the broker's certificate must be for.
        tls: with which to connect by TLS; None for plain TCP.
        login: who to be; None for nobody in particular.
        seconds: how long to wait for a connection, and for each answer.
    """

    def __init__(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        login: Login | None = None,
        seconds: float = 30.0,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._login = login
        self._seconds = seconds
        self._socket: socket.socket | None = None
        self._asked = 0

    def __enter__(self) -> KafkaClient:
        """Connect, and say who we are. Raises StateError, AuthenticationError."""
        self._connect()
        try:
            if self._login is not None:
                self._authenticate(self._login)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; no effect when there is none."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def ask(self, request: Message, version: int) -> Any:
        """Send a request and return the answer. Blocking. Raises StateError(UNREACHABLE)."""
        key = type(request).__schema__.key
        assert key is not None
        self._asked += 1
        tags = b"\0" if APIS[key].is_flexible(version) else b""
        head = _HEAD.pack(key, version, self._asked, len(_CLIENT_ID)) + _CLIENT_ID + tags
        answer = self._exchange(head + request.encode(version))
        try:
            if _SIZE.unpack_from(answer)[0] != self._asked:
                raise ProtocolError("the answer is to another request")
            return APIS[key].response.decode(answer, version, 4 + response_header_version(key, version))[0]
        except (ProtocolError, struct.error) as error:
            raise self._unreachable(f"what answers is no broker of Kafka's protocol: {error}") from None

    def _connect(self) -> None:
        try:
            connection = socket.create_connection((self._host, self._port), self._seconds)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_hostname=self._host)
        except OSError as error:
            raise self._unreachable(str(error)) from None
        self._socket = connection

    def _authenticate(self, login: Login) -> None:
        mechanism = login.mechanism or _BEST[0]
        answer = self.ask(sasl_handshake.Request(mechanism=mechanism), 1)
        if answer.error_code and login.mechanism is None:
            offered = [one for one in _BEST if one in answer.mechanisms]
            if offered:
                # The broker closes after a mechanism that it does not have.
                mechanism = offered[0]
                self.close()
                self._connect()
                answer = self.ask(sasl_handshake.Request(mechanism=mechanism), 1)
        if answer.error_code:
            has = ", ".join(answer.mechanisms) or "no SASL"
            raise AuthenticationError(f"{self._where} has {has}, not {mechanism}")
        log_in(login, mechanism, self._prove)

    def _prove(self, message: bytes) -> bytes:
        answer = self.ask(sasl_authenticate.Request(auth_bytes=message), 1)
        if answer.error_code != KafkaError.NONE:
            raise AuthenticationError(answer.error_message or f"Kafka's error {answer.error_code}")
        return bytes(answer.auth_bytes)

    def _exchange(self, request: bytes) -> bytes:
        connection = self._socket
        assert connection is not None
        try:
            connection.sendall(_SIZE.pack(len(request)) + request)
            (size,) = _SIZE.unpack(self._receive(connection, _SIZE.size))
            if not 4 <= size <= _MAX_ANSWER_BYTES:
                raise self._unreachable("what answers is no broker of Kafka's protocol")
            return self._receive(connection, size)
        except TimeoutError:
            raise self._unreachable(f"no answer within {self._seconds:g} s") from None
        except OSError as error:
            raise self._unreachable(str(error)) from None

    def _receive(self, connection: socket.socket, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            chunk = connection.recv(min(count - len(data), 1 << 16))
            if not chunk:
                hint = "" if self._login else ", perhaps as it wants to know who you are (--as)"
                hint += "" if self._tls else ", perhaps as it wants TLS (--tls, --ca)"
                raise self._unreachable(f"the broker closed the connection{hint}")
            data += chunk
        return bytes(data)

    @property
    def _where(self) -> str:
        return f"{self._host}:{self._port}"

    def _unreachable(self, why: str) -> StateError:
        return StateError(ErrorCode.UNREACHABLE, f"{self._where}: {why}")
