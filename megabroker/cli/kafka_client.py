"""A blocking client of Kafka's wire, as much of one as our commands need.

Owns one connection: TLS if wanted, SASL if wanted, then requests, whose answers come in their order.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from megabroker.errors import AuthenticationError, ErrorCode, ProtocolError, StateError
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import api_versions, sasl_authenticate, sasl_handshake
from megabroker.protocols.kafka.schema.fields import Message
from megabroker.protocols.kafka.schema.registry import APIS, response_header_version

if TYPE_CHECKING:
    import ssl

    from megabroker.cli.login import Login

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
        self._answered = False
        self._served = False
        self._awaited: deque[tuple[int, int, int]] = deque()
        self._versions: dict[int, range] | None = None

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
        self._awaited.clear()
        if connection is not None:
            connection.close()

    def ask(self, request: Message, version: int | None = None, most: int | None = None) -> Any:
        """Send a request and return the answer. Blocking. Raises StateError(UNREACHABLE, UNSUPPORTED).

        Args:
            version: None for the highest that both sides know.
            most: the highest version that will do, if it is None.
        """
        assert not self._awaited
        self.send(request, version, most)
        return self.receive()

    def send(self, request: Message, version: int | None = None, most: int | None = None) -> None:
        """Send a request, the answer to which `receive` returns after those to all sent before. As `ask`."""
        key = type(request).__schema__.key
        assert key is not None
        if version is None:
            version = self.version(key, most)
        self._send(key, version, request.encode(version))
        self._awaited.append((key, version, self._asked))

    def send_for_nothing(self, request: Message, most: int | None = None) -> None:
        """Send a request that has no answer: a produce with acks=0."""
        key = type(request).__schema__.key
        version = self.version(key, most)
        self._send(key, version, request.encode(version))

    def receive(self) -> Any:
        """Return the answer to the first request that has none yet. Blocking. Raises StateError."""
        key, version, number = self._awaited.popleft()
        answer = self._receive_frame()
        self._served |= key != api_versions.Request.__schema__.key
        try:
            if _SIZE.unpack_from(answer)[0] != number:
                raise ProtocolError("the answer is to another request")
            return APIS[key].response.decode(answer, version, 4 + response_header_version(key, version))[0]
        except (ProtocolError, struct.error) as error:
            raise self._unreachable(f"what answers is no broker of Kafka's protocol: {error}") from None

    def fileno(self) -> int:
        """Return the descriptor of the connection, to wait on."""
        assert self._socket is not None
        return self._socket.fileno()

    def serves(self, key: int) -> bool:
        """Say whether the broker knows a request in a version that we do. Blocking. Raises StateError."""
        if self._versions is None:
            answer = self.ask(api_versions.Request(), 0)
            self._versions = {
                row.api_key: range(row.min_version, row.max_version + 1) for row in answer.api_keys
            }
        theirs, ours = self._versions.get(key, range(0)), APIS[key]
        return max(ours.first_version, theirs.start) <= min(ours.last_version, theirs.stop - 1)

    def version(self, key: int, most: int | None = None) -> int:
        """Return the highest version of a request that both sides know. Raises StateError(UNSUPPORTED)."""
        if not self.serves(key):
            raise StateError(
                ErrorCode.UNSUPPORTED,
                f"{self._where} does not serve {APIS[key].name} in a version known here",
            )
        assert self._versions is not None
        highest = min(APIS[key].last_version, self._versions[key].stop - 1)
        return highest if most is None else min(highest, most)

    def _connect(self) -> None:
        try:
            connection = socket.create_connection((self._host, self._port), self._seconds)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_hostname=self._host)
        except OSError as error:
            raise self._unreachable(self._reason(error)) from None
        self._socket = connection

    def _authenticate(self, login: Login) -> None:
        from megabroker.cli.login import log_in  # brings Twisted

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

    def _send(self, key: int, version: int, body: bytes) -> None:
        self._asked += 1
        tags = b"\0" if APIS[key].is_flexible(version) else b""
        head = _HEAD.pack(key, version, self._asked, len(_CLIENT_ID)) + _CLIENT_ID + tags
        connection = self._socket
        assert connection is not None
        try:
            connection.sendall(_SIZE.pack(len(head) + len(body)) + head + body)
        except TimeoutError:
            raise self._unreachable(f"nothing was taken within {self._seconds:g} s") from None
        except OSError as error:
            raise self._unreachable(self._reason(error)) from None

    def _receive_frame(self) -> bytes:
        connection = self._socket
        assert connection is not None
        try:
            (size,) = _SIZE.unpack(self._receive(connection, _SIZE.size))
            if not 4 <= size <= _MAX_ANSWER_BYTES:
                raise self._unreachable("what answers is no broker of Kafka's protocol")
            data = self._receive(connection, size)
        except TimeoutError:
            raise self._unreachable(f"no answer within {self._seconds:g} s") from None
        except OSError as error:
            raise self._unreachable(self._reason(error)) from None
        self._answered = True
        return data

    def _receive(self, connection: socket.socket, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            chunk = connection.recv(min(count - len(data), 1 << 20))
            if not chunk:
                raise self._unreachable(f"the broker closed the connection{self._hint}")
            data += chunk
        return bytes(data)

    @property
    def _hint(self) -> str:
        """What the broker may have missed; which versions it serves it tells anybody."""
        user = "" if self._login or self._served else "a user (--as)"
        tls = "" if self._tls or self._answered else "TLS (--tls, --ca)"
        missed = " or ".join(filter(None, (user, tls)))
        return f"; perhaps it requires {missed}" if missed else ""

    @property
    def _where(self) -> str:
        return f"{self._host}:{self._port}"

    def _reason(self, error: OSError) -> str:
        """Say what went wrong with the connection, without its number."""
        if isinstance(error, ConnectionRefusedError):
            return "nothing listens there: expected the address of a running broker"
        is_over = isinstance(error, ConnectionResetError | BrokenPipeError)
        if is_over or type(error).__name__ in ("SSLEOFError", "SSLZeroReturnError"):
            tls = ", perhaps because it does not use TLS" if self._tls and not self._answered else ""
            return f"the connection was closed{tls}{self._hint}"
        if type(error).__name__ == "SSLCertVerificationError":
            return f"{error}; --ca names a file with the certificate of the issuer to trust"
        return str(error) if type(error).__module__ == "ssl" else error.strerror or str(error)

    def _unreachable(self, why: str) -> StateError:
        return StateError(ErrorCode.UNREACHABLE, f"{self._where}: {why}")
