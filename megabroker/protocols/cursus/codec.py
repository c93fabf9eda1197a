"""The cursus wire, positional dialect, without I/O: request bodies in, values out; replies in, bytes out.

Owns the layout of a request body, the command syntax and every reply string. Framing is
``megabroker.codec.framing``, decompression ``megabroker.codec.compression``. Never knows a topic; raises
only ``ProtocolError``, and that only for a body after which the connection has to be closed.

    request   u32 N | body                 N excludes itself
    body      u16 T | T bytes topic field | payload
              or the text of a command, recognised by its first word
    response  u32 N | UTF-8 text           never compressed

A body that begins with a command word is text: as a topic length the first two letters of any command
word mean 17,000 bytes and more, which no topic name has. The payload of an enveloped body is a command
when its first word is one, whatever the letter case, and else a message for the topic field.

The later dialect is told apart here and taken apart in ``later``: a command whose first argument is
``name=value``, or whose word only that dialect has, and a batch. In an envelope with a topic field the
argument is needed, so that a message for the topic stays one; the words that both dialects have without an
argument are told apart by what the connection has spoken before.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from struct import Struct
from typing import Final, NamedTuple

from megabroker.codec.compression import CODEC_NUMBERS, decompress, gunzip
from megabroker.errors import ProtocolError
from megabroker.model import Buffer
from megabroker.protocols.cursus.later.batch import looks_like_batch
from megabroker.protocols.cursus.later.words import WORDS

__all__ = [
    "COMMANDS",
    "COMPRESSIONS",
    "Auth",
    "Command",
    "Consume",
    "Create",
    "Delete",
    "Exit",
    "Help",
    "Later",
    "LaterBatch",
    "ListTopics",
    "Publish",
    "Refused",
    "Reply",
    "Subscribe",
    "decode_body",
    "decompress_body",
    "encode_frame",
    "parse_command",
]

COMPRESSIONS: Final = ("none", "gzip", "snappy", "lz4")
"""How request bodies may be compressed, as the configuration says it."""

_LONGEST_AUTH_BYTES = 4096
_LONGEST_ECHO = 255  # characters of the peer's own words repeated in a reply

_U16 = Struct(">H")
_U32 = Struct(">I")
_first_pair = re.compile(rb"\s*\S+\s+[A-Za-z_][A-Za-z0-9_]*=").match
_behind_word = functools.partial(re.compile(rb"\s*\S+").sub, b"", count=1)
_number = re.compile(rb"[+-]?[0-9]{1,18}").fullmatch
_auth_words = re.compile(rb"\s*\S+\s+(\S+)[ \t](.+?)[\r\n]*", re.DOTALL).fullmatch
_publish = re.compile(rb"\s*\S+\s+(\S+)[ \t\r\n](.+)", re.DOTALL).fullmatch


class Reply:
    """Every reply of the broker, to be completed with ``str.format``."""

    CREATED: Final = "✅ Topic '{topic}' now has {partitions} partitions"
    DELETED: Final = "🗑️ Topic '{topic}' deleted"
    NO_TOPICS: Final = "(no topics)"
    SUBSCRIBED: Final = "✅ Subscribed to '{topic}'"
    PUBLISHED: Final = "📤 Published to '{topic}'"
    STORED: Final = "OK"
    HELP: Final = (
        "Available commands:\n"
        "CREATE <topic> [<partitions>]\n"
        "DELETE <topic>\n"
        "LIST\n"
        "SUBSCRIBE <topic>\n"
        "PUBLISH <topic> <message>\n"
        "CONSUME <topic> <pID> <offset>\n"
        "HELP\n"
        "EXIT"
    )
    HELP_AUTH: Final = HELP.replace("HELP\n", "AUTH <user> <password>\nHELP\n")
    AUTHENTICATED: Final = "✅ Authenticated as '{user}'"
    INVALID_AUTH: Final = "ERROR: invalid AUTH syntax: expected AUTH <user> <password>"
    AUTH_REQUIRED: Final = "ERROR: authentication required"
    AUTH_FAILED: Final = "ERROR: authentication failed"
    AUTH_AGAIN: Final = "ERROR: already authenticated as '{user}'"
    EMPTY_COMMAND: Final = "ERROR: empty command"
    UNKNOWN_COMMAND: Final = "ERROR: unknown command: {command}"
    MISSING_TOPIC: Final = "ERROR: missing topic name"
    INVALID_PARTITIONS: Final = "ERROR: partitions must be a positive integer"
    TOPIC_NOT_FOUND: Final = "ERROR: topic '{topic}' not found"
    TOPIC_MISSING: Final = "ERROR: topic '{topic}' does not exist"
    INVALID_TOPIC: Final = "ERROR: invalid topic name: {detail}"
    INVALID_PUBLISH: Final = "ERROR: invalid PUBLISH syntax: expected PUBLISH <topic> <message>"
    INVALID_CONSUME: Final = "ERROR: invalid CONSUME syntax: expected CONSUME <topic> <pID> <offset>"
    INVALID_PARTITION: Final = "ERROR: invalid partition ID"
    INVALID_OFFSET: Final = "ERROR: invalid offset"
    NO_DISK_HANDLER: Final = "ERROR: failed to get disk handler: {detail}"
    READ_FAILED: Final = "ERROR: failed to read messages from disk: {detail}"
    INVALID_FRAME: Final = "ERROR: invalid frame: {detail}"
    FAILED: Final = "ERROR: {detail}"


class Create(NamedTuple):
    """CREATE: a topic wanted with at least so many partitions, or with the broker's default."""

    topic: str
    partitions: int | None


class Delete(NamedTuple):
    """DELETE: a topic to remove."""

    topic: str


class ListTopics(NamedTuple):
    """LIST: the names of all topics wanted."""


class Subscribe(NamedTuple):
    """SUBSCRIBE: the client wants to hear of a topic."""

    topic: str


class Publish(NamedTuple):
    """A message to store, by PUBLISH or, when ``direct``, by the topic field of its frame."""

    topic: str
    message: bytes
    direct: bool


class Consume(NamedTuple):
    """CONSUME: a stream of messages wanted, from ``offset`` on."""

    topic: str
    partition: int
    offset: int


class Help(NamedTuple):
    """HELP: the list of commands wanted."""


class Auth(NamedTuple):
    """AUTH: who the client is; a command only where clients must say so."""

    user: str
    password: str


class Exit(NamedTuple):
    """EXIT: the client takes its leave; there is no reply."""


class Refused(NamedTuple):
    """A command that cannot be carried out, with the complete reply.

    Attributes:
        command: the command word, upper case, for the log.
        closes: whether the refusal ends a stream, that is, the connection.
    """

    command: str
    reply: str
    closes: bool = False


class Later(NamedTuple):
    """A command of the later dialect: its word, upper case, and the text of its parameters."""

    word: str
    text: bytes


class LaterBatch(NamedTuple):
    """A batch of messages to store, as it came."""

    body: bytes


Command = (
    Create
    | Delete
    | ListTopics
    | Subscribe
    | Publish
    | Consume
    | Help
    | Auth
    | Exit
    | Refused
    | Later
    | LaterBatch
)


def decompress_body(compression: str, body: Buffer, max_bytes: int) -> Buffer:
    """Undo the compression of one request body.

    Args:
        compression: one of ``COMPRESSIONS``. gzip is exactly one stream, snappy xerial's framing.
        max_bytes: the most the result may have.

    Raises:
        ProtocolError: the body is not compressed this way, is damaged, or expands beyond the bound.
    """
    if compression == "none":
        return body
    if compression == "gzip":
        return gunzip(body, max_bytes)
    return decompress(CODEC_NUMBERS[compression], body, max_bytes)


def decode_body(body: Buffer, *, auth: bool = False) -> Command:
    """Decode one request body, already decompressed.

    Args:
        auth: whether AUTH is a command too.

    Raises:
        ProtocolError: it is neither an envelope nor the text of a command.
    """
    data = bytes(body)
    if looks_like_batch(data):
        return LaterBatch(data)
    word = _first_word(data)
    if word in _LATER and (later := _later(data, word)) is not None:
        return later
    parsers = _PARSERS_WITH_AUTH if auth else _PARSERS
    if word in parsers or word == b"EXIT":
        return parse_command(data, auth=auth)
    if len(data) < 2:
        if not data:
            return Refused("", Reply.EMPTY_COMMAND)
        raise ProtocolError("body of 1 byte: expected a topic length or a command")
    (topic_length,) = _U16.unpack_from(data)
    start = 2 + topic_length
    if start > len(data):
        raise ProtocolError(
            f"topic field of {topic_length} bytes in a body of {len(data)}: expected a topic or a command"
        )
    payload = data[start:]
    word = _first_word(payload)
    if word in _LATER and (later := _later(payload, word, enveloped=topic_length > 0)) is not None:
        return later
    if topic_length == 0 or word in parsers:
        return parse_command(payload, auth=auth)
    return Publish(_text(data[2:start]), payload, True)


def parse_command(text: bytes, *, auth: bool = False) -> Command:
    """Parse the text of a command."""
    word = _first_word(text)
    parser = (_PARSERS_WITH_AUTH if auth else _PARSERS).get(word)
    if parser is not None:
        return parser(text)
    if word == b"EXIT":
        return Exit()
    words = text.split(None, 1)
    if not words:
        return Refused("", Reply.EMPTY_COMMAND)
    return Refused("UNKNOWN", Reply.UNKNOWN_COMMAND.format(command=_text(words[0])))


def encode_frame(text: str | Buffer) -> bytes:
    """Frame a reply or a message."""
    data = text.encode() if isinstance(text, str) else text
    return b"".join((_U32.pack(len(data)), data))


def _first_word(text: bytes) -> bytes:
    """Return the first word in upper case if it is short enough to be a command, else nothing."""
    words = text[:64].split(None, 1)
    return words[0].upper() if words else b""


def _later(text: bytes, word: bytes, *, enveloped: bool = False) -> Later | None:
    """Return a command as one of the later dialect, if it is."""
    if _first_pair(text) or (word not in _PARSERS and word != b"AUTH" and not enveloped):
        return Later(word.decode(), _behind_word(text))
    return None


def _text(raw: bytes) -> str:
    """Return what can be shown of the peer's bytes; whatever is not a name never equals one."""
    text = raw[: 4 * _LONGEST_ECHO].decode("utf-8", "replace")
    return text if len(text) <= _LONGEST_ECHO else text[:_LONGEST_ECHO] + "…"


def _create(text: bytes) -> Command:
    words = text.split(None, 3)
    if len(words) < 2:
        return Refused("CREATE", Reply.MISSING_TOPIC)
    partitions = None
    if len(words) > 2:
        partitions = int(words[2]) if _number(words[2]) else 0
        if partitions <= 0:
            return Refused("CREATE", Reply.INVALID_PARTITIONS)
    return Create(_text(words[1]), partitions)


def _delete(text: bytes) -> Command:
    words = text.split(None, 2)
    return Delete(_text(words[1])) if len(words) > 1 else Refused("DELETE", Reply.MISSING_TOPIC)


def _list(text: bytes) -> Command:
    return ListTopics()


def _subscribe(text: bytes) -> Command:
    words = text.split(None, 2)
    return Subscribe(_text(words[1])) if len(words) > 1 else Refused("SUBSCRIBE", Reply.MISSING_TOPIC)


def _publish_message(text: bytes) -> Command:
    match = _publish(text)
    if match is None:
        return Refused("PUBLISH", Reply.INVALID_PUBLISH)
    return Publish(_text(match[1]), match[2], False)


def _consume(text: bytes) -> Command:
    words = text.split(None, 4)
    if len(words) != 4:
        return Refused("CONSUME", Reply.INVALID_CONSUME)
    _, topic, partition, offset = words
    if not _number(partition) or int(partition) < 0:
        return Refused("CONSUME", Reply.INVALID_PARTITION, True)
    if not _number(offset) or int(offset) < 0:
        return Refused("CONSUME", Reply.INVALID_OFFSET, True)
    return Consume(_text(topic), int(partition), int(offset))


def _help(text: bytes) -> Command:
    return Help()


def _auth(text: bytes) -> Command:
    match = _auth_words(text) if len(text) <= _LONGEST_AUTH_BYTES else None
    try:
        return (
            Refused("AUTH", Reply.INVALID_AUTH)
            if match is None
            else Auth(match[1].decode(), match[2].decode())
        )
    except UnicodeDecodeError:
        return Refused("AUTH", Reply.INVALID_AUTH)


_PARSERS: Final[dict[bytes, Callable[[bytes], Command]]] = {
    b"CREATE": _create,
    b"DELETE": _delete,
    b"LIST": _list,
    b"SUBSCRIBE": _subscribe,
    b"PUBLISH": _publish_message,
    b"CONSUME": _consume,
    b"HELP": _help,
}

_PARSERS_WITH_AUTH: Final = {**_PARSERS, b"AUTH": _auth}

COMMANDS: Final = frozenset(word.decode() for word in _PARSERS)
"""The command words, upper case."""

_LATER: Final = frozenset(word.encode() for word in WORDS)
