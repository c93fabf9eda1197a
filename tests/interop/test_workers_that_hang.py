"""Workers that stop doing anything without ending, under a supervisor that looks more often than usual."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import sys

import pytest

from tests.interop.test_workers import KAFKA_ONLY, Load, consume, create
from tests.interop.wires import until
from tests.workers import WorkersProcess

pytestmark = pytest.mark.interop

_IMPATIENT = (
    "import sys; from megabroker.ops import watching; watching._ASK_SECONDS = 0.25; watching._PATIENCE = 8; "
    "from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"
)


class _Impatient(WorkersProcess):
    @staticmethod
    def command(config_file: pathlib.Path) -> list[str]:
        _, _, *arguments = WorkersProcess.command(config_file)
        return [sys.executable, "-c", _IMPATIENT, *arguments]


def test_one_that_hangs_is_replaced_and_nothing_acknowledged_is_lost() -> None:
    with _Impatient(2, {**KAFKA_ONLY, "durability": "os"}) as broker:
        assert isinstance(broker, _Impatient)
        create(broker.kafka, "kept")
        load = Load(broker.kafka, "kept")
        until(lambda: len(load.acknowledged) > 500, 20, "records are acknowledged")
        pid = broker.pids()[2]
        os.kill(pid, signal.SIGSTOP)
        broker.until_serving(2, pid)
        before = len(load.acknowledged)
        until(lambda: len(load.acknowledged) > before + 500, 20, "records are acknowledged again")
        load.stop()
        assert re.search(r"worker-hangs node=2 seconds=2", broker.log), broker.log[-3000:]
        assert "by SIGKILL" in broker.log
        assert sorted(consume(broker.kafka, "kept", len(load.acknowledged))) == sorted(load.acknowledged)
        assert broker.stop() == 0


def test_one_that_does_not_serve_yet_does_not_hold_up_the_end() -> None:
    with WorkersProcess(2, {**KAFKA_ONLY, "durability": "os"}) as broker:
        assert isinstance(broker, WorkersProcess)
        pid = broker.pids()[2]
        os.kill(pid, signal.SIGKILL)
        until(lambda: broker.pids().get(2, pid) != pid, 10, "it is started anew")
        os.kill(broker.pids()[2], signal.SIGSTOP)
        assert broker.stop() == 1
        assert not broker.served_again(2)


def test_one_that_hangs_does_not_hold_up_the_end() -> None:
    with _Impatient(2, {**KAFKA_ONLY, "durability": "os"}) as broker:
        assert isinstance(broker, _Impatient)
        os.kill(broker.pids()[1], signal.SIGUSR1)
        until(lambda: "most recent call first" in broker.log, 10, "a worker says where its threads are")
        os.kill(broker.pids()[2], signal.SIGSTOP)
        assert broker.stop() == 1
        assert re.search(r"worker-not-stopped-in-order .*node=2", broker.log), broker.log[-3000:]
        assert not re.search(r"worker-not-stopped-in-order .*node=1", broker.log)
