"""Client libraries; they share no code with the broker's inside.

Here are the blocking ones, which need the standard library only. Those on Twisted are
``megabroker.client.async_mega``, ``megabroker.client.async_cursus`` and ``megabroker.client.admin``.
"""

from megabroker.client.conversation import Message
from megabroker.client.cursus import CursusClient, Subscription
from megabroker.client.errors import (
    BadResponse,
    BrokerFailed,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    InvalidOffset,
    InvalidRequest,
    MessageTooLarge,
    NotAuthenticated,
    NotConnected,
    Overloaded,
    PartitionNotServed,
    Refused,
    RequestTimedOut,
    StreamOutOfStep,
    TooManyWaiting,
    TopicExists,
    TopicNotFound,
)
from megabroker.client.mega import MessageClient
from megabroker.client.retrying import Retry

__all__ = [
    "BadResponse",
    "BrokerFailed",
    "ClientError",
    "ConnectFailed",
    "ConnectionLost",
    "CursusClient",
    "InvalidOffset",
    "InvalidRequest",
    "Message",
    "MessageClient",
    "MessageTooLarge",
    "NotAuthenticated",
    "NotConnected",
    "Overloaded",
    "PartitionNotServed",
    "Refused",
    "RequestTimedOut",
    "Retry",
    "StreamOutOfStep",
    "Subscription",
    "TooManyWaiting",
    "TopicExists",
    "TopicNotFound",
]
