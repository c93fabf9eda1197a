"""Transactional ids that nobody uses any more, and their going.

Owns the sweep only. Must never forget an id that has the turn or an open transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.core.timers import TimerWheel
from megabroker.core.transactions import automaton
from megabroker.core.transactions.settings import TransactionSettings
from megabroker.core.transactions.transaction import TRANSACTIONS_TABLE
from megabroker.core.transactions.turns import Turns
from megabroker.model import Change

__all__ = ["Expiry"]

_log = Logger()

_EXPIRED_AT_ONCE = 1000


class Expiry:
    """Forgets idle ids, now and then.

    Args:
        write: stores changes, then calls back, then fires.
    """

    def __init__(
        self,
        timers: TimerWheel,
        turns: Turns,
        write: Callable[[Sequence[Change], Callable[[], None]], Deferred[None]],
        settings: TransactionSettings,
    ) -> None:
        self._timers = timers
        self._turns = turns
        self._write = write
        self._settings = settings

    def begin(self) -> None:
        """Sweep from now on, as often as the settings say."""
        if self._settings.check_interval_ms > 0:
            self._timers.call_later(self._settings.check_interval_ms, self._expire_now)

    def _expire_now(self) -> None:
        self.begin()
        self.expire(self._timers.now_ms()).addErrback(_log_failure)

    def expire(self, now_ms: int) -> Deferred[int]:
        """Forget ids that nobody has used for long; fire with how many, some thousand at a time."""
        expired = [
            entry
            for entry in self._turns
            if not entry.busy
            and automaton.is_expired(entry.transaction, self._settings.id_expiration_ms, now_ms)
        ][:_EXPIRED_AT_ONCE]

        def forget() -> None:
            for entry in expired:
                self._turns.forget(entry)

        def settle(result: object) -> object:
            for entry in expired:
                entry.busy = False
                self._turns.changed(entry)
            return result

        for entry in expired:
            entry.busy = True
        written = self._write([Change(TRANSACTIONS_TABLE, one.id, None) for one in expired], forget)
        return written.addBoth(settle).addCallback(lambda _: len(expired))


def _log_failure(failure: Failure) -> None:
    _log.failure("could not forget idle transactional ids", failure=failure)
