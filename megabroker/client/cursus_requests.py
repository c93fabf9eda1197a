"""The commands of cursus's positional dialect, and what the replies to them say; pure.

A message goes by PUBLISH, never by the topic field of its frame: there a message that begins with a command's
word would be carried out.

The later dialect, whose arguments are ``key=value``, is to be a module like this one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from megabroker.client.cursus_wire import Command, StreamCommand
from megabroker.client.errors import (
    BadResponse,
    BrokerFailed,
    InvalidOffset,
    InvalidRequest,
    NotAuthenticated,
    PartitionNotServed,
    Refused,
    TopicNotFound,
)

__all__ = ["Auth", "Consume", "Create", "Delete", "Help", "ListTopics", "Publish", "Subscribe", "greeting"]

_REFUSED: Final[Sequence[tuple[re.Pattern[str], str, type[Refused]]]] = [
    (re.compile(text), code, kind)
    for text, code, kind in (
        ("missing topic name", "MISSING_TOPIC", InvalidRequest),
        ("partitions must be a positive integer", "INVALID_PARTITIONS", InvalidRequest),
        ("topic '.*' (not found|does not exist)", "TOPIC_NOT_FOUND", TopicNotFound),
        ("invalid topic name", "INVALID_TOPIC", InvalidRequest),
        ("invalid [A-Z]+ syntax", "INVALID_SYNTAX", InvalidRequest),
        ("invalid partition ID", "INVALID_PARTITION", InvalidRequest),
        ("invalid offset", "INVALID_OFFSET", InvalidOffset),
        ("invalid frame", "INVALID_FRAME", InvalidRequest),
        ("failed to get disk handler", "NO_DISK_HANDLER", PartitionNotServed),
        ("failed to read messages from disk", "READ_FAILED", BrokerFailed),
        ("empty command", "EMPTY_COMMAND", InvalidRequest),
        ("unknown command", "UNKNOWN_COMMAND", InvalidRequest),
        ("authentication required", "AUTHENTICATION_REQUIRED", NotAuthenticated),
        ("authentication failed", "AUTHENTICATION_FAILED", NotAuthenticated),
        ("already authenticated", "ALREADY_AUTHENTICATED", InvalidRequest),
    )
]
"""What follows ``ERROR: ``; whatever is not here is FAILED, with the broker's own words."""

_ERROR: Final = b"ERROR: "
_NOT_AUTHENTICATED: Final = b"ERROR: authentication required"
_ends_a_stream = re.compile(
    rb"ERROR: (invalid partition ID|invalid offset|invalid frame|failed to get disk handler"
    rb"|failed to read messages from disk)"
).match
_created = re.compile(r"✅ Topic '.*' now has (\d{1,9}) partitions").match
_one_word = re.compile(r"\S{1,1000}").fullmatch


def _word(name: str, value: object) -> bytes:
    """Return what fits between blanks. Raises TypeError, ValueError."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a str, not {type(value).__name__} {value!r:.60}")
    if not _one_word(value):
        raise ValueError(f"{name}: expected 1 to 1000 characters without spaces, not {value!r:.60}")
    return value.encode()


def _number(name: str, value: object, lowest: int) -> bytes:
    if not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, not {type(value).__name__} {value!r:.60}")
    if not lowest <= value < 10**18:
        raise ValueError(f"{name}: expected {lowest} or more, and 18 digits at most, not {value}")
    return b"%d" % value


def _read(frame: bytes) -> str | Refused:
    """Return a reply, or the refusal that it is. Raises BadResponse."""
    try:
        text = frame.decode()
    except UnicodeDecodeError as error:
        raise BadResponse(f"a reply that is no text: {frame[:60]!r}") from error
    return _refusal(text) if frame.startswith(_ERROR) else text


def _refusal(text: str) -> Refused:
    detail = text.removeprefix("ERROR: ")
    for pattern, code, kind in _REFUSED:
        if pattern.match(detail):
            return kind(code, detail)
    return Refused("FAILED", detail)


def _confirmed(frame: bytes, *beginnings: str) -> Refused | None:
    """Return None for a reply that begins so. Raises BadResponse: it is neither that nor a refusal."""
    reply = _read(frame)
    if isinstance(reply, Refused):
        return reply
    if not reply.startswith(beginnings):
        raise BadResponse(f"reply {reply[:60]!r}: expected {beginnings[0]!r}")
    return None


@dataclass(frozen=True, slots=True)
class Create(Command[int]):
    """A topic wanted with at least so many partitions, or the broker's default; answered with how many."""

    repeatable: ClassVar[bool] = True
    topic: str
    partitions: int | None = None

    def text(self) -> bytes:
        """Return the command."""
        words = [b"CREATE", _word("topic", self.topic)]
        if self.partitions is not None:
            words.append(_number("partitions", self.partitions, 1))
        return b" ".join(words)

    def read(self, frame: bytes) -> int | Refused:
        """Return the number of partitions."""
        reply = _read(frame)
        if isinstance(reply, Refused):
            return reply
        found = _created(reply)
        if found is None:
            raise BadResponse(f"reply {reply[:60]!r}: expected a number of partitions")
        return int(found[1])


@dataclass(frozen=True, slots=True)
class Delete(Command[None]):
    """A topic to remove; repeated, it may remove one that was made since."""

    topic: str

    def text(self) -> bytes:
        """Return the command."""
        return b"DELETE " + _word("topic", self.topic)

    def read(self, frame: bytes) -> Refused | None:
        """Return None."""
        return _confirmed(frame, "🗑")


@dataclass(frozen=True, slots=True)
class ListTopics(Command[list[str]]):
    """The names of all topics wanted."""

    repeatable: ClassVar[bool] = True

    def text(self) -> bytes:
        """Return the command."""
        return b"LIST"

    def read(self, frame: bytes) -> list[str] | Refused:
        """Return the names."""
        reply = _read(frame)
        if isinstance(reply, Refused):
            return reply
        return [] if reply == "(no topics)" else reply.split(", ")


@dataclass(frozen=True, slots=True)
class Publish(Command[None]):
    """A message to store; within 30 minutes a repeat is recognised, unless ``dedup.scope`` is off."""

    repeatable: ClassVar[bool] = True
    topic: str
    message: bytes

    def text(self) -> bytes:
        """Return the command."""
        if not self.message:
            raise ValueError("message: expected at least one byte; cursus has no empty messages")
        return b" ".join((b"PUBLISH", _word("topic", self.topic), self.message))

    def read(self, frame: bytes) -> Refused | None:
        """Return None."""
        return _confirmed(frame, "📤 Published to ", "OK")


@dataclass(frozen=True, slots=True)
class Help(Command[str]):
    """The broker's list of commands wanted."""

    repeatable: ClassVar[bool] = True

    def text(self) -> bytes:
        """Return the command."""
        return b"HELP"

    def read(self, frame: bytes) -> str | Refused:
        """Return the list."""
        return _read(frame)


@dataclass(frozen=True, slots=True)
class Auth(Command[None]):
    """Who the client is; the password is not shown."""

    repeatable: ClassVar[bool] = True
    user: str
    password: str

    def __repr__(self) -> str:
        return f"Auth(user={self.user!r})"

    def text(self) -> bytes:
        """Return the command."""
        if not self.password or self.password[-1] in "\r\n":
            raise ValueError(
                "password: expected a password that is not empty and does not end with a newline"
            )
        return b" ".join((b"AUTH", _word("user", self.user), self.password.encode()))

    def read(self, frame: bytes) -> Refused | None:
        """Return None."""
        return _confirmed(frame, "✅ Authenticated as ")


@dataclass(frozen=True, slots=True)
class Consume(StreamCommand[bytes]):
    """The messages of a partition wanted, from an offset on: 8,192 at most, then the stream ends.

    A message that is the last of its stream and reads like one of the errors that end streams is taken for
    it; the wire does not tell them apart.
    """

    repeatable: ClassVar[bool] = True
    ends: ClassVar[bool] = True
    topic: str
    partition: int
    offset: int

    def text(self) -> bytes:
        """Return the command."""
        partition, offset = _number("partition", self.partition, 0), _number("offset", self.offset, 0)
        return b" ".join((b"CONSUME", _word("topic", self.topic), partition, offset))

    def read(self, frame: bytes) -> bytes:
        """Return the message."""
        return frame

    def refusal(self, frame: bytes, is_first: bool) -> Refused | None:
        """Return the error that a frame may be."""
        if _ends_a_stream(frame) or (is_first and frame == _NOT_AUTHENTICATED):
            return _refusal(frame.decode("utf-8", "replace"))
        return None

    def opening(self, frame: bytes) -> bool:
        """Say whether it is the refusal after which the broker does not close."""
        return frame == _NOT_AUTHENTICATED


@dataclass(frozen=True, slots=True)
class Subscribe(StreamCommand[bytes]):
    """What is published to a topic from now on wanted; comes if the broker has ``subscribe_push``."""

    repeatable: ClassVar[bool] = True
    ends: ClassVar[bool] = False
    topic: str

    def text(self) -> bytes:
        """Return the command."""
        return b"SUBSCRIBE " + _word("topic", self.topic)

    def read(self, frame: bytes) -> bytes:
        """Return the message."""
        return frame

    def refusal(self, frame: bytes, is_first: bool) -> Refused | None:
        """Return why nothing will come; only the first frame can say so."""
        return _confirmed(frame, "✅ Subscribed to ") if is_first else None

    def opening(self, frame: bytes) -> bool:
        """The first frame is the reply."""
        return True


def greeting(user: str | None, password: str | None) -> tuple[Auth, ...]:
    """Return what is said first on each connection. Raises ValueError: one of the two is missing."""
    if user is None and password is None:
        return ()
    if user is None or password is None:
        raise ValueError("expected user and password, or neither")
    auth = Auth(user, password)
    auth.text()
    return (auth,)
