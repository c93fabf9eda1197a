"""Nothing waits without a bound, and no peer harms another: queues, long frames, slow and hostile clients."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from megabroker.net.connection import BrokerConnection
from megabroker.testing.memory_network import Peer
from megabroker.testing.protocol.conversation import (
    TOPIC,
    Wire,
    expect_no_failures,
    join,
    requested,
    serving,
)

__all__ = [
    "check_full_queue",
    "check_hostile_bytes",
    "check_partial_frame",
    "check_too_long",
    "check_unread_answers",
]

_QUEUE_MESSAGES: Final = 10
_MESSAGES: Final = 300
_CHUNK_MESSAGES: Final = 5

_PARTIAL_SECONDS: Final = 5
_SLACK_SECONDS: Final = 5

_OUTPUT_BYTES: Final = 64 * 1024
_VALUE_BYTES: Final = 16 * 1024
_VALUES: Final = 16
_READS: Final = 400
_HELD_SLACK_BYTES: Final = 64 * 1024 + 256 * 1024 + 64 * 1024
"""What may be held beside ``limits.output_buffer_bytes``: Twisted's buffer, a slice, answers made at once."""

_HOSTILE: Final = 200


def check_full_queue(wire: Wire) -> None:
    """Fill a partition's queue while its disk is held up: the peer is not read on, and nothing is lost.

    Needs ``Wire.store``.

    Raises:
        AssertionError: more than the queue and what was under way is taken from the socket; or, once the disk
            goes on, messages are missing, repeated, in another order, or not answered.
    """
    store: Callable[[bytes], bytes] = requested(wire, "store")
    values = [b"message %d" % number for number in range(_MESSAGES)]
    requests = [store(value) for value in values]
    with serving(wire, {"partition_channel_buffer_size": _QUEUE_MESSAGES}) as broker:
        peer = join(broker, wire)
        peer.send(requests[0])
        one_answer = peer.take()
        if not one_answer:
            raise AssertionError(
                "a request of Wire.store is not answered: expected an answer once it is stored"
            )
        broker.disk.hold()
        for begin in range(1, _MESSAGES, _CHUNK_MESSAGES):
            peer.send(b"".join(requests[begin : begin + _CHUNK_MESSAGES]))
        unread = sum(map(len, requests[1:])) - peer.unsent_bytes
        allowed = (_QUEUE_MESSAGES + 4 * _CHUNK_MESSAGES) * max(map(len, requests))
        if peer.is_closed:
            raise AssertionError("the connection was closed when the partition's queue was full")
        if peer.transport.is_reading or unread > allowed:
            raise AssertionError(
                f"with a queue of {_QUEUE_MESSAGES} messages that is full, {unread} bytes of requests were "
                f"read and more would be: expected the socket not to be read on after about {allowed}; ask "
                "has_room before append, and wait for when_room"
            )
        broker.disk.release()
        broker.settle()
        answers = peer.take()
        found = [record.value for record in broker.records(TOPIC)]
        if found != values:
            raise AssertionError(
                f"{len(found)} messages are stored of {_MESSAGES} sent through a full queue, or not in the "
                f"order they were sent: {found[:20]}..."
            )
        if peer.unsent_bytes or not answers:
            raise AssertionError("the socket is not read on now that the queue has room")
        expect_no_failures(broker)


def check_too_long(wire: Wire) -> None:
    """Send a request that is longer than allowed: it is refused or its connection ends, no other does.

    Needs ``Wire.too_long``.
    """
    too_long: bytes = requested(wire, "too_long")
    with serving(wire) as broker:
        other = join(broker, wire)
        peer = join(broker, wire)
        peer.send(too_long)
        if not (peer.is_closed or peer.take()):
            raise AssertionError(
                "a request longer than allowed is neither refused nor is its connection closed: expected one "
                "of them as soon as the length is known; have the reader raise ProtocolError"
            )
        if other.is_closed:
            raise AssertionError("a request longer than allowed has closed another client's connection")
        expect_no_failures(broker)


def check_partial_frame(wire: Wire) -> None:
    """Begin a request and never finish it: the connection ends in time. Needs ``Wire.partial``."""
    partial: bytes = requested(wire, "partial")
    with serving(wire, {"limits": {"partial_frame_seconds": _PARTIAL_SECONDS}}) as broker:
        peer = join(broker, wire)
        peer.send(partial)
        states = [peer.is_closed]
        for seconds in (_PARTIAL_SECONDS - 1, 1 + _SLACK_SECONDS):
            broker.advance(seconds)
            states.append(peer.is_closed)
        match states:
            case [True, _, _]:
                raise AssertionError("Wire.partial closes the connection at once: expected a beginning")
            case [_, True, _]:
                raise AssertionError("an incomplete request closes the connection before its time")
            case [_, _, False]:
                raise AssertionError(
                    "an incomplete request keeps its connection for ever: expected it to be closed after "
                    f"limits.partial_frame_seconds, {_PARTIAL_SECONDS} here; does the reader say mid_frame?"
                )
        expect_no_failures(broker)


def check_unread_answers(wire: Wire) -> None:
    """Ask for much and read none of it: memory stays bounded, and all of it comes to who reads late.

    Needs ``Wire.read``.
    """
    expected = _read_all(wire, slowly=False)
    found = _read_all(wire, slowly=True)
    if found != expected:
        raise AssertionError(
            f"a client that reads late got {len(found)} bytes, one that reads at once {len(expected)}; they "
            "are to be the same"
        )


def _read_all(wire: Wire, *, slowly: bool) -> bytes:
    read: Callable[[int], bytes] = requested(wire, "read")
    with serving(wire, {"limits": {"output_buffer_bytes": _OUTPUT_BYTES}}) as broker:
        for _ in range(_VALUES):
            broker.append(TOPIC, [b"v" * _VALUE_BYTES])
        peer = join(broker, wire)
        if slowly:
            peer.pause()
        for number in range(_READS):
            peer.send(read(number))
            if slowly:
                _expect_bounded(peer)
        peer.resume()
        broker.settle()
        if peer.unsent_bytes:
            raise AssertionError("requests are left unread although every answer was read")
        if not peer.received:
            raise AssertionError("requests of Wire.read are not answered")
        expect_no_failures(broker)
        return peer.take()


def _expect_bounded(peer: Peer) -> None:
    held = len(peer.transport.written)
    protocol = peer.transport.protocol
    if isinstance(protocol, BrokerConnection):
        held = max(held, protocol.unread()[0])
    if held > _OUTPUT_BYTES + _HELD_SLACK_BYTES + _VALUES * _VALUE_BYTES:
        raise AssertionError(
            f"{held} bytes of answers wait for a peer that reads none: expected its requests not to be read "
            f"on after about limits.output_buffer_bytes, {_OUTPUT_BYTES} here"
        )


def check_hostile_bytes(wire: Wire, *, seed: int = 7, examples: int = _HOSTILE) -> None:
    """Send the conversation with bytes changed, repeated, left out: answered or closed, never a failure.

    Raises:
        AssertionError: a failure was logged, or the broker does not serve the next client.
    """
    dice = Random(seed)
    stream = b"".join(wire.conversation)
    with serving(wire) as broker:
        for _ in range(examples):
            data = _damaged(stream, dice)
            try:
                peer = join(broker, wire)
                peer.send(data)
                peer.reset()
            except Exception as error:
                raise AssertionError(f"{type(error).__name__} was raised at these bytes: {data!r}") from error
            if broker.failures:
                raise AssertionError(
                    f"a failure was logged at these bytes: {data!r}: {broker.failures[0]['log_failure']}"
                )
        broker.advance(_SLACK_SECONDS)
        if join(broker, wire).is_closed:
            raise AssertionError(f"after {examples} hostile connections no more are taken")
        expect_no_failures(broker)


def _damaged(stream: bytes, dice: Random) -> bytes:
    data = bytearray(stream)
    for _ in range(dice.randint(1, 5)):
        begin = dice.randrange(len(data) + 1)
        end = min(len(data), begin + dice.randint(1, 8))
        match dice.randrange(5):
            case 0:
                data[begin:end] = bytes(dice.randrange(256) for _ in range(end - begin))
            case 1:
                del data[begin:end]
            case 2:
                data[begin:begin] = data[begin:end]
            case 3:
                data[begin:end] = dice.choice((b"\xff", b"\0", b"\x7f", b"\n")) * (end - begin)
            case _:
                del data[begin:]
    return bytes(data)
