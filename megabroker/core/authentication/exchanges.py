"""The SASL mechanisms, each as an exchange: messages of the client in, answers out, and at the end who it is.

Owns the messages of PLAIN (RFC 4616) and OAUTHBEARER (RFC 7628); those of SCRAM are in ``scram``. Knows no
wire: what carries the messages is the protocol's business, and so are delays and what a refused client is
told.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from megabroker.core.authentication.passwords import Passwords
from megabroker.core.authentication.scram import ScramServer
from megabroker.errors import AuthenticationError
from megabroker.interfaces import ICredentials
from megabroker.model import Principal

if TYPE_CHECKING:
    from megabroker.core.authentication.tokens import Tokens

__all__ = ["Exchange", "OauthExchange", "PlainExchange", "ScramExchange", "Step"]

_USER: Final = "User"
_MAX_MESSAGE_BYTES: Final = 4096
"""Of PLAIN and SCRAM; it is kept while it waits for its turn, or for the proof."""

_NO_TOKEN: Final = b'{"status":"invalid_token"}'
_oauth = re.compile(
    rb"n,(?:a=((?:[^\x00,=]|=2C|=3D)+))?,\x01((?:[A-Za-z]+=[\x21-\x7e \t\r\n]+\x01)*)\x01"
).fullmatch
_bearer = re.compile(rb"(?i:bearer) +([-_~+/.a-zA-Z0-9]+=*)").fullmatch


class Step(NamedTuple):
    """What comes of one message.

    Attributes:
        answer: for the client.
        principal: who it is, once that is proven.
        expires_ms: until when that holds, since the epoch; None for as long as it likes.
    """

    answer: bytes
    principal: Principal | None = None
    expires_ms: int | None = None


class Exchange(Protocol):
    """One attempt of a client to say who it is.

    Attributes:
        mechanism: the name that SASL has for it.
        claimed: who the client says it is, for the log; empty while that is not known.
    """

    mechanism: str

    @property
    def claimed(self) -> str:
        """See above."""

    async def step(self, message: bytes) -> Step:
        """Take a message. Raises AuthenticationError, after which the exchange is of no more use."""


class PlainExchange:
    """PLAIN: one message with name and password."""

    mechanism = "PLAIN"

    def __init__(self, passwords: Passwords) -> None:
        self.claimed = ""
        self._passwords = passwords

    async def step(self, message: bytes) -> Step:
        """See ``Exchange.step``."""
        _check_length(message)
        try:
            parts = message.decode().split("\0")
        except UnicodeDecodeError:
            raise AuthenticationError("a message that is not UTF-8") from None
        if len(parts) != 3:
            raise AuthenticationError(f"a message of {len(parts)} parts: expected 3")
        authorization_id, user, password = parts
        self.claimed = user
        if not (user and password):
            raise AuthenticationError("no name, or no password")
        is_right = await self._passwords.check(user, password)
        if not is_right:
            raise AuthenticationError("wrong name or password")
        if authorization_id not in ("", user):
            raise AuthenticationError("an authorization id that is not the user's name")
        return Step(b"", Principal(_USER, user))


class ScramExchange:
    """SCRAM: a challenge, and proofs of both sides."""

    def __init__(self, mechanism: str, credentials: ICredentials) -> None:
        self.mechanism = mechanism
        self._server = ScramServer(mechanism, lambda user: credentials.of(user).get(mechanism))
        self._begun = False

    @property
    def claimed(self) -> str:
        """See ``Exchange``."""
        return self._server.user

    async def step(self, message: bytes) -> Step:
        """See ``Exchange.step``."""
        _check_length(message)
        if not self._begun:
            self._begun = True
            return Step(self._server.first(message))
        return Step(self._server.final(message), Principal(_USER, self._server.user))


class OauthExchange:
    """OAUTHBEARER: a token; of one that is refused the client is told in the exchange, and says so."""

    mechanism = "OAUTHBEARER"

    def __init__(self, tokens: Tokens) -> None:
        self.claimed = ""
        self._tokens = tokens
        self._refusal: AuthenticationError | None = None

    async def step(self, message: bytes) -> Step:
        """See ``Exchange.step``."""
        if self._refusal is not None:
            raise self._refusal
        match = _oauth(message)
        pairs = [] if match is None else [pair.partition(b"=") for pair in match[2].split(b"\x01") if pair]
        bearer = _bearer(next((value for key, _, value in pairs if key == b"auth"), b""))
        if match is None or bearer is None:
            raise AuthenticationError("a message that is not OAUTHBEARER's")
        try:
            token = await self._tokens.check(bearer[1].decode())
        except AuthenticationError as error:
            self._refusal = error
            return Step(_NO_TOKEN)
        self.claimed = token.user
        if match[1] is not None and _unquoted(match[1]) != token.user:
            raise AuthenticationError("an authorization id that is not the token's name")
        return Step(b"", Principal(_USER, token.user), token.expires_ms)


def _check_length(message: bytes) -> None:
    if len(message) > _MAX_MESSAGE_BYTES:
        raise AuthenticationError(f"a message of {len(message)} bytes: expected at most {_MAX_MESSAGE_BYTES}")


def _unquoted(name: bytes) -> str:
    return name.decode(errors="replace").replace("=2C", ",").replace("=3D", "=")
