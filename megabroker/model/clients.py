"""Who clients are, by what that is checked, and how much they may use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["ANONYMOUS", "PEER", "Principal", "QuotaChange", "QuotaEntity", "ScramChange", "ScramCredential"]


class Principal(NamedTuple):
    """Who a client is, by Kafka's names: a type, ``User`` for all that authenticate here, and a name."""

    type: str
    name: str

    def __str__(self) -> str:
        return f"{self.type}:{self.name}"


ANONYMOUS = Principal("User", "ANONYMOUS")
"""Whoever has not said who it is; the name is Kafka's."""

PEER = Principal("Broker", "peer")
"""Another process of this broker, which may do everything; no client is of this type."""

QuotaEntity = tuple[tuple[str, str | None], ...]
"""Whom a quota is for: pairs of kind and name, sorted by kind; the name None means the default."""


class ScramCredential(NamedTuple):
    """What checks a user's password by SCRAM (RFC 5802), without being it."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes


class ScramChange(NamedTuple):
    """A credential to keep for a user, or with None the one to forget; mechanisms by their SASL names."""

    user: str
    mechanism: str
    credential: ScramCredential | None


class QuotaChange(NamedTuple):
    """Quotas to set for an entity, by Kafka's names of them; those with None are removed."""

    entity: QuotaEntity
    values: Mapping[str, float | None]
