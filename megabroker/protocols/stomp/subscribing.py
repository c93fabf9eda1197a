"""What SUBSCRIBE, UNSUBSCRIBE, ACK and NACK ask for, as their headers say it in each version.

Owns the reading of those frames, and which feed a subscription to a topic begins with; carries nothing out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from twisted.internet.defer import Deferred

from megabroker.errors import BrokerError, ErrorCode, RequestError
from megabroker.interfaces import IBroker, IRemotePartition
from megabroker.model import AcknowledgeType
from megabroker.protocols.reading import ReadCache
from megabroker.protocols.stomp.codec import Frame
from megabroker.protocols.stomp.feeds import EARLIEST, LATEST, TopicFeed
from megabroker.protocols.stomp.messages import Destination, number_in, read_destination, required
from megabroker.protocols.stomp.subscriptions import Subscription, Subscriptions

__all__ = [
    "Wanted",
    "acknowledged_by",
    "kind_of",
    "led_elsewhere",
    "look_at",
    "name_of",
    "topic_feed",
    "wanted",
]

_MODES: Final = ("auto", "client", "client-individual")
_OFFSETS: Final = {"earliest": EARLIEST, "latest": LATEST}


class Wanted(NamedTuple):
    """A subscription that is asked for; ``prefetch`` is 0 if the client leaves it to the broker."""

    name: str
    destination: Destination
    mode: str
    prefetch: int


def wanted(frame: Frame, version: str) -> Wanted:
    """Return what a SUBSCRIBE asks for. Raises RequestError."""
    destination = read_destination(frame)
    name = name_of(frame, version)
    mode = frame.headers.get("ack", "auto")
    if mode not in _MODES:
        raise RequestError(ErrorCode.INVALID_REQUEST, f"ack {mode[:100]!r}: expected {', '.join(_MODES)}")
    return Wanted(name, destination, mode, number_in(frame, "prefetch-count") or 0)


def name_of(frame: Frame, version: str) -> str:
    """Return the id of a subscription; in 1.0 it may be the destination. Raises RequestError."""
    if version == "1.0" and "id" not in frame.headers:
        return str(read_destination(frame))
    return required(frame, "id")


def topic_feed(
    frame: Frame, broker: IBroker, topic: str, cache: ReadCache, wake: Callable[[], None]
) -> TopicFeed:
    """Return what feeds a topic's subscription, from where it asks for. Raises BrokerError."""
    text = frame.headers.get("offset", "latest")
    offset = _OFFSETS.get(text)
    if offset is None:
        offset = number_in(frame, "offset")
    assert offset is not None
    return TopicFeed(broker, topic, cache, wake, number_in(frame, "partition"), offset)


def led_elsewhere(broker: IBroker, topic: str) -> Sequence[IRemotePartition]:
    """Return the partitions of a topic that other processes lead."""
    known = broker.topics.get(topic)
    count = 0 if known is None else known.partitions
    found = (broker.partitions.partition(topic, index) for index in range(count))
    return [one for one in found if not one.is_here]  # type: ignore[misc]


async def look_at(partitions: Sequence[IRemotePartition]) -> None:
    """Ask how far partitions are. Raises BrokerError."""
    for partition in partitions:
        looked: Deferred[None] = Deferred()
        partition.look(lambda error, looked=looked: _end(looked, error))  # type: ignore[misc]
        await looked


def kind_of(frame: Frame) -> int:
    """Return what an ACK or NACK says has become of its messages (``AcknowledgeType``)."""
    if frame.command == "ACK":
        return AcknowledgeType.ACCEPT
    is_gone = frame.headers.get("requeue") == "false"
    return AcknowledgeType.REJECT if is_gone else AcknowledgeType.RELEASE


def acknowledged_by(frame: Frame, version: str, among: Subscriptions) -> tuple[Subscription, str]:
    """Return whose message an ACK or NACK means, and its message-id. Raises RequestError."""
    if version == "1.2":
        return among.find_ack(required(frame, "id"))
    return among.find(frame.headers.get("subscription"), required(frame, "message-id"))


def _end(waiting: Deferred[None], error: BrokerError | None) -> None:
    if error is None:
        waiting.callback(None)
    else:
        waiting.errback(error)
