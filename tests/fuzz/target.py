"""What a fuzz target is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from megabroker.errors import ProtocolError

__all__ = ["Target", "refusing"]


@attrs.frozen
class Target:
    """Something to be fed.

    Attributes:
        seeds: what is damaged.
        feed: takes bytes; whatever it raises is a fault.
        fixed_bytes: what feeding may allocate whatever the bytes are, beside ``per_byte`` of them.
        decode: the function that was made for one message of Kafka, else None.
    """

    seeds: list[bytes]
    feed: Callable[[bytes], None]
    fixed_bytes: int = 64 << 10
    per_byte: int = 250
    decode: Any = None


def refusing(
    decode: Callable[[bytes], Any], refusal: type[Exception] = ProtocolError
) -> Callable[[bytes], None]:
    """Return a feed that lets the decoder refuse."""

    def feed(data: bytes) -> None:
        try:
            decode(data)
        except refusal:
            pass

    return feed
