"""How a client says who it is over Kafka's wire: the client's side of PLAIN and of SCRAM (RFC 5802)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import NamedTuple

from megabroker.core.authentication.scram import DIGESTS
from megabroker.errors import AuthenticationError

__all__ = ["Login", "log_in"]

_NONCE_BYTES = 24
_MAX_ITERATIONS = 1 << 20

Exchange = Callable[[bytes], bytes]
"""Sends a message of a mechanism and returns the answer. Raises AuthenticationError."""


class Login(NamedTuple):
    """Who somebody is; ``mechanism`` None takes the best there is."""

    user: str
    password: str
    mechanism: str | None = None


def log_in(login: Login, mechanism: str, exchange: Exchange) -> None:
    """Authenticate. Raises AuthenticationError, also when the broker does not prove that it knows us."""
    if mechanism == "PLAIN":
        exchange(f"\0{login.user}\0{login.password}".encode())
        return
    digest = DIGESTS[mechanism]
    nonce = base64.b64encode(secrets.token_bytes(_NONCE_BYTES))
    name = login.user.replace("=", "=3D").replace(",", "=2C").encode()
    bare = b"n=%s,r=%s" % (name, nonce)
    said = exchange(b"n,," + bare)
    try:
        fields = dict(part.split(b"=", 1) for part in said.split(b","))
        theirs, salt, iterations = fields[b"r"], base64.b64decode(fields[b"s"]), int(fields[b"i"])
    except (KeyError, ValueError):
        raise AuthenticationError("the broker's challenge is not a SCRAM message") from None
    if not theirs.startswith(nonce) or len(theirs) == len(nonce) or not 0 < iterations <= _MAX_ITERATIONS:
        raise AuthenticationError("the broker's challenge cannot be answered")
    salted = hashlib.pbkdf2_hmac(digest, login.password.encode(), salt, iterations)
    without_proof = b"c=biws,r=" + theirs
    message = b",".join((bare, said, without_proof))
    client_key = hmac.digest(salted, b"Client Key", digest)
    signature = hmac.digest(hashlib.new(digest, client_key).digest(), message, digest)
    proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
    last = exchange(b"%s,p=%s" % (without_proof, base64.b64encode(proof)))
    proven = hmac.digest(hmac.digest(salted, b"Server Key", digest), message, digest)
    if not hmac.compare_digest(last, b"v=" + base64.b64encode(proven)):
        raise AuthenticationError("the broker has not proven that it knows the password")
