"""A Kafka client without opinions: it sends any request, however wrong, and shows the whole answer.

Requests are given as plain values, ``("CreateTopics", 7, {"topics": [{"name": "t"}]})``; what is left out has
the protocol's default. Answers are plain values too.
"""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Any

from megabroker.protocols.kafka.schema import fields as f
from megabroker.protocols.kafka.schema.headers import RequestHeader
from megabroker.protocols.kafka.schema.registry import APIS, request_header_version, response_header_version

__all__ = ["CLOSED", "SILENCE", "PlainClient", "Values"]

Values = dict[str, Any]

CLOSED: Values = {"connection": "closed"}
"""The answer to a request after which the broker closed the connection."""

SILENCE: Values = {"connection": "no answer"}
"""The answer to a request that got none in time."""

_BY_NAME = {api.name: api for api in APIS.values()}
_SECONDS = 10


class PlainClient:
    """One connection; it is opened anew after the broker closed it. Use it as a context manager."""

    def __init__(self, bootstrap: str) -> None:
        host, _, port = bootstrap.rpartition(":")
        self._address = host, int(port)
        self._connection: socket.socket | None = None
        self._correlation_id = 0

    def __enter__(self) -> PlainClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def ask(self, name: str, version: int, values: Values) -> Values:
        """Send a request and return its answer, ``CLOSED`` or ``SILENCE``."""
        api = _BY_NAME[name]
        self._correlation_id += 1
        header = RequestHeader(
            request_api_key=api.key,
            request_api_version=version,
            correlation_id=self._correlation_id,
            client_id="plain",
        )
        frame = header.encode(request_header_version(api.key, version))
        frame += _message(api.request, values).encode(version)
        try:
            answer = self._exchange(frame)
        except ConnectionError:
            self.close()
            return CLOSED
        except TimeoutError:
            self.close()
            return SILENCE
        start = 5 if response_header_version(api.key, version) else 4
        decoded, end = api.response.decode(answer, version, start)
        assert end == len(answer), f"{name} {version}: {len(answer) - end} bytes left over"
        return _plain(decoded, version)

    def _exchange(self, frame: bytes) -> bytes:
        if self._connection is None:
            self._connection = socket.create_connection(self._address, _SECONDS)
        self._connection.sendall(struct.pack(">i", len(frame)) + frame)
        (size,) = struct.unpack(">i", self._receive(4))
        return self._receive(size)

    def _receive(self, count: int) -> bytes:
        assert self._connection is not None
        data = b""
        while len(data) < count:
            chunk = self._connection.recv(count - len(data))
            if not chunk:
                raise ConnectionError("closed")
            data += chunk
        return data


def _message(kind: Any, values: Values) -> Any:
    """Return a message or struct with these values."""
    known = {field.name: field for field in kind.__schema__.fields}
    unknown = values.keys() - known.keys()
    assert not unknown, f"{kind.__module__} has no {', '.join(unknown)}"
    return kind(**{name: _value(known[name], value) for name, value in values.items()})


def _value(field: f.Field, value: Any) -> Any:
    if field.item is not None and value is not None:
        return [_value(field.item, one) for one in value]
    if field.struct is not None and value is not None:
        return _message(field.struct, value)
    return value


def _plain(value: Any, version: int) -> Any:
    """Return a message as plain values, without the fields that its version does not have."""
    if isinstance(value, f.Struct):
        return {
            field.name: _plain(getattr(value, field.name), version)
            for field in value.__schema__.fields
            if field.versions[0] <= version <= field.versions[1]
        }
    if isinstance(value, list):
        return [_plain(one, version) for one in value]
    return bytes(value) if isinstance(value, (memoryview, bytearray)) else value
