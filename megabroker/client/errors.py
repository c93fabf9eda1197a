"""Everything that the clients of MEGA and cursus raise.

    ClientError
      NotConnected, ConnectFailed, ConnectionLost, BadResponse    also ConnectionError, and so OSError
      RequestTimedOut                                             also TimeoutError, and so OSError
      StreamOutOfStep, TooManyWaiting
      Refused                                                     the broker has said no; has its code
        InvalidRequest, MessageTooLarge, TopicNotFound, TopicExists, PartitionNotServed, InvalidOffset,
        NotAuthenticated, Overloaded, BrokerFailed

Arguments that are no such thing raise TypeError or ValueError before anything is sent.
"""

from __future__ import annotations

__all__ = [
    "BadResponse",
    "BrokerFailed",
    "ClientError",
    "ConnectFailed",
    "ConnectionLost",
    "InvalidOffset",
    "InvalidRequest",
    "MessageTooLarge",
    "NotAuthenticated",
    "NotConnected",
    "Overloaded",
    "PartitionNotServed",
    "Refused",
    "RequestTimedOut",
    "StreamOutOfStep",
    "TooManyWaiting",
    "TopicExists",
    "TopicNotFound",
]


class ClientError(Exception):
    """What a client raises.

    Attributes:
        may_be_done: whether the broker may have carried out what was asked, although nobody knows.
    """

    may_be_done: bool = False


class NotConnected(ClientError, ConnectionError):
    """There is no connection: ``connect`` was not called, or a failure or ``close`` has ended it."""


class ConnectFailed(ClientError, ConnectionError):
    """No connection after all attempts; the last attempt's error is the cause."""


class ConnectionLost(ClientError, ConnectionError):
    """The broker closed the connection, or the network did, before the answer was complete."""


class BadResponse(ClientError, ConnectionError):
    """The peer answered with something that is not the protocol; the message says what it may be."""


class RequestTimedOut(ClientError, TimeoutError):
    """No complete answer in time."""


class StreamOutOfStep(ClientError):
    """Messages of a cursus stream cannot be counted: the log has holes, or begins after the offset."""


class TooManyWaiting(ClientError):
    """So many requests wait for their turn already that this one was not taken."""


class Refused(ClientError):
    """The broker has understood, and said no.

    Attributes:
        code: the reason as the wire says it, such as ``TOPIC_NOT_FOUND``.
        detail: what the broker says of it; empty where the wire has codes only.
    """

    retriable: bool = False
    """Whether the same request may be granted later."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(detail or code)
        self.code = code
        self.detail = detail


class InvalidRequest(Refused):
    """The request is wrong, and stays so."""


class MessageTooLarge(Refused):
    """The message is larger than the broker takes."""


class TopicNotFound(Refused):
    """There is no such topic."""


class TopicExists(Refused):
    """There is such a topic already."""


class PartitionNotServed(Refused):
    """There is no such topic or partition, or it is not for who asks; ``detail`` says which."""


class InvalidOffset(Refused):
    """There is no message at the offset, nor after it."""


class NotAuthenticated(Refused):
    """The broker wants to know who asks, or does not believe it."""


class Overloaded(Refused):
    """Something is full, or the broker stops; nothing was stored."""

    retriable = True


class BrokerFailed(Refused):
    """The broker failed at it; whether it was carried out is unknown."""

    may_be_done = True
