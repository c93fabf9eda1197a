"""Heart-beats: a line feed for the peer in time, and a peer that is silent for too long.

Owns the two timers of a connection. Source: STOMP 1.2, "Heart-beating": each side says what it can give and
what it wants, and the larger of the two numbers holds; 0 on either side is for none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from megabroker.errors import ErrorCode, RequestError

__all__ = ["Heart", "read_heart_beat"]

_IN_TIME: Final = 0.75
"""Beats go out somewhat more often than was agreed, as they take their time."""

_GRACE: Final = 2.0
"""How many times as long as agreed a peer may be silent, as the specification recommends some margin."""


def read_heart_beat(text: str | None) -> tuple[int, int]:
    """Return what the peer can give and wants, in milliseconds. Raises RequestError."""
    if text is None:
        return 0, 0
    parts = text.split(",")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) <= 9 for part in parts):
        raise RequestError(
            ErrorCode.INVALID_REQUEST,
            f"heart-beat {text[:100]!r}: expected two numbers of milliseconds, such as 10000,10000",
        )
    return int(parts[0]), int(parts[1])


class Heart:
    """The beats of one connection.

    Args:
        reactor: time and delayed calls.
        interval_ms: how often at most, both ways; 0 for never.
        peer: what the peer can give and wants.
        beat: sends a beat.
        heard: returns a number that grows whenever the peer has sent something.
        is_heard: says whether the peer is read at present.
        silent: called with why, once, when the peer was silent for too long.
    """

    def __init__(
        self,
        reactor: Any,
        interval_ms: int,
        peer: tuple[int, int],
        beat: Callable[[], None],
        heard: Callable[[], int],
        is_heard: Callable[[], bool],
        silent: Callable[[str], None],
    ) -> None:
        gives, wants = peer
        self._reactor = reactor
        self._sends_ms = max(interval_ms, wants) if interval_ms and wants else 0
        self._expects_ms = max(interval_ms, gives) if interval_ms and gives else 0
        self._beat = beat
        self._heard = heard
        self._is_heard = is_heard
        self._silent = silent
        self._last = -1
        self._calls: dict[Callable[[], None], Any] = {}

    def start(self) -> None:
        """Begin."""
        if self._sends_ms:
            self._later(self._send, self._sends_ms * _IN_TIME)
        if self._expects_ms:
            self._later(self._look, self._expects_ms * _GRACE)

    def stop(self) -> None:
        """End."""
        for call in self._calls.values():
            if call.active():
                call.cancel()
        self._calls.clear()

    def _later(self, call: Callable[[], None], milliseconds: float) -> None:
        self._calls[call] = self._reactor.callLater(milliseconds / 1000, call)

    def _send(self) -> None:
        self._later(self._send, self._sends_ms * _IN_TIME)
        self._beat()

    def _look(self) -> None:
        heard = self._heard()
        if heard == self._last and self._is_heard():
            self._silent(f"nothing came for {self._expects_ms * _GRACE / 1000:g} s, and no heart-beat")
            return
        self._last = heard
        self._later(self._look, self._expects_ms * _GRACE)
