"""Workers of a broker whose package was upgraded while they serve: never those of two versions at once."""

from __future__ import annotations

import os
import pathlib
import signal
import sys
from collections import Counter

import pytest
from confluent_kafka import Producer

from tests.interop.test_workers import KAFKA_ONLY, consume, create
from tests.workers import WorkersProcess

pytestmark = pytest.mark.interop

_MARKED = (
    "import pathlib, sys; from megabroker.ops import installed; "
    "installed.Installed.__init__.__defaults__ = (pathlib.Path({mark!r}),); "
    "from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"
)


def test_a_worker_that_dies_after_an_upgrade_ends_all(tmp_path: pathlib.Path) -> None:
    mark = tmp_path / "bundle.json"
    mark.write_text("the version before")

    class Packaged(WorkersProcess):
        @staticmethod
        def command(config_file: pathlib.Path) -> list[str]:
            _, _, *arguments = WorkersProcess.command(config_file)
            return [sys.executable, "-c", _MARKED.format(mark=str(mark)), *arguments]

    with Packaged(2, {**KAFKA_ONLY, "durability": "os"}) as broker:
        assert isinstance(broker, WorkersProcess)
        create(broker.kafka, "kept")
        producer = Producer({"bootstrap.servers": broker.kafka, "acks": "all"})
        sent = [str(number) for number in range(200)]
        for text in sent:
            producer.produce("kept", text)
        assert producer.flush(30) == 0
        pid = broker.pids()[2]
        os.kill(pid, signal.SIGKILL)
        broker.until_serving(2, pid)

        mark.write_text("the version after")
        os.kill(broker.pids()[2], signal.SIGKILL)
        assert broker.process is not None
        assert broker.process.wait(30) == 1
        assert "installed-anew" in broker.log
        assert broker.served_again(2) == 1
        broker.start()
        assert consume(broker.kafka, "kept", len(sent)) == Counter(text.encode() for text in sent)
        assert broker.stop() == 0
