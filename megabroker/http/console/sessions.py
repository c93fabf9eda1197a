"""Who has logged in to the console, and the tokens in its forms.

Owns the sessions: so many at most, each of which ends when it is not used for long, when the user's password
is another or is removed, and with the broker. They are kept in memory only. Pure; the time is passed in.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final

import attrs

from megabroker.model import Principal

__all__ = ["FormTokens", "Session", "Sessions"]

_TOKEN_BYTES: Final = 32
_USERS: Final = 10
"""How many users have room for their sessions, however many one of them begins."""

_FORM_SECONDS: Final = 43_200
"""How long a form may be open before it is sent."""


@attrs.define
class Session:
    """One log-in.

    Attributes:
        token: what the browser shows, known to nobody else.
        credentials: what checked the password when it was checked.
        used: when it was used last, in seconds.
    """

    token: str
    principal: Principal
    credentials: Mapping[str, Any]
    used: float


class Sessions:
    """See the module.

    Args:
        seconds: the time.
        credentials: returns what checks a user's password now.
    """

    def __init__(self, seconds: Callable[[], float], credentials: Callable[[str], Mapping[str, Any]]) -> None:
        self._seconds = seconds
        self._credentials = credentials
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, principal: Principal, lasting_seconds: float, most: int) -> Session:
        """Return a new session; so many stay, the ones used last, a tenth of that for one user."""
        now = self._seconds()
        # The order of the dict is that in which they were used.
        for token, one in list(self._sessions.items()):
            if len(self._sessions) < most and one.used + lasting_seconds > now:
                break
            del self._sessions[token]
        own = [token for token, one in self._sessions.items() if one.principal == principal]
        for token in own[: max(len(own) + 1 - max(most // _USERS, 1), 0)]:
            del self._sessions[token]
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        session = Session(token, principal, dict(self._credentials(principal.name)), now)
        self._sessions[token] = session
        return session

    def find(self, token: str, lasting_seconds: float) -> Session | None:
        """Return the session that a browser shows, unless it has ended."""
        session = self._sessions.pop(token, None)
        if session is None:
            return None
        now = self._seconds()
        if session.used + lasting_seconds <= now:
            return None
        if dict(self._credentials(session.principal.name)) != session.credentials:
            return None
        session.used = now
        self._sessions[token] = session
        return session

    def end(self, token: str) -> None:
        """End a session, if there is one."""
        self._sessions.pop(token, None)


class FormTokens:
    """Tokens that show that a form comes from a page of this broker, made for whoever sends it.

    A token is the time at which it ends and a MAC over that and over whom it is for. Another web page cannot
    read a form, and what it gets for itself is not for the user of the browser it runs in.

    Args:
        seconds: the time.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._key = secrets.token_bytes(_TOKEN_BYTES)

    def make(self, whom: str) -> str:
        """Return a token for somebody."""
        ends = int(self._seconds()) + _FORM_SECONDS
        return f"{ends}.{self._mac(ends, whom)}"

    def holds(self, token: str, whom: str) -> bool:
        """Say whether a token is for somebody, and not too old."""
        text, _, mac = token.partition(".")
        if not (text.isascii() and text.isdigit() and len(text) <= 12):
            return False
        ends = int(text)
        is_it = hmac.compare_digest(mac.encode(), self._mac(ends, whom).encode())
        return is_it and ends > self._seconds()

    def _mac(self, ends: int, whom: str) -> str:
        return hmac.new(self._key, f"{ends}\0{whom}".encode(), sha256).hexdigest()
