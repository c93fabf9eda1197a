"""Published messages gathered over a turn, until they are handed to a partition."""

from __future__ import annotations

import attrs

from megabroker.interfaces import IPartition
from megabroker.net.wire import Answer

__all__ = ["Batch", "Message"]


@attrs.frozen
class Message:
    """A published message, the reply it gets once it is stored, and when it came by the monotonic clock."""

    message_id: int
    data: bytes
    slot: Answer
    reply: bytes
    since: float


class Batch:
    """Messages for one partition gathered over a turn."""

    __slots__ = ("messages", "partition", "size_bytes", "topic")

    def __init__(self, topic: str, partition: IPartition) -> None:
        self.topic = topic
        self.partition = partition
        self.messages: list[Message] = []
        self.size_bytes = 0
