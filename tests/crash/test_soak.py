"""Kills and stops under load for a minute; ``python -m tests.crash.soak`` is the long one."""

from __future__ import annotations

import random

import pytest

from tests.crash.soak import soak

pytestmark = pytest.mark.interop

_SECONDS = 60.0
_APART_SECONDS = (0.5, 2.0)


def test_nothing_is_lost_twice_or_torn() -> None:
    figures = soak(_SECONDS, random.Random(11), apart_seconds=_APART_SECONDS)
    assert figures.wrong == []
    assert figures.kills >= 8
    assert figures.records > 5000
    assert figures.committed > 20
    assert figures.aborted > 0
    assert figures.offsets_committed > 20
