"""What the system knows of a connection: how many bytes went each way.

It counts them anyway, so that a broker need not. Source: ``struct tcp_info`` of Linux, whose fields keep
their places; elsewhere nothing is known.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any, Final, NamedTuple

__all__ = ["Traffic", "traffic_of"]

_ACKED_AND_RECEIVED: Final = struct.Struct("=QQ")
_ACKED_AT: Final = 120
_LENGTH: Final = 192


class Traffic(NamedTuple):
    """Bytes received from the peer, and sent so that it has taken them; None where that is not known."""

    received_bytes: int | None
    sent_bytes: int | None


def traffic_of(transport: Any) -> Traffic:
    """Return what went over a connection, TLS included."""
    handle = getattr(transport, "getHandle", None)
    plain = getattr(transport, "transport", None)
    found = handle() if handle is not None and not hasattr(transport, "TLS") else None
    for one in (found, getattr(transport, "socket", None), getattr(plain, "socket", None)):
        if isinstance(one, socket.socket) and sys.platform == "linux" and one.family != socket.AF_UNIX:
            try:
                info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LENGTH)
            except OSError:
                break
            if len(info) >= _ACKED_AT + _ACKED_AND_RECEIVED.size:
                acked, received = _ACKED_AND_RECEIVED.unpack_from(info, _ACKED_AT)
                return Traffic(received, acked)
    return Traffic(None, None)
