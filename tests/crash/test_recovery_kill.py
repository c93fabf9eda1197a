"""A broker's storage killed in the middle of its work: nothing acknowledged is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import read_header, read_records
from megabroker.model import Durability, LogSettings
from megabroker.storage.store import LocalLogStore
from tests.contract.test_log_store import TOPIC, Listener, Producers, batch, content

SETTINGS = LogSettings(segment_bytes=20_000, index_interval_bytes=500)
_ENOUGH = 3000


def child(directory: str, durability: str) -> None:
    """Append for ever from a real reactor, writing down how far it was acknowledged."""
    from twisted.internet import reactor

    store = LocalLogStore(directory, reactor, reactor.callFromThread, Durability(durability))
    store.open()
    number = 0

    class Telling(Listener):
        def progressed(self, written_offset: int, durable_offset: int) -> None:
            acknowledged = durable_offset if durability == "fsync" else written_offset
            os.write(1, b"%d\n" % acknowledged)

    log = store.log(TOPIC, 0, SETTINGS, Telling(), Producers())
    number = log.next_offset

    def more() -> None:
        nonlocal number
        if log.pending_bytes < 20_000:
            for _ in range(20):
                data = batch(b"record %d" % number)
                log.append(read_header(data, 0, len(data)), data, 0, None)
                number += 1
        reactor.callLater(0, more)

    reactor.callWhenRunning(more)
    reactor.run()


class KillTests(SynchronousTestCase):
    def check(self, durability: Durability) -> None:
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        code = f"from {__name__} import child; child({directory!r}, {durability.value!r})"
        acknowledged = 0
        for _ in range(2):
            process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
            assert process.stdout is not None
            enough = acknowledged + _ENOUGH
            for line in process.stdout:
                acknowledged = int(line)
                if acknowledged >= enough:
                    break
            os.kill(process.pid, signal.SIGKILL)
            rest = process.stdout.read().split(b"\n")
            if len(rest) > 1:
                acknowledged = int(rest[-2])
            process.stdout.close()
            process.wait()
            self.assertGreaterEqual(acknowledged, enough)

            store = LocalLogStore(directory, Clock(), lambda call: call(), durability, threaded=False)
            store.open()
            self.assertFalse(store.was_clean)
            log = store.log(TOPIC, 0, SETTINGS, Listener(), Producers())
            self.assertGreaterEqual(log.next_offset, acknowledged)
            self.assertEqual(log.damaged, [])
            offset = 0
            while offset < log.next_offset:
                for record in read_records(content(log.read(offset, 1 << 20, 1 << 60)), offset):
                    self.assertEqual((record.offset, record.value), (offset, b"record %d" % offset))
                    offset += 1
            acknowledged = log.next_offset
            store._directories.release()

    def test_fsync(self) -> None:
        self.check(Durability.FSYNC)

    def test_os(self) -> None:
        self.check(Durability.OS)
