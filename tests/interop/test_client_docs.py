"""docs/clients.md says what is: its programs run and print what is shown."""

from __future__ import annotations

import itertools

import pytest

from tests.brokers import BrokerProcess
from tests.unit.test_docs import PAGES, blocks, run_python

pytestmark = pytest.mark.interop


def test_programs_print_what_is_shown() -> None:
    found = blocks(PAGES["clients.md"])
    programs = [
        (content, following[1])
        for (language, content), following in itertools.pairwise(found)
        if language == "python" and following[0] == "text"
    ]
    assert len(programs) == 3
    with BrokerProcess() as broker:
        for program, output in programs:
            assert run_python(program, broker) == output
