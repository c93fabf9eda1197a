"""What a wire's bytes are, and what a broker makes of them.

A conversation is what a client sends, piece by piece: each piece goes out when all is answered that can be
answered to those before. Requests that are to be sent without waiting are one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import attrs

from megabroker.interfaces import IProtocolPlugin
from megabroker.model import Record
from megabroker.testing.memory_broker import MemoryBroker
from megabroker.testing.memory_network import Peer
from megabroker.testing.settings import merged

__all__ = ["TOPIC", "Outcome", "Wire", "expect_no_failures", "join", "requested", "serving", "talk"]

TOPIC = "harness"
"""The topic that requests of ``Wire.store`` and ``Wire.read`` are for. It has one partition and is there."""


@attrs.frozen(kw_only=True)
class Wire:
    """A protocol under test.

    Attributes:
        plugin: its descriptor.
        conversation: pieces that a client sends, which use as many of the protocol's requests as can be. What
            is answered must not depend on chance.
        settings: its section under ``protocols:``.
        config: other sections of the broker's configuration.
        topics: the topics that are there, and how many partitions they have; ``TOPIC`` always is.
        opening: what every connection begins with, if it must; also before the conversation.
        store: makes the request that stores a message, ASCII text, in partition 0 of ``TOPIC``, and is
            answered when that is done.
        read: makes a consumer's n-th request, from 0 on, all of the same: for the messages of partition 0 of
            ``TOPIC``, from the first on. Where messages are pushed it may be nothing but for 0.
        too_long: a request longer than the settings allow, or the beginning of one that says so.
        partial: the beginning of a request, which the rest never follows.
        constant: makes of an answer what is the same every time, where the time of day is in it.
    """

    plugin: IProtocolPlugin
    conversation: Sequence[bytes]
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    config: Mapping[str, Any] = attrs.field(factory=dict)
    topics: Mapping[str, int] = attrs.field(factory=dict)
    opening: bytes = b""
    store: Callable[[bytes], bytes] | None = None
    read: Callable[[int], bytes] | None = None
    too_long: bytes | None = None
    partial: bytes | None = None
    constant: Callable[[bytes], bytes] = bytes


class Outcome(NamedTuple):
    """What a conversation came to; equal if all of it is.

    Attributes:
        answers: what came back to the opening and to each piece.
        is_closed: whether the broker has closed the connection.
        records: what is stored after it, by topic and partition: (key, value, headers) of each record.
    """

    answers: tuple[bytes, ...]
    is_closed: bool
    records: Mapping[tuple[str, int], tuple[Any, ...]]


@contextmanager
def serving(wire: Wire, config: Mapping[str, Any] | None = None) -> Iterator[MemoryBroker]:
    """Run a broker with the wire's protocol and topics. Raises BrokerError."""
    with MemoryBroker(
        [wire.plugin], {wire.plugin.name: wire.settings}, merged(wire.config, config or {})
    ) as broker:
        for name, partitions in {TOPIC: 1, **wire.topics}.items():
            broker.create_topic(name, partitions)
        yield broker


def join(broker: MemoryBroker, wire: Wire) -> Peer:
    """Return a new client that has said what every connection begins with, and has heard the answer."""
    peer = broker.connect(wire.plugin.name)
    peer.send(wire.opening)
    peer.take()
    return peer


def talk(wire: Wire, cut: Callable[[int, bytes], Sequence[bytes]] = lambda _, piece: (piece,)) -> Outcome:
    """Have the conversation on a broker of its own.

    Args:
        cut: makes the chunks in which a piece is sent, of the piece and of where in the whole it begins.
    """
    with serving(wire) as broker:
        peer = broker.connect(wire.plugin.name)
        answers = []
        position = 0
        for piece in (wire.opening, *wire.conversation):
            peer.send(*cut(position, piece))
            position += len(piece)
            answers.append(peer.take())
        expect_no_failures(broker)
        return Outcome(tuple(answers), peer.is_closed, _stored(broker))


def expect_no_failures(broker: MemoryBroker) -> None:
    """Raise AssertionError if anything was logged with a traceback."""
    if broker.failures:
        raise AssertionError(f"a failure was logged: {broker.failures[0]['log_failure']}")


def requested(wire: Wire, what: str) -> Any:
    """Return an attribute of a wire that a check needs. Raises AssertionError if it was left out."""
    found = getattr(wire, what)
    if found is None:
        raise AssertionError(f"this check needs Wire({what}=...)")
    return found


def _stored(broker: MemoryBroker) -> dict[tuple[str, int], tuple[Any, ...]]:
    found = {}
    for topic in broker.broker.topics.all():
        for index in range(topic.partitions):
            records: list[Record] = broker.records(topic.name, index)
            if records:
                found[topic.name, index] = tuple((one.key, one.value, one.headers) for one in records)
    return found
