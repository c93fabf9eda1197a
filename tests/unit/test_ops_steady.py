"""A reactor whose clock nobody sets."""

from __future__ import annotations

import time

import pytest
from twisted.internet.selectreactor import SelectReactor

from megabroker.ops.steady import keep_steady, steady_seconds


def test_it_begins_with_the_time_of_the_system() -> None:
    assert abs(steady_seconds()() - time.time()) < 1


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_what_is_planned_comes_in_its_time_when_the_clock_is_set(
    jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    reactor = SelectReactor()
    keep_steady(reactor)
    called: list[str] = []
    reactor.callLater(0.02, called.append, "soon")
    reactor.callLater(60, called.append, "in a minute")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    deadline = time.monotonic() + 5
    while not called and time.monotonic() < deadline:
        reactor.iterate(0.01)
    assert called == ["soon"]
    assert 59 < reactor.timeout() <= 60


def test_without_it_the_reactor_goes_by_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SelectReactor().seconds is time.time
