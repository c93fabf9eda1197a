"""A raw Kafka connection for measurements: requests encoded by the broker's schemas, answers as bytes.

It does as little as it can, so that what is measured is the broker.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from megabroker.protocols.kafka.schema.registry import (
    request_header_version,
    response_header_version,
)

__all__ = ["Wire", "framed"]

_HEAD = struct.Struct(">hhih")
_SIZE = struct.Struct(">i")
_CLIENT = b"bench"


def framed(request: Any, version: int, correlation_id: int) -> bytes:
    """Return a request as it goes over the wire."""
    key = type(request).__schema__.key
    tags = b"\0" if request_header_version(key, version) >= 2 else b""
    body = _HEAD.pack(key, version, correlation_id, len(_CLIENT)) + _CLIENT + tags + request.encode(version)
    return _SIZE.pack(len(body)) + body


class Wire:
    """One connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb", buffering=1 << 20)
        self._correlation_id = 0

    def send(self, data: bytes) -> None:
        """Send requests that are framed already."""
        self._socket.sendall(data)

    def receive(self) -> bytes:
        """Return one answer, without its length."""
        (size,) = _SIZE.unpack(self._file.read(_SIZE.size))
        return self._file.read(size)

    def ask(self, request: Any, response: Any, version: int) -> Any:
        """Send a request, return its answer decoded."""
        self._correlation_id += 1
        self.send(framed(request, version, self._correlation_id))
        data = self.receive()
        key = type(request).__schema__.key
        start = 5 if response_header_version(key, version) >= 1 else 4
        return response.decode(data, version, start)[0]

    def close(self) -> None:
        """Close it."""
        self._file.close()
        self._socket.close()
