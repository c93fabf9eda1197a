"""SCRAM (RFC 5802, RFC 7677) without I/O: what is kept of a password, and the server's side of an exchange.

    client first    gs2 header | n=<user>,r=<nonce>        gs2 header: n,, or n,a=<authorization id>,
    server first    r=<nonce><more>,s=<salt>,i=<iterations>
    client final    c=<gs2 header>,r=<nonce><more>,p=<proof>
    server final    v=<signature>

Salt, proof, signature and the header in ``c`` are base64. Channels are not bound. Names are taken as they
come, as Apache Kafka does: no SASLprep.

Invariant: nobody learns from an exchange whether there is such a user. One that there is not gets a salt that
is the same each time, and is refused when the proof has come, as for a wrong password.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from megabroker.errors import AuthenticationError
from megabroker.model import ScramCredential

__all__ = [
    "DIGESTS",
    "MAX_ITERATIONS",
    "MAX_SECRET_BYTES",
    "MIN_ITERATIONS",
    "ScramServer",
    "credential",
    "fits",
    "new_credential",
]

DIGESTS: Final[Mapping[str, str]] = MappingProxyType({"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"})
"""By the name of the mechanism, what hashlib calls its hash."""

MIN_ITERATIONS: Final = 4096
MAX_ITERATIONS: Final = 16384
MAX_SECRET_BYTES: Final = 1024

_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 24
_NAME = rb"(?:[^\x00,=]|=2C|=3D)+"
_EXTENSIONS = rb"(?:,[A-Za-z]+=[^\x00,]+)*"
_client_first = re.compile(
    rb"([ny],(?:a=(%s))?,)(n=(%s),r=([!-+\--~]+)(%s))" % (_NAME, _NAME, _EXTENSIONS)
).fullmatch
_client_final = re.compile(
    rb"(c=([A-Za-z0-9+/=]+),r=([!-+\--~]+)%s),p=([A-Za-z0-9+/=]+)" % _EXTENSIONS
).fullmatch
_SECRET: Final = secrets.token_bytes(32)  # of this process; what users that there are not seem to have


def credential(digest: str, iterations: int, salt: bytes, salted_password: bytes) -> ScramCredential:
    """Return what is kept of a salted password: with it nobody can log in (RFC 5802, 3)."""
    client_key = hmac.digest(salted_password, b"Client Key", digest)
    server_key = hmac.digest(salted_password, b"Server Key", digest)
    return ScramCredential(iterations, salt, hashlib.new(digest, client_key).digest(), server_key)


def new_credential(digest: str, password: str, iterations: int = MIN_ITERATIONS) -> ScramCredential:
    """Return what is to be kept of a new password. Takes milliseconds."""
    salt = secrets.token_bytes(_SALT_BYTES)
    salted_password = hashlib.pbkdf2_hmac(digest, password.encode(), salt, iterations)
    return credential(digest, iterations, salt, salted_password)


def fits(kept: ScramCredential, digest: str, password: str) -> bool:
    """Say whether a password is the one that something was kept of. Takes milliseconds."""
    salted_password = hashlib.pbkdf2_hmac(digest, password.encode(), kept.salt, kept.iterations)
    found = credential(digest, kept.iterations, kept.salt, salted_password)
    return hmac.compare_digest(found.stored_key, kept.stored_key)


def nobodys(mechanism: str, user: str) -> ScramCredential:
    """Return a credential for who has none: the same each time, and no password fits it."""
    seed = hmac.digest(_SECRET, f"{mechanism}\0{user}".encode(), "sha512")
    size = hashlib.new(DIGESTS[mechanism]).digest_size
    return ScramCredential(MIN_ITERATIONS, seed[:_SALT_BYTES], secrets.token_bytes(size), bytes(size))


class ScramServer:
    """One exchange with a client: ``first``, then ``final``.

    Args:
        mechanism: one of ``DIGESTS``.
        find: returns what is kept for a user, or None.
        nonce: what the server adds to the client's nonce; printable, without commas, and never used before.

    Attributes:
        user: who the client says it is, known after ``first``.
    """

    def __init__(
        self, mechanism: str, find: Callable[[str], ScramCredential | None], nonce: bytes = b""
    ) -> None:
        self._mechanism = mechanism
        self._digest = DIGESTS[mechanism]
        self._find = find
        self._own_nonce = nonce or base64.b64encode(secrets.token_bytes(_NONCE_BYTES))
        self.user = ""
        self._is_known = False
        self._kept = ScramCredential(0, b"", b"", b"")
        self._header = self._client_nonce = self._nonce = self._said = b""

    def first(self, message: bytes) -> bytes:
        """Take the client's first message; return the server's. Raises AuthenticationError."""
        match = _client_first(message)
        if match is None:
            raise AuthenticationError("a first message that is not SCRAM's")
        self._header, authorization_id, bare, name, nonce, extensions = match.groups()
        self.user = _name(name)
        if authorization_id is not None and _name(authorization_id) != self.user:
            raise AuthenticationError("an authorization id that is not the user's name")
        # With tokenauth the name is a delegation token's, of which there are none.
        found = None if b",tokenauth=true" in extensions else self._find(self.user)
        self._is_known = found is not None
        kept = self._kept = nobodys(self._mechanism, self.user) if found is None else found
        self._client_nonce = nonce
        self._nonce = nonce + self._own_nonce
        answer = b"r=%s,s=%s,i=%d" % (self._nonce, base64.b64encode(kept.salt), kept.iterations)
        self._said = b"%s,%s," % (bare, answer)
        return answer

    def final(self, message: bytes) -> bytes:
        """Take the client's proof; return the server's. Raises AuthenticationError."""
        match = _client_final(message)
        if match is None:
            raise AuthenticationError("a final message that is not SCRAM's")
        without_proof, header, nonce, proof = match.groups()
        if _decoded(header) != self._header:
            raise AuthenticationError("a channel binding that differs from the first message")
        # librdkafka before 2.6.1 puts its own before it once more; what is fresh each time is there too.
        if nonce not in (self._nonce, self._client_nonce + self._nonce):
            raise AuthenticationError("a nonce that differs from the first messages")
        kept, digest = self._kept, self._digest
        said = self._said + without_proof
        signature = hmac.digest(kept.stored_key, said, digest)
        given = _decoded(proof)
        client_key = bytes(one ^ other for one, other in zip(given, signature, strict=False))
        is_right = hmac.compare_digest(hashlib.new(digest, client_key).digest(), kept.stored_key)
        if not (is_right and len(given) == len(signature) and self._is_known):
            raise AuthenticationError("wrong password" if self._is_known else "no such user")
        return b"v=" + base64.b64encode(hmac.digest(kept.server_key, said, digest))


def _name(raw: bytes) -> str:
    try:
        return raw.decode().replace("=2C", ",").replace("=3D", "=")
    except UnicodeDecodeError:
        raise AuthenticationError("a name that is not UTF-8") from None


def _decoded(raw: bytes) -> bytes:
    try:
        return base64.b64decode(raw, validate=True)
    except binascii.Error:
        raise AuthenticationError("invalid base64") from None
