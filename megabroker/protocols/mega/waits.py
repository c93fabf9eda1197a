"""Consumes of an offset that is accepted and not yet visible."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from megabroker.errors import BrokerError, Cold
from megabroker.interfaces import IPartition, IRemotePartition
from megabroker.net.asked import Asked
from megabroker.protocols.mega.codec import Consume, MegaError, encode_error
from megabroker.protocols.mega.errors import refusal
from megabroker.protocols.mega.reader import REQUEST_BYTES

if TYPE_CHECKING:
    from megabroker.protocols.mega.protocol import MegaConnection

__all__ = ["LookingWait", "Wait"]

_VISIBLE_WITHIN_SECONDS = 10.0


class Wait:
    """A CONSUME of an offset that is accepted and not yet visible."""

    def __init__(self, connection: MegaConnection, partition: IPartition, request: Consume) -> None:
        self.connection = connection
        self.partition = partition
        self.request = request
        self.slot = connection.reserve(REQUEST_BYTES)
        self._asked = Asked(connection, "CONSUME", -1, REQUEST_BYTES)
        self._asked.waits()
        self._timer: Any = connection.broker.reactor.callLater(_VISIBLE_WITHIN_SECONDS, self._expire)
        self._cancel: Callable[[], None] | None = None
        self._begin()

    def _begin(self) -> None:
        self._watch()

    def _watch(self) -> None:
        if self._cancel is None:
            self._cancel = self.partition.watch(self.try_again)

    def try_again(self) -> None:
        """Answer if it can be answered now."""
        if self not in self.connection.waits:
            return
        try:
            answer = self.connection.message_at(self.partition, self.request)
        except Cold as cold:
            cold.when_room(self.try_again)
            return
        if answer is not None:
            self._end(answer)
        else:
            self._watch()

    def _expire(self) -> None:
        self._end(encode_error(self.request.correlation_id, MegaError.INVALID_OFFSET))

    def _end(self, answer: bytes) -> None:
        self.stop()
        self.connection.waits.discard(self)
        self.slot.fill((answer,))
        self._asked.answered((answer,))
        if self.connection.broker.quotas.limits_clients:
            self.connection.count_consumed(len(answer))

    def stop(self) -> None:
        """Wait no longer."""
        if self._cancel is not None:
            self._cancel()
        if self._timer.active():
            self._timer.cancel()


class LookingWait(Wait):
    """A CONSUME from a partition led elsewhere, where it may be further than is known here."""

    def _begin(self) -> None:
        remote: IRemotePartition = self.partition  # type: ignore[assignment]
        remote.look(self._looked)

    def _looked(self, error: BrokerError | None) -> None:
        if error is None:
            self.try_again()
        elif self in self.connection.waits:
            self._end(refusal(self.request.correlation_id, error))

    def _expire(self) -> None:
        # Without a word from the leader nothing can be said about the offset.
        code = MegaError.NETWORK_ERROR if self._cancel is None else MegaError.INVALID_OFFSET
        self._end(encode_error(self.request.correlation_id, code))
