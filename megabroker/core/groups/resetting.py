"""Where a group goes on when an administrator moves it; pure.

Invariant: what comes out is an offset that can be read, or the end.
"""

from __future__ import annotations

import enum

__all__ = ["ResetTo", "new_offset"]


class ResetTo(enum.Enum):
    """What a group's offset is moved to."""

    EARLIEST = "earliest"
    LATEST = "latest"
    OFFSET = "offset"
    TIMESTAMP = "timestamp"
    SHIFT = "shift"


def new_offset(
    to: ResetTo, value: int | None, *, committed: int | None, start_offset: int, end_offset: int
) -> int:
    """Return the offset of one partition.

    Args:
        value: the offset, by how much to shift, or what was found for a timestamp; None for the others.
        committed: where the group is; a shift without it begins at the start.
    """
    if to is ResetTo.EARLIEST:
        return start_offset
    if to is ResetTo.LATEST:
        return end_offset
    assert value is not None
    if to is ResetTo.SHIFT:
        value += start_offset if committed is None else committed
    return min(max(value, start_offset), end_offset)
