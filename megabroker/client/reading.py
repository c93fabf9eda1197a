"""Where a reader of a partition is, and what it asks next; pure, for both kinds of clients.

MEGA answers with offsets, so several are asked for at a time and what comes twice is seen. cursus does not:
its messages are counted from the offset that was asked for. That is right as long as each offset has a
message, which holds for logs without compaction, transactions and batches that Kafka clients leave holes
with, read from an offset that is still kept. ``CursusReader`` begins each further CONSUME one message
early, and where that is not the one it had it stops, rather than give messages twice or pass some over.
Neighbours that are the same byte for byte it cannot tell apart; for them Kafka's wire is the one to use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from megabroker.client import cursus_requests
from megabroker.client.conversation import Message
from megabroker.client.errors import ClientError, ConnectionLost, InvalidOffset, Refused, StreamOutOfStep
from megabroker.client.mega_wire import Consume
from megabroker.client.retrying import NO_RETRY, Retry

__all__ = ["CursusReader", "MegaReader"]

_LONGEST_WINDOW: Final = 64
_SMALL_ROUND_BYTES: Final = 1 << 20


class MegaReader:
    """Reads a MEGA topic in rounds of several requests.

    Attributes:
        offset: of the next message.
        at_end: whether the last round came to the end of the topic.
    """

    def __init__(self, topic: str, offset: int) -> None:
        if offset < 0:
            raise ValueError(f"offset: expected 0 or more, not {offset}")
        self.offset = offset
        self.at_end = False
        self._topic = topic
        self._window = 1

    def requests(self) -> tuple[Consume, ...]:
        """Return what to ask for in the next round."""
        first = self.offset
        return tuple(
            Consume(self._topic, offset) for offset in range(first, min(first + self._window, 2**31))
        )

    def take(self, outcomes: Iterable[Message | Refused]) -> list[Message]:
        """Return the messages of a round that are new; it may have been cut short.

        Raises:
            Refused: there is nothing to read, for another reason than the end.
        """
        messages: list[Message] = []
        size_bytes = 0
        self.at_end = False
        for outcome in outcomes:
            if isinstance(outcome, Refused):
                # What was asked for after it may have been stored since: one must not go on behind a gap.
                self.at_end = isinstance(outcome, InvalidOffset)
                if self.at_end or messages:
                    break
                raise outcome
            if outcome.offset >= self.offset:
                messages.append(outcome)
                self.offset = outcome.offset + 1
                size_bytes += len(outcome.payload)
        is_small = size_bytes < _SMALL_ROUND_BYTES
        self._window = min(2 * self._window, _LONGEST_WINDOW) if is_small else max(1, self._window // 2)
        return messages


class CursusReader:
    """Reads a partition by one CONSUME after the other.

    Args:
        retry: how often a round that failed is tried without a new message in between.
        poll_seconds: how long to wait at the end of the partition; None to end there.

    Attributes:
        at_end: whether the last one brought nothing new.

    Raises:
        TypeError, ValueError: an argument is no such thing.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        *,
        retry: Retry = NO_RETRY,
        poll_seconds: float | None = None,
    ) -> None:
        self.at_end = False
        self._retry = retry
        self._pauses: Iterator[float] | None = None  # begun at the first failure after a new message
        self._poll_seconds = poll_seconds
        self._topic = topic
        self._partition = partition
        self._offset = offset  # of the next message
        self._last: bytes | None = None
        self._expects_last = False
        self._fresh = 0
        self._idle_rounds = 0
        self.request().text()  # what is wrong with the arguments is told here, not when it is asked

    def request(self) -> cursus_requests.Consume:
        """Begin a round, the first or one after ``round_over`` or a failure: return what to ask for."""
        self._expects_last = self._last is not None
        self._fresh = 0
        return cursus_requests.Consume(self._topic, self._partition, self._offset - self._expects_last)

    def take(self, payload: bytes) -> Message | None:
        """Return a message that is new. Raises StreamOutOfStep."""
        if self._expects_last:
            self._expects_last = False
            if payload != self._last:
                raise StreamOutOfStep(
                    f"{self._topic}/{self._partition}: offset {self._offset - 1} has another message than "
                    "the one counted as it: the log has holes, or begins later; Kafka's wire reads it"
                )
            return None
        message = Message(self._offset, payload)
        self._offset += 1
        self._fresh += 1
        self._pauses = None
        self._last = payload
        return message

    def round_over(self) -> bool:
        """End a round that did not fail; return whether the broker is known to have answered it.

        An answer of no messages looks like a broker that died before it began.
        """
        answered = not self._expects_last
        self._idle_rounds = 0 if self._fresh else self._idle_rounds + 1
        # With nothing ever seen there is nothing to recognise, so that has to happen twice.
        self.at_end = answered and self._idle_rounds > (self._last is None)
        return answered

    def pause_s(self, error: ClientError | None) -> float | None:
        """End a round, and say for how many seconds to wait before the next; None if there is to be none.

        Args:
            error: why the round failed, if it did for a reason that may pass.

        Raises:
            ClientError: that, or that the broker did not answer; it was tried often enough.
        """
        if error is None and not self.round_over():
            error = ConnectionLost("the broker closed the connection instead of answering")
        if error is None:
            return self._poll_seconds if self.at_end else 0.0
        if self._pauses is None:
            self._pauses = self._retry.pauses()
        pause_s = next(self._pauses, None)
        if pause_s is None:
            raise error
        return pause_s
