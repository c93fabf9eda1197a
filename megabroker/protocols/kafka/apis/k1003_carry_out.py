"""CarryOut (1003, between processes): carry out what a client has asked of another process.

**Behaviour.** The request is that of the client, wherever it is connected: its principal, its client id and
its quota of changes count. The answer is the one it gets, with how long it has to be muted. A request that is
not one of those which the controller carries out for all is a fault of the other process, and ends the
connection.
"""

from __future__ import annotations

import struct

from megabroker.errors import ProtocolError
from megabroker.model import Principal
from megabroker.protocols.kafka.answers import encode_answer
from megabroker.protocols.kafka.controlling import FORWARDED
from megabroker.protocols.kafka.dispatch import SERVED, Context
from megabroker.protocols.kafka.metering import Metered
from megabroker.protocols.kafka.schema import carry_out
from megabroker.protocols.kafka.schema.fields import Message
from megabroker.protocols.kafka.schema.headers import read_client_id

__all__ = ["handle"]

_HEAD = struct.Struct(">hhi")
_SIZE_BYTES = 4


class _Elsewhere:
    """Stands for the client's connection, which another process mutes."""

    def mute(self, milliseconds: int) -> None:
        """The answer tells of it."""


async def handle(context: Context, request: carry_out.Request) -> carry_out.Response:
    """Answer when the client's request is answered. Raises ProtocolError."""
    frame = memoryview(request.frame)
    key, version, correlation_id = _HEAD.unpack_from(frame)
    served = SERVED.get(key)
    if served is None or key not in FORWARDED or not served.first_version <= version <= served.last_version:
        raise ProtocolError(f"version {version} of API key {key} is not for the controller")
    decode, flexible = served.reader(version)
    client_id, pos = read_client_id(frame, len(frame), flexible)
    principal = Principal(request.principal_type, request.principal_name)
    meter = context.broker.quotas.meter(principal.name, client_id)
    metered = None if meter is None else Metered(_Elsewhere(), meter, key, version)
    client = Context(
        context.broker,
        context.settings,
        key,
        version,
        client_id,
        request.client_host,
        request.listener,
        principal,
        metered,
    )
    response = served.carry_out(client, decode(frame, pos, len(frame))[0])
    if not isinstance(response, Message):
        response = await response
    throttle_ms = 0
    if metered is not None and metered.mutations is not None:
        throttle_ms = metered.mutations.throttle_ms
        if throttle_ms and hasattr(response, "throttle_time_ms"):
            response.throttle_time_ms = throttle_ms
    answer = b"".join(map(bytes, encode_answer(response, key, version, correlation_id)))
    return carry_out.Response(throttle_ms=throttle_ms, frame=answer[_SIZE_BYTES:])
