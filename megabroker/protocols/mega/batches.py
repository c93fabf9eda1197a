"""Messages that are stored together, each answered with its own offset."""

from __future__ import annotations

from megabroker.errors import BrokerError
from megabroker.interfaces import IPartition
from megabroker.net.asked import Asked
from megabroker.net.wire import Answer
from megabroker.protocols.mega.codec import MAX_OFFSET, MegaError, Produce, encode_error, encode_produced
from megabroker.protocols.mega.errors import ERRORS, no_more_offsets

__all__ = ["Appended", "Batch"]


class Batch:
    """Messages for one topic gathered over a turn, and where their answers go.

    Attributes:
        slots: each slot with the index of the first request it answers; neighbours share one.
    """

    __slots__ = ("_answers", "_asked", "_missing", "partition", "requests", "size_bytes", "slots")

    def __init__(self, partition: IPartition, asked: Asked) -> None:
        self._asked = asked
        self.partition = partition
        self.requests: list[Produce] = []
        self.size_bytes = 0
        self.slots: list[tuple[Answer, int]] = []
        self._answers: list[bytes] = []
        self._missing = 0

    def expect_answers(self) -> None:
        """No more requests come."""
        self._asked.size_bytes = self.size_bytes
        self._asked.waits()
        self._missing = len(self.requests)
        self._answers = [b""] * self._missing

    def settle(self, first: int, count: int, base_offset: int, error: BrokerError | None) -> None:
        """Take the outcome of some of the requests; answer when all are known."""
        requests, answers = self.requests, self._answers
        if error is None:
            shift = base_offset - first
            for index in range(first, first + count):
                request = requests[index]
                answers[index] = encode_produced(request[0], request[2], index + shift)
        else:
            code = ERRORS.get(error.code, MegaError.INTERNAL_ERROR)
            for index in range(first, first + count):
                answers[index] = encode_error(requests[index][0], code)
        self._missing -= count
        if not self._missing:
            self._asked.answered(answers, len(answers))
            end = len(answers)
            for slot, begin in reversed(self.slots):
                slot_answers = answers[begin:end]
                end = begin
                slot.fill((b"".join(slot_answers),))


class Appended:
    """Part of a batch handed to the partition; ``done`` is what the partition calls."""

    __slots__ = ("base_offset", "batch", "count", "first")

    def __init__(self, batch: Batch, first: int, count: int) -> None:
        self.batch = batch
        self.first = first
        self.count = count
        self.base_offset = -1

    def done(self, error: BrokerError | None) -> None:
        """Settle."""
        self.batch.settle(self.first, self.count, self.base_offset, error)

    def stored(self, base_offset: int, error: BrokerError | None) -> None:
        """Settle what another process was given, if its offsets can be told."""
        self.base_offset = base_offset
        if error is None and base_offset + self.count > MAX_OFFSET:
            error = no_more_offsets()
        self.done(error)
