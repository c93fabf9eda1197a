"""Descriptors are shared out between connections and the log."""

from __future__ import annotations

import resource
import subprocess
import sys

CODE = """
import resource, sys
from megabroker.ops.descriptors import spare_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(spare_descriptors({connections}), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def run(soft: int, hard: int, connections: int) -> list[int]:
    code = CODE.format(soft=soft, hard=hard, connections=connections)
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return [int(word) for word in printed.split()]


def test_the_soft_limit_is_raised_and_what_is_left_goes_to_the_log() -> None:
    hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1] % (1 << 20) or 4096, 4096)
    assert run(256, hard, 1000) == [min(hard - 1000 - 64, hard // 2), hard]


def test_every_partition_that_there_may_be_keeps_its_file_open() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1] % (1 << 20)
    assert run(256, hard, 1000) == [min(hard - 1000 - 64, hard // 2, 20_000), hard]


def test_a_process_that_may_open_little_keeps_some_for_both() -> None:
    assert run(256, 1024, 10_000) == [64, 1024]
