"""Client libraries; they share no code with the broker's inside and need none of its dependencies."""

from megabroker.client.mega import (
    BadResponse,
    ConnectFailed,
    ConnectionLost,
    MessageClient,
    NotConnected,
    RequestTimedOut,
)

__all__ = [
    "BadResponse",
    "ConnectFailed",
    "ConnectionLost",
    "MessageClient",
    "NotConnected",
    "RequestTimedOut",
]
