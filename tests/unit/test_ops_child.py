"""Processes that are started and watched, as far as it needs no process."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from megabroker.ops.child import Child


def test_what_cannot_be_started_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/there/is/no/python")
    parent: Any = None
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            Child(None, parent, ["megabroker.worker"], None, [])
    assert sorted(os.listdir("/proc/self/fd")) == before
