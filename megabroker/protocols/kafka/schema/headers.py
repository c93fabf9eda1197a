"""What leads every request and response frame, after its int32 size.

Owns both headers and the rule that tells their versions.

    request   int16 key | int16 version | int32 correlation id | nullable int16 string client id (1, 2)
              | tagged fields (2)
    response  int32 correlation id | tagged fields (1)

The client id keeps its int16 length in version 2 as well, so that it can be read before the rest of
the request is understood. Invariant: the header of a request is found from its first four bytes alone,
and also for a version that nobody knows yet.
"""

from __future__ import annotations

import struct
from typing import Final

from megabroker.codec.primitives import Buffer
from megabroker.errors import ProtocolError
from megabroker.protocols.kafka.schema import fields as f
from megabroker.protocols.kafka.schema.registry import API_VERSIONS, APIS, request_header_version

__all__ = [
    "RequestHeader",
    "ResponseHeader",
    "encode_response_header",
    "read_client_id",
    "read_request_header",
]

_KEY_AND_VERSION: Final = struct.Struct(">hh")
_LENGTH: Final = struct.Struct(">h")
_CLIENT_ID_POS: Final = 8
_CORRELATION_ID: Final = struct.Struct(">i")
_CORRELATION_ID_AND_TAGS: Final = struct.Struct(">ib")
_NEVER: Final = 32768
_FIRST_TAGGED: Final = {
    key: _NEVER if api.first_flexible is None or key == API_VERSIONS else api.first_flexible
    for key, api in APIS.items()
}
"""The first version whose answers are led by tagged fields, as ``response_header_version`` has it."""


class RequestHeader(f.Message, versions="0-2", flexible="2+"):
    request_api_key: int = f.int16()
    request_api_version: int = f.int16()
    correlation_id: int = f.int32()
    client_id: str | None = f.string("1+", nullable="1+", legacy=True)


class ResponseHeader(f.Message, versions="0-1", flexible="1+"):
    correlation_id: int = f.int32()


def read_request_header(data: Buffer, pos: int, end: int) -> tuple[RequestHeader, int]:
    """Read the header of any request in ``data[pos:end]``; gives it and the position of the body.

    Raises:
        ProtocolError: when it is cut off or damaged.
    """
    if end - pos < _KEY_AND_VERSION.size:
        raise ProtocolError("truncated request header")
    key, version = _KEY_AND_VERSION.unpack_from(data, pos)
    return RequestHeader.decoder(request_header_version(key, version))(data, pos, end)


def read_client_id(data: Buffer, end: int, flexible: bool) -> tuple[str, int]:
    """Read the header of a request that fills ``data`` from its beginning, whose first eight bytes are known.

    Returns:
        The client id, empty where there is none, and the position of the body.

    Raises:
        ProtocolError: where ``read_request_header`` would; it is the general way, and this one's test.
    """
    try:
        (length,) = _LENGTH.unpack_from(data, _CLIENT_ID_POS)
        pos = _CLIENT_ID_POS + 2
        client_id = ""
        if length > 0:
            stop = pos + length
            if stop > end:
                raise ProtocolError("truncated client id")
            client_id = str(data[pos:stop], "utf-8")
            pos = stop
        elif length < -1:
            raise ProtocolError("the client id has a negative length")
        if flexible:
            if data[pos]:
                from megabroker.protocols.kafka.schema.compiler import skip_tags

                return client_id, skip_tags(data, pos, end)
            pos += 1
    except (IndexError, struct.error):
        raise ProtocolError("truncated request header") from None
    except UnicodeDecodeError:
        raise ProtocolError("the client id is not UTF-8") from None
    return client_id, pos


def encode_response_header(key: int, version: int, correlation_id: int) -> bytes:
    """Encode the header that leads the answer to a request of this key and version."""
    if version >= _FIRST_TAGGED.get(key, _NEVER):
        return _CORRELATION_ID_AND_TAGS.pack(correlation_id, 0)
    return _CORRELATION_ID.pack(correlation_id)
