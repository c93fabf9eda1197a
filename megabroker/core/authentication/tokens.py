"""Tokens (JSON Web Tokens, RFC 7519) that an identity provider has signed, and the keys to check them by (RFC
7517).

Owns which tokens are good and for how long. Keys come from a file or a URL, are read in a thread, kept, and
read again now and then and when a token names one that is not known, but never twice within seconds. Keys
that cannot be read again stay in force.

Invariant: only signatures by which the provider alone can sign count; ``none`` and shared secrets never do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from megabroker.errors import AuthenticationError

__all__ = ["KeySet", "Token", "TokenRules", "Tokens", "read_keys"]

_log = Logger()

_ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
_KEY_TYPES: Final = frozenset({"RSA", "EC", "OKP"})
_MAX_KEYS_BYTES: Final = 1 << 20
_FETCH_SECONDS: Final = 10
_AGAIN_SECONDS: Final = 10
_LONGEST_NAME_CHARS: Final = 1024


@attrs.frozen(kw_only=True)
class TokenRules:
    """Which tokens are taken.

    Attributes:
        issuer: who must have made it.
        audiences: whom it must be for, one of these; empty for whomever.
        name_claim: the claim that says who the client is.
        skew_ms: how far the provider's clock may be off.
    """

    issuer: str | None
    audiences: tuple[str, ...]
    name_claim: str
    skew_ms: int


class Token(NamedTuple):
    """What a good token says; ``expires_ms`` is since the epoch."""

    user: str
    expires_ms: int


class KeySet:
    """The keys of a provider.

    Args:
        read: returns the keys by their ids; called in a thread. Raises OSError, ValueError.
        refresh_seconds: how old they may get.
        run: calls a function in a thread; the Deferred fires with its result.
        seconds: the time.
    """

    def __init__(
        self,
        read: Callable[[], Mapping[str | None, Any]],
        refresh_seconds: float,
        run: Callable[..., Deferred[Any]],
        seconds: Callable[[], float],
    ) -> None:
        self._read = read
        self._refresh_seconds = refresh_seconds
        self._run = run
        self._seconds = seconds
        self._keys: Mapping[str | None, Any] = {}
        self._read_at: float | None = None
        self._waiting: list[Deferred[None]] | None = None

    async def get(self, key_id: str | None) -> Any:
        """Return a key; None if there is none of that id, or no id is given and there are several."""
        is_missing = self._find(key_id) is None
        if self._is_older_than(_AGAIN_SECONDS if is_missing else self._refresh_seconds):
            await self._read_again()
        return self._find(key_id)

    def _find(self, key_id: str | None) -> Any:
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    def _is_older_than(self, seconds: float) -> bool:
        return self._read_at is None or self._seconds() - self._read_at >= seconds

    async def _read_again(self) -> None:
        """Read, or wait for who is reading."""
        if self._waiting is not None:
            done: Deferred[None] = Deferred()
            self._waiting.append(done)
            await done
            return
        self._waiting = []
        try:
            self._keys = await self._run(self._read)
        except (OSError, ValueError) as error:
            _log.error("the keys of tokens cannot be read: {error}", error=str(error), kept=len(self._keys))
        finally:
            self._read_at = self._seconds()
            waiting, self._waiting = self._waiting, None
            for one in waiting:
                one.callback(None)


class Tokens:
    """Checks tokens.

    Args:
        rules: returns those in force.
        now_ms: the time in milliseconds since the epoch.
    """

    def __init__(self, keys: KeySet, rules: Callable[[], TokenRules], now_ms: Callable[[], int]) -> None:
        self._keys = keys
        self._rules = rules
        self._now_ms = now_ms

    async def check(self, text: str) -> Token:
        """Return what a token says. Raises AuthenticationError."""
        import jwt

        rules = self._rules()
        try:
            head = jwt.get_unverified_header(text)
            if head.get("alg") not in _ALGORITHMS:
                raise AuthenticationError("a token with an unsupported signature algorithm")
            key = await self._keys.get(head.get("kid"))
            if key is None:
                raise AuthenticationError("a token signed by an unknown key")
            claims = jwt.decode(
                text,
                key,
                algorithms=_ALGORITHMS,
                issuer=rules.issuer,
                audience=rules.audiences or None,
                options={
                    "require": ["exp", rules.name_claim],
                    "verify_aud": bool(rules.audiences),
                    # By our own clock, below.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, RecursionError) as error:  # PyJWT 2.9 raises the latter
            raise AuthenticationError(f"an invalid token: {error}") from None
        return self._read(claims, rules)

    def _read(self, claims: Mapping[str, Any], rules: TokenRules) -> Token:
        now_ms, name = self._now_ms(), claims[rules.name_claim]
        times = {claim: claims[claim] for claim in ("exp", "nbf", "iat") if claim in claims}
        if not all(type(at) in (int, float) and abs(at) < 1 << 40 for at in times.values()):
            raise AuthenticationError("a token with a time that is not a number")
        expires_ms = int(times.pop("exp") * 1000)
        if expires_ms + rules.skew_ms <= now_ms:
            raise AuthenticationError("a token that has expired")
        if any(at * 1000 - rules.skew_ms > now_ms for at in times.values()):
            raise AuthenticationError("a token that is not valid yet")
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME_CHARS:
            raise AuthenticationError("a token without a user name")
        return Token(name, expires_ms)


def read_keys(source: str) -> dict[str | None, Any]:
    """Return the keys of a JSON Web Key Set in a file or at a URL, by their ids. Blocking.

    Keys that cannot sign as it must be done here are left out.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none, or holds no key of use.
    """
    import jwt

    if source.startswith(("https://", "http://")):
        data = _fetched(source)
        source = source.partition("?")[0]  # what is behind it may be a secret, and is told nobody
    else:
        with open(source, "rb") as file:
            data = file.read(_MAX_KEYS_BYTES + 1)
    if len(data) > _MAX_KEYS_BYTES:
        raise ValueError(f"{source}: more than {_MAX_KEYS_BYTES} bytes")
    try:
        found = json.loads(data)
    except RecursionError:
        raise ValueError(f"{source}: nested too deeply") from None
    entries = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise ValueError(f"{source}: not a JSON Web Key Set")
    keys: dict[str | None, Any] = {}
    for entry in entries:
        if _may_check(entry):
            try:
                keys[entry.get("kid")] = jwt.PyJWK.from_dict(entry)
            except jwt.PyJWTError as error:
                _log.warn("a key of {source} cannot be used: {error}", source=source, error=str(error))
    if not keys:
        raise ValueError(f"{source}: no key to verify tokens with")
    return keys


def _may_check(entry: Any) -> bool:
    """Whether an entry of a set may be a key to check signatures by."""
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str | None):
        return False
    kind = entry.get("kty")
    return isinstance(kind, str) and kind in _KEY_TYPES and entry.get("use", "sig") == "sig"


def _fetched(url: str) -> bytes:
    import http.client
    import urllib.request

    class NoRedirects(urllib.request.HTTPRedirectHandler):
        """Wherever the keys are said to have gone, nobody has configured that."""

        def redirect_request(self, *args: Any) -> None:
            return None

    try:
        with urllib.request.build_opener(NoRedirects).open(url, timeout=_FETCH_SECONDS) as answer:
            data: bytes = answer.read(_MAX_KEYS_BYTES + 1)
            return data
    except http.client.HTTPException as error:  # what is no HTTP, which is no OSError
        raise ValueError(f"{url.partition('?')[0]}: {error!r}") from error
