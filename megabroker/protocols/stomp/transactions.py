"""The transactions of one connection: what is kept between BEGIN and COMMIT, and how much of it.

Owns their names and the bound on all of them together. Whoever ends one has what was kept, and stores it or
gives it back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from megabroker.errors import ErrorCode, RequestError
from megabroker.protocols.stomp.codec import Frame
from megabroker.protocols.stomp.messages import Message, required
from megabroker.protocols.stomp.subscriptions import Acknowledged

__all__ = ["Transaction", "Transactions"]

_MOST: Final = 100
_ACK_BYTES: Final = 200  # memory of a message's acknowledgement


@attrs.define(eq=False)
class Transaction:
    """What was asked for between BEGIN and COMMIT."""

    messages: list[Message] = attrs.field(factory=list)
    acknowledged: list[Acknowledged] = attrs.field(factory=list)
    size_bytes: int = 0


class Transactions:
    """Those that have begun.

    Args:
        longest_bytes: how much all may keep together.
        met: called when that was too little.
    """

    def __init__(self, longest_bytes: int, met: Callable[[], None]) -> None:
        self._longest_bytes = longest_bytes
        self._met = met
        self._all: dict[str, Transaction] = {}
        self._size_bytes = 0

    def of(self, frame: Frame) -> Transaction | None:
        """Return the transaction a frame is part of, or None. Raises RequestError: there is no such one."""
        name = frame.headers.get("transaction")
        if name is None:
            return None
        found = self._all.get(name)
        if found is None:
            raise RequestError(
                ErrorCode.INVALID_REQUEST,
                f"transaction {name[:100]!r} has not begun: expected a BEGIN before",
            )
        return found

    def begin(self, frame: Frame) -> None:
        """Begin the one that BEGIN names. Raises RequestError."""
        name = required(frame, "transaction")
        if name in self._all:
            raise RequestError(ErrorCode.INVALID_REQUEST, f"transaction {name[:100]!r} has begun already")
        if len(self._all) >= _MOST:
            raise RequestError(ErrorCode.INVALID_REQUEST, f"more than {_MOST} transactions on one connection")
        self._all[name] = Transaction()

    def end(self, frame: Frame) -> Transaction:
        """Forget the one that COMMIT or ABORT names, and return it. Raises RequestError."""
        name = required(frame, "transaction")
        transaction = self.of(frame)
        assert transaction is not None
        del self._all[name]
        self._size_bytes -= transaction.size_bytes
        return transaction

    def keep_message(self, transaction: Transaction, message: Message) -> None:
        """Keep what was sent in one. Raises RequestError: it is too much."""
        self._keep(transaction, message.size_bytes)
        transaction.messages.append(message)

    def keep_acknowledged(self, transaction: Transaction, acknowledged: Acknowledged) -> None:
        """Keep what was acknowledged in one. Raises RequestError: it is too much."""
        subscription, taken, _ = acknowledged
        self._keep(transaction, _ACK_BYTES * len(taken))
        transaction.acknowledged.append(acknowledged)
        subscription.hold(taken)

    def _keep(self, transaction: Transaction, size_bytes: int) -> None:
        if self._size_bytes + size_bytes > self._longest_bytes:
            self._met()
            raise RequestError(
                ErrorCode.MESSAGE_TOO_LARGE,
                f"transactions of more than max_transaction_bytes, {self._longest_bytes}, on one connection",
            )
        transaction.size_bytes += size_bytes
        self._size_bytes += size_bytes

    def clear(self) -> None:
        """Forget all."""
        self._all.clear()
