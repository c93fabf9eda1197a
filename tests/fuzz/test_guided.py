"""The same targets guided by coverage, shortly; needs atheris (the extra ``fuzz``)."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import run

pytest.importorskip("atheris", reason="atheris is not installed (the extra fuzz)")


@pytest.mark.parametrize("name", ["batch", "mega-auto"])
def test_guided(name: str) -> None:
    assert run(name, 2) > 100
