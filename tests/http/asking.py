"""A client of HTTP for tests, which can also send what no client would."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Api", "Reply", "raw"]

_SECONDS = 20


class Reply(NamedTuple):
    """An answer; ``json`` is None where there is none."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body) if self.body else None


class Api:
    """Asks a broker.

    Args:
        user: name and password with a colon between; None for nobody in particular.
        tls: for https.
    """

    def __init__(self, port: int, user: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self.headers: dict[str, str] = {}
        self._tls = tls
        if user is not None:
            self.headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request, its body as JSON unless it is bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_SECONDS)
        if self._tls is not None:
            connection = http.client.HTTPSConnection("localhost", self.port, context=self._tls)
        sent = {**self.headers, **(headers or {})}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if method in ("POST", "PUT", "PATCH"):
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Any:
        """Return the JSON at an address."""
        return self._good(self.ask("GET", path, headers=headers))

    def post(self, path: str, body: Any = None) -> Any:
        """Send JSON; return the answer's."""
        return self._good(self.ask("POST", path, {} if body is None else body))

    def patch(self, path: str, body: Any) -> Any:
        """Send JSON; return the answer's."""
        return self._good(self.ask("PATCH", path, body))

    def put(self, path: str, body: Any) -> Any:
        """Send JSON; return the answer's."""
        return self._good(self.ask("PUT", path, body))

    def delete(self, path: str) -> Any:
        """Delete what is at an address."""
        return self._good(self.ask("DELETE", path))

    def problem(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        """Send what is refused; return the status and the broker's code."""
        reply = self.ask(method, path, body, headers)
        assert reply.headers["Content-Type"] == "application/problem+json", reply
        assert reply.json["status"] == reply.status
        assert "Traceback" not in reply.body.decode()
        return reply.status, reply.json["code"]

    @staticmethod
    def _good(reply: Reply) -> Any:
        assert reply.status < 300, reply
        return reply.json


def raw(port: int, *pieces: bytes, seconds: float = _SECONDS) -> bytes:
    """Send bytes as they are; return what comes until the other side closes, or says that it will."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), seconds) as connection:
        for piece in pieces:
            connection.sendall(piece)
        try:
            while not _is_refusal(received) and (data := connection.recv(65536)):
                received += data
        except ConnectionResetError:
            pass
    return received


def _is_refusal(received: bytes) -> bool:
    """Whether this is all of an answer after which the connection is closed, and no other was before it."""
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?m)^Content-Length: (\d+)\r?$", head)
    return b"Connection: close" in head and length is not None and len(body) >= int(length[1])
