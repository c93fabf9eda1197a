"""Where a group goes on when it is moved."""

from __future__ import annotations

import pytest

from megabroker.core.groups.resetting import ResetTo, new_offset


@pytest.mark.parametrize(
    ("to", "value", "committed", "expected"),
    [
        (ResetTo.EARLIEST, None, 7, 3),
        (ResetTo.LATEST, None, None, 10),
        (ResetTo.OFFSET, 5, 7, 5),
        (ResetTo.OFFSET, 0, 7, 3),
        (ResetTo.OFFSET, 99, 7, 10),
        (ResetTo.TIMESTAMP, 6, 7, 6),
        (ResetTo.SHIFT, -2, 7, 5),
        (ResetTo.SHIFT, -9, 7, 3),
        (ResetTo.SHIFT, 9, 7, 10),
        (ResetTo.SHIFT, 2, None, 5),
    ],
)
def test_new_offsets(to: ResetTo, value: int | None, committed: int | None, expected: int) -> None:
    assert new_offset(to, value, committed=committed, start_offset=3, end_offset=10) == expected
