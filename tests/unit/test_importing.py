"""Importing what is left; ``tests/interop/test_files_gone.py`` has a whole broker do it."""

from __future__ import annotations

import pathlib
import sys

import pytest
from twisted.internet.task import Clock

from megabroker.ops import importing


def test_a_module_that_fails_keeps_none_from_being_imported(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imported_first.py").write_text("raise RuntimeError('its library is of another version')")
    (tmp_path / "imported_last.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(importing, "_LIBRARIES", ("no_such_library",))
    monkeypatch.setattr(importing, "_modules", lambda: iter(("imported_first", "imported_last")))
    clock, ends = Clock(), list[object]()
    importing.import_all(clock).addBoth(ends.append)
    clock.pump([0.1] * 10)
    assert ends == [None]
    assert sys.modules.pop("imported_last", None) is not None
