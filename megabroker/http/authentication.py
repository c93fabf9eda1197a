"""Who a client over HTTP is: by a password (RFC 7617), a token (RFC 6750), or its certificate.

Owns the reading of the header Authorization; who is right about it the core says, as for every wire, and a
refusal takes as long.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from megabroker.errors import AuthenticationError, ErrorCode
from megabroker.http.problems import Problem
from megabroker.interfaces import IBroker
from megabroker.model import ANONYMOUS, Principal

__all__ = ["identify"]

_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="megabroker", charset="UTF-8"'}
_LONGEST_CHARS: Final = 8192


async def identify(
    broker: IBroker,
    header: str | None,
    certified: Principal,
    host: str,
    *,
    needed: bool,
) -> Principal:
    """Return who asks.

    Args:
        header: Authorization, if it came.
        certified: whom the certificate names.
        host: the address of the client.
        needed: whether nobody in particular is not enough.

    Raises:
        Problem: 401.
    """
    authentication = broker.authentication
    if header is None or (authentication is None and not needed):
        # What nobody asks for is not looked at: there is nothing to check it by.
        if certified is ANONYMOUS and needed:
            raise _unknown("authentication is required: expected the header Authorization, Basic or Bearer")
        return certified
    assert authentication is not None
    scheme, _, rest = header.partition(" ")
    try:
        if len(header) > _LONGEST_CHARS:
            raise AuthenticationError(f"a header of {len(header)} characters")
        if scheme.lower() == "basic":
            user, password = _basic(rest.strip())
            return await authentication.password(user, password)
        if scheme.lower() == "bearer":
            return await authentication.token(rest.strip())
        raise AuthenticationError("a scheme that is not known")
    except AuthenticationError as error:
        broker.audit.refused("http", host, error.message)
        raise _unknown("authentication failed: wrong name, password or token") from None


def _basic(text: str) -> tuple[str, str]:
    try:
        user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise AuthenticationError("credentials that cannot be read") from None
    if not (user and colon and password):
        raise AuthenticationError("no name, or no password")
    return user, password


def _unknown(detail: str) -> Problem:
    return Problem(401, ErrorCode.NOT_AUTHENTICATED, detail, headers=_CHALLENGE)
