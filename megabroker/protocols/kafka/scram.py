"""SCRAM credentials as Kafka's administrators set them (KIP-554)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from megabroker.model import ScramCredential

__all__ = ["MAX_ITERATIONS", "MAX_SECRET_BYTES", "MECHANISMS", "MIN_ITERATIONS", "Mechanism", "credential"]

MIN_ITERATIONS: Final = 4096
MAX_ITERATIONS: Final = 16384
MAX_SECRET_BYTES: Final = 1024


class Mechanism(NamedTuple):
    """A way to check a password.

    Attributes:
        name: what SASL calls it.
        digest: what hashlib calls its hash.
    """

    name: str
    digest: str


MECHANISMS: Final[Mapping[int, Mechanism]] = MappingProxyType(
    {1: Mechanism("SCRAM-SHA-256", "sha256"), 2: Mechanism("SCRAM-SHA-512", "sha512")}
)
"""By Kafka's numbers."""


def credential(mechanism: Mechanism, iterations: int, salt: bytes, salted_password: bytes) -> ScramCredential:
    """Return what is kept of a salted password: with it nobody can log in (RFC 5802, 3)."""

    def keyed(text: bytes) -> bytes:
        return hmac.digest(salted_password, text, mechanism.digest)

    stored_key = hashlib.new(mechanism.digest, keyed(b"Client Key")).digest()
    return ScramCredential(iterations, salt, stored_key, keyed(b"Server Key"))
