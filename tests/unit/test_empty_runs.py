"""The commands of the simulation and the benchmark refuse to run nothing."""

from __future__ import annotations

import sys

import pytest

from bench.__main__ import main as measure
from megabroker.simulation.__main__ import main as simulate


@pytest.mark.parametrize("words", [["--seeds", "-1"], ["--seeds", "0"]])
def test_no_seeds(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        simulate(words)
    assert "expected 1 or more" in capsys.readouterr().err


def test_the_examples_keep_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        simulate(["--help"])
    assert "\npython -m megabroker.simulation --seed N\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--rounds", "0"], "expected 1 or more"),
        (["--share", "0"], "expected more than 0"),
        (["--share", "nan"], "expected more than 0"),
    ],
)
def test_no_measurements(
    words: list[str], expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--list", *words])
    with pytest.raises(SystemExit):
        measure()
    assert expected in capsys.readouterr().err
