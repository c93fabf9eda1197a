"""Units that keys of the configuration are counted in, and how far they go."""

from __future__ import annotations

from typing import Final

__all__ = ["DAY", "GIB", "HOUR", "KIB", "LARGEST_BYTES", "LONGEST_MS", "MAX_I32", "MIB", "MINUTE", "SECOND"]

# in milliseconds
SECOND: Final = 1000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

# in bytes
KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

MAX_I32: Final = (1 << 31) - 1
LONGEST_MS: Final = 100_000 * DAY
LARGEST_BYTES: Final = 1 << 50
