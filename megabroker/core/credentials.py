"""Passwords of users, as SCRAM needs them (RFC 5802): what checks a password, never what it is.

Owns the metadata table ``scram_credentials``: key is ``["<user>","<mechanism>"]`` as JSON, value an object
of iterations, and of salt, stored key and server key in hexadecimal. Nobody can log in
with what is kept.

Invariant: what is told is stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from megabroker.errors import ErrorCode, StateError
from megabroker.interfaces import ICredentials, IMetadataStore
from megabroker.model import Change, ScramChange, ScramCredential

__all__ = ["SCRAM_TABLE", "Credentials", "credential_row"]

SCRAM_TABLE = "scram_credentials"
_MAX_CREDENTIALS: Final = 100_000

_log = Logger()


@implementer(ICredentials)
class Credentials:
    """The credentials of all users."""

    def __init__(self, metadata: IMetadataStore) -> None:
        self._metadata = metadata
        self._by_user: dict[str, dict[str, ScramCredential]] = {}

    def load(self) -> None:
        """Read what is stored. Blocking; call first. A row that is none is logged and left alone."""
        found: dict[str, dict[str, ScramCredential]] = {}
        for key, row in self._metadata.rows(SCRAM_TABLE).items():
            try:
                user, mechanism = json.loads(key)
                found.setdefault(user, {})[mechanism] = _from_row(row)
            except (ValueError, TypeError, KeyError) as error:
                _log.error("unreadable SCRAM credential {key!r}: {error}", key=key, error=str(error))
        self._by_user = found

    def users(self) -> Sequence[str]:
        """See ``ICredentials.users``."""
        return sorted(self._by_user)

    def of(self, user: str) -> Mapping[str, ScramCredential]:
        """See ``ICredentials.of``."""
        return self._by_user.get(user, {})

    def change(self, changes: Sequence[ScramChange]) -> Deferred[None]:
        """See ``ICredentials.change``."""
        return Deferred.fromCoroutine(self._change(list(changes)))

    async def _change(self, changes: list[ScramChange]) -> None:
        grows = sum(one.credential is not None for one in changes)
        if grows and sum(map(len, self._by_user.values())) + grows > _MAX_CREDENTIALS:
            raise StateError(ErrorCode.TOPIC_LIMIT, f"at most {_MAX_CREDENTIALS} credentials are kept")
        await self._metadata.write([credential_row(one) for one in changes])
        for one in changes:
            if one.credential is not None:
                self._by_user.setdefault(one.user, {})[one.mechanism] = one.credential
                continue
            left = self._by_user.get(one.user, {})
            left.pop(one.mechanism, None)
            if not left:
                self._by_user.pop(one.user, None)


def credential_row(change: ScramChange) -> Change:
    """Return the row that stores a change."""
    key = json.dumps([change.user, change.mechanism], separators=(",", ":"))
    return Change(SCRAM_TABLE, key, None if change.credential is None else _to_row(change.credential))


def _to_row(credential: ScramCredential) -> dict[str, Any]:
    return {
        "iterations": credential.iterations,
        "salt": credential.salt.hex(),
        "stored_key": credential.stored_key.hex(),
        "server_key": credential.server_key.hex(),
    }


def _from_row(row: Any) -> ScramCredential:
    return ScramCredential(
        int(row["iterations"]),
        bytes.fromhex(row["salt"]),
        bytes.fromhex(row["stored_key"]),
        bytes.fromhex(row["server_key"]),
    )
