"""What runs the clients' own suites, on a few tests of two of them; ``python -m tests.suites`` runs all."""

from __future__ import annotations

import pathlib

import pytest

from tests.suites.__main__ import run_suite
from tests.suites.catalogue import SUITES
from tests.suites.results import FAILED, PASSED, SKIPPED, Result, Unavailable

pytestmark = pytest.mark.interop

_SECONDS = 60


def outcomes(directory: pathlib.Path, name: str, *only: str) -> dict[str, Result]:
    """Run the chosen tests of a suite; skips where it cannot be had."""
    suite = SUITES[name]
    try:
        suite.prepare()
    except Unavailable as error:
        pytest.skip(f"{name}: {error}")
    results = run_suite(suite, "megabroker", directory, _SECONDS, list(only))
    return {result.test: result for result in results}


def test_kcat(tmp_path: pathlib.Path) -> None:
    found = outcomes(tmp_path, "kcat", "0002", "0003")
    assert {test: result.outcome for test, result in found.items()} == {
        "0002-delim": PASSED,
        "0003-avro": SKIPPED,
    }, found


def test_kafka_python(tmp_path: pathlib.Path) -> None:
    chosen = ("test_end_to_end", "test_delete_groups", "test_create_describe_delete_acls")
    found = outcomes(tmp_path, "kafka-python", *chosen)
    failed = [test for test, result in found.items() if result.outcome == FAILED]
    assert failed == ["test_admin_integration::test_create_describe_delete_acls"], found
    assert sum(result.outcome == PASSED for result in found.values()) == 7
