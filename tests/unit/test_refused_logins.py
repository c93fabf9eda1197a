"""Clients that are refused again and again: told at first, then counted, in bounded memory."""

from __future__ import annotations

from megabroker.core.refused_logins import RefusedLogins


def test_the_first_is_told_and_then_a_count_now_and_then() -> None:
    refused = RefusedLogins()
    told = [refused.is_told("10.0.0.7", "wrong password", at / 20) for at in range(600)]
    assert told == [True] + [False] * 599
    assert list(refused.kept_back(9.9)) == []
    assert list(refused.kept_back(30.0)) == [("10.0.0.7", 599, 30.0, "wrong password")]
    assert not refused.is_told("10.0.0.7", "wrong password", 30.5)
    assert list(refused.kept_back(40.0)) == [("10.0.0.7", 1, 10.0, "wrong password")]
    # Quiet for a while, it is as new.
    assert list(refused.kept_back(50.0)) == []
    assert not refused
    assert refused.is_told("10.0.0.7", "wrong password", 51.0)


def test_other_causes_and_other_addresses_are_told_within_bounds() -> None:
    refused = RefusedLogins()
    told = [refused.is_told("10.0.0.7", f"no user {number}", 0.0) for number in range(1000)]
    assert sum(told) == 10
    assert all(told[:10])
    assert refused.is_told("10.0.0.8", "no user 1", 0.0)
    for number in range(5000):
        refused.is_told(f"10.1.{number // 250}.{number % 250}", "no user", 1.0)
    assert len(refused) <= 1001
    counts = {host: count for host, count, _, _ in refused.kept_back(20.0)}
    assert counts["10.0.0.7"] == 990
    assert counts["other addresses"] == 5002 - 1000
    list(refused.kept_back(40.0))
    assert not refused, "nothing is kept of those that are quiet"
