"""Who was not let in, by address: the first times in full, then how often in so many seconds.

A client that is set up wrongly comes back at once, and for ever. Of one address a few different causes are
told in full; what comes after them, and every repeat, is counted and told once in ``_WINDOW_SECONDS``, until
the address has been quiet for as long. Addresses are bounded; those that find no room are counted together.

Pure: returns what is to be told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

__all__ = ["RefusedLogins"]

_WINDOW_SECONDS: Final = 10.0
_MAX_CAUSES: Final = 10
_MAX_ADDRESSES: Final = 1_000
_OTHERS: Final = "other addresses"


class _Address:
    """What was told of one address, and what was not.

    Attributes:
        since: when the present window began, in seconds.
        causes: those told in full since it last was quiet.
        kept_back: refusals in this window that were not told.
        last: the cause of the last one of these.
    """

    __slots__ = ("causes", "kept_back", "last", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.causes: set[str] = set()
        self.kept_back = 0
        self.last = ""


class RefusedLogins:
    """See the module."""

    def __init__(self) -> None:
        self._addresses: dict[str, _Address] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    def is_told(self, host: str, cause: str, now: float) -> bool:
        """Count a refusal; say whether it is to be told in full."""
        found = self._addresses.get(host)
        if found is None:
            if len(self._addresses) >= _MAX_ADDRESSES:
                host = _OTHERS
            found = self._addresses.setdefault(host, _Address(now))
        if host != _OTHERS and cause not in found.causes and len(found.causes) < _MAX_CAUSES:
            found.causes.add(cause)
            return True
        found.kept_back += 1
        found.last = cause
        return False

    def kept_back(self, now: float) -> Iterator[tuple[str, int, float, str]]:
        """Yield what windows that are over kept back: address, how many, in how many seconds, the last."""
        for host, found in list(self._addresses.items()):
            seconds = now - found.since
            if seconds < _WINDOW_SECONDS:
                continue
            if found.kept_back:
                yield host, found.kept_back, seconds, found.last
                found.since, found.kept_back = now, 0
            else:
                del self._addresses[host]
