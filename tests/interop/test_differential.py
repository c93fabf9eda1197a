"""Requests that are unusual or wrong are answered as Apache Kafka answers them.

The cases are in ``differential_*.py``; where this broker's answer is another on purpose, they say why.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.interop import (
    differential_data,
    differential_groups,
    differential_topics,
    differential_transactions,
)
from tests.interop.conftest import check_log
from tests.interop.differential import begin, differences, play
from tests.interop.java import Unavailable
from tests.suites.brokers import BROKERS
from tests.suites.results import Suite

pytestmark = pytest.mark.interop

CASES = {
    **differential_topics.CASES,
    **differential_data.CASES,
    **differential_groups.CASES,
    **differential_transactions.CASES,
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Addresses of an Apache Kafka and of this broker, both fresh."""

    def made(name: str) -> pathlib.Path:
        return tmp_path_factory.mktemp(name)

    try:
        kafka = BROKERS["kafka"](Suite(), made("kafka"))
    except Unavailable as missing:
        pytest.skip(str(missing))
    with kafka as theirs, BROKERS["megabroker"](Suite(), made("megabroker")) as ours:
        for address in (theirs.kafka, ours.kafka):
            play(begin, address)
        yield theirs.kafka, ours.kafka
        check_log(ours.log)


@pytest.mark.parametrize("name", CASES)
def test_answers_are_those_of_apache_kafka(name: str, pair: tuple[str, str]) -> None:
    theirs, ours = (play(CASES[name], address) for address in pair)
    assert theirs, "nothing was compared"
    assert not list(differences(theirs, ours))
