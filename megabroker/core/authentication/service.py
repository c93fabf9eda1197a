"""Authentication as protocols use it: exchanges begun and stepped, passwords checked, refusals late.

Owns how long a refusal takes: so long from when the message came, whatever was wrong, so that neither the
time it takes tells what that was nor anybody can try many in a row.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from zope.interface import implementer

from megabroker.core.authentication.exchanges import (
    Exchange,
    OauthExchange,
    PlainExchange,
    ScramExchange,
    Step,
)
from megabroker.core.authentication.passwords import Passwords
from megabroker.errors import AuthenticationError
from megabroker.interfaces import IAuthentication, ICredentials
from megabroker.model import Principal

if TYPE_CHECKING:
    from megabroker.core.authentication.tokens import Tokens

__all__ = ["Authentication"]

_USER = "User"
_T = TypeVar("_T")


@implementer(IAuthentication)
class Authentication:
    """See ``IAuthentication``.

    Args:
        refusal_ms: returns how long a refusal takes at least.
        tokens: checks tokens; None where nobody may come with one.
        run: calls a function in a thread; the Deferred fires with its result.
    """

    def __init__(
        self,
        credentials: ICredentials,
        refusal_ms: Callable[[], int],
        reactor: Any,
        run: Callable[..., Deferred[Any]],
        tokens: Tokens | None = None,
    ) -> None:
        self._credentials = credentials
        self._refusal_ms = refusal_ms
        self._reactor = reactor
        self._tokens = tokens
        self._passwords = Passwords(credentials, run)

    def begin(self, mechanism: str) -> Exchange:
        """See ``IAuthentication.begin``."""
        if mechanism == PlainExchange.mechanism:
            return PlainExchange(self._passwords)
        if mechanism == OauthExchange.mechanism:
            assert self._tokens is not None
            return OauthExchange(self._tokens)
        return ScramExchange(mechanism, self._credentials)

    def step(self, exchange: Exchange, message: bytes) -> Deferred[Step]:
        """See ``IAuthentication.step``."""
        return Deferred.fromCoroutine(self._unhurried(exchange.step(message)))

    def password(self, user: str, password: str) -> Deferred[Principal]:
        """See ``IAuthentication.password``."""
        return Deferred.fromCoroutine(self._unhurried(self._password(user, password)))

    async def _password(self, user: str, password: str) -> Principal:
        if not await self._passwords.check(user, password):
            raise AuthenticationError("wrong name or password")
        return Principal(_USER, user)

    def token(self, text: str) -> Deferred[Principal]:
        """See ``IAuthentication.token``."""
        return Deferred.fromCoroutine(self._unhurried(self._token(text)))

    async def _token(self, text: str) -> Principal:
        if self._tokens is None:
            raise AuthenticationError("a token, where none are taken")
        return Principal(_USER, (await self._tokens.check(text)).user)

    async def _unhurried(self, asked: Awaitable[_T]) -> _T:
        """Wait for an outcome; refuse only when it is time."""
        began = self._reactor.seconds()
        try:
            return await asked
        except AuthenticationError:
            left = began + self._refusal_ms() / 1000 - self._reactor.seconds()
            if left > 0:
                await deferLater(self._reactor, left)
            raise
