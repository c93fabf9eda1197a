"""The log of single requests: one in so many, and those that take long.

Owns which are logged, and how many at most: a broker that is slow for all would else be slower still by
saying so. What is kept back is counted, and told once a second with the next line.

A fetch or a join that waits for data or for others is not slow for that: of what may wait for as long as its
client wants, only the rest counts. Produce requests that came in one turn and are alike are noted as one, by
the first of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger

__all__ = ["RequestLog"]

_log = Logger(namespace="megabroker.requests")

_LINES_A_SECOND: Final = 50
_PATIENT: Final = frozenset(
    {"Fetch", "ShareFetch", "JoinGroup", "SyncGroup", "ConsumerGroupHeartbeat", "CONSUME"}
)
_NEVER: Final = float("inf")


class RequestLog:
    """See the module, and ``megabroker.net.counts.RequestNotes``.

    Args:
        seconds: the time.

    Attributes:
        kept_back: requests that were not logged, for there were too many.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.kept_back = 0
        self._seconds = seconds
        self._every = 0
        self._slow_ms = _NEVER
        self._noted = 0
        self._since = 0.0
        self._lines = 0
        self._untold = 0

    def configure(self, every: int, slow_ms: int | None) -> None:
        """Log one request in ``every``, 0 for none, and each that takes ``slow_ms``, None for none."""
        self._every = every
        self._slow_ms = _NEVER if slow_ms is None else slow_ms

    @property
    def is_wanted(self) -> bool:
        """Whether there is anything to be logged."""
        return bool(self._every) or self._slow_ms != _NEVER

    def note(self, protocol: str, api: str, connection: Any, seconds: float, **about: Any) -> None:
        """Take note of a request that is answered."""
        self._noted += 1
        own_ms = seconds * 1000 - (about["waited_ms"] if api in _PATIENT else 0)
        is_slow = own_ms >= self._slow_ms
        if not is_slow and not (self._every and self._noted % self._every == 0):
            return
        if not self._has_room():
            return
        about["client_id"] = connection.client_id
        about["principal"] = connection.principal
        fields = {"protocol": protocol, "api": api, "peer": connection.peer, **about}
        milliseconds = round(seconds * 1000, 3)
        if is_slow:
            _log.warn(
                "slow-request: {protocol} {api} from {peer} took {milliseconds} ms",
                milliseconds=milliseconds,
                **fields,
            )
        else:
            _log.info(
                "request-answered: {protocol} {api} from {peer} took {milliseconds} ms",
                milliseconds=milliseconds,
                **fields,
            )

    def _has_room(self) -> bool:
        now = self._seconds()
        if now - self._since >= 1:
            self._since, self._lines = now, 0
            if self._untold:
                _log.warn("requests-kept-back: {count} more would have been logged", count=self._untold)
                self._untold = 0
        if self._lines >= _LINES_A_SECOND:
            self.kept_back += 1
            self._untold += 1
            return False
        self._lines += 1
        return True
