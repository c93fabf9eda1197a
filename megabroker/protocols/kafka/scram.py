"""The kinds of SCRAM credentials as Kafka's administrators name them (KIP-554)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from megabroker.core.authentication.scram import DIGESTS

__all__ = ["MECHANISMS", "Mechanism"]


class Mechanism(NamedTuple):
    """A way to check a password.

    Attributes:
        name: what SASL calls it.
        digest: what hashlib calls its hash.
    """

    name: str
    digest: str


MECHANISMS: Final[Mapping[int, Mechanism]] = MappingProxyType(
    {number: Mechanism(name, DIGESTS[name]) for number, name in ((1, "SCRAM-SHA-256"), (2, "SCRAM-SHA-512"))}
)
"""By Kafka's numbers."""
