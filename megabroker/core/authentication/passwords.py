"""Passwords that come as they are, checked against what is kept for SCRAM.

Owns how many are checked at a time: each takes milliseconds of a processor, in a thread. What fitted lately
is remembered, so that clients that come again and again cost nothing of that; what is remembered is a hash
with a key of this process, and of use only while the user's credentials stay as they are.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredSemaphore

from megabroker.core.authentication.scram import DIGESTS, fits, nobodys
from megabroker.interfaces import ICredentials
from megabroker.model import ScramCredential

__all__ = ["Passwords"]

_AT_ONCE: Final = 2
_MAX_REMEMBERED: Final = 10_000
_FIRST: Final = next(iter(DIGESTS))


class Passwords:
    """Checks passwords.

    Args:
        run: calls a function in a thread; the Deferred fires with its result.
    """

    def __init__(self, credentials: ICredentials, run: Callable[..., Deferred[Any]]) -> None:
        self._credentials = credentials
        self._run = run
        self._slots = DeferredSemaphore(_AT_ONCE)
        self._key = secrets.token_bytes(32)
        self._fitted: dict[str, tuple[Mapping[str, ScramCredential], bytes]] = {}

    async def check(self, user: str, password: str) -> bool:
        """Say whether this is a user's password; for who is no user that takes as long."""
        kept = dict(self._credentials.of(user))
        is_known = bool(kept)
        hashed = hmac.digest(self._key, f"{user}\0{password}".encode(), "sha256")
        remembered = self._fitted.get(user)
        if remembered is not None and remembered[0] == kept and hmac.compare_digest(remembered[1], hashed):
            return True
        tried = kept or {_FIRST: nobodys(_FIRST, user)}
        found: bool = await self._slots.run(self._run, _any_fits, tried, password)
        if not (found and is_known and dict(self._credentials.of(user)) == kept):
            return False
        if len(self._fitted) >= _MAX_REMEMBERED:
            self._fitted.clear()
        self._fitted[user] = kept, hashed
        return True


def _any_fits(kept: Mapping[str, ScramCredential], password: str) -> bool:
    return any(fits(one, DIGESTS[mechanism], password) for mechanism, one in kept.items())
