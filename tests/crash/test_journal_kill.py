"""A broker killed while many logs share a journal; then all that only the journal made durable is lost."""

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
from megabroker.model import Durability, LogSettings, Topic
from megabroker.storage import syncs
from megabroker.storage.files import Files
from megabroker.storage.journal import JOURNAL, Journal, read_frames
from megabroker.storage.segment import file_name
from megabroker.storage.store import LocalLogStore
from tests.contract.test_log_store import TOPIC, Listener, Producers, batch, content

LOGS = 8
SETTINGS = LogSettings(segment_bytes=100_000, index_interval_bytes=500)
_HALF_BYTES = 256 * 1024
_ENOUGH = 1500


def child(directory: str) -> None:
    """Append to all logs for ever from a real reactor, writing down how far each was acknowledged."""
    from twisted.internet import reactor

    syncs._WORTH_A_JOURNAL = 1  # type: ignore[misc]
    store = LocalLogStore(directory, reactor, reactor.callFromThread, Durability.FSYNC)
    assert store._journal is not None
    store._journal = store.disk.syncing.journal = Journal(Files(), store._journal.path, _HALF_BYTES)
    store.open()

    class Telling(Listener):
        def __init__(self, partition: int) -> None:
            super().__init__()
            self.partition = partition

        def progressed(self, written_offset: int, durable_offset: int) -> None:
            os.write(1, b"%d %d\n" % (self.partition, durable_offset))

    topic = Topic(TOPIC.name, TOPIC.id, LOGS)
    logs = [store.log(topic, at, SETTINGS, Telling(at), Producers()) for at in range(LOGS)]

    def more() -> None:
        for log in logs:
            if log.pending_bytes < 5_000:
                data = batch(b"record %d" % log.next_offset)
                log.append(read_header(data, 0, len(data)), data, 0, None)
        reactor.callLater(0, more)

    reactor.callWhenRunning(more)
    reactor.run()


def lose(directory: str) -> int:
    """Make zeros of all that the journal has; return how many bytes that is."""
    lost = 0
    fd = os.open(f"{directory}/{JOURNAL}", os.O_RDONLY)
    for frames, missing in read_frames(Files(), fd):
        assert not missing
        for entry in (entry for frame in frames for entry in frame.entries):
            path = f"{directory}/{entry.name}/{file_name(entry.segment, '.log')}"
            with open(path, "r+b") as file:
                file.seek(entry.position)
                assert file.read(len(entry.data)) == entry.data
                file.seek(entry.position)
                file.write(bytes(len(entry.data)))
            lost += len(entry.data)
    os.close(fd)
    return lost


class JournalKillTests(SynchronousTestCase):
    def test_what_was_acknowledged_is_there(self) -> None:
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        code = f"from {__name__} import child; child({directory!r})"
        acknowledged = [0] * LOGS
        for _ in range(2):
            enough = min(acknowledged) + _ENOUGH
            process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
            assert process.stdout is not None
            told: list[bytes] = []
            for line in process.stdout:
                partition, offset = map(int, line.split())
                acknowledged[partition] = offset
                if min(acknowledged) >= enough:
                    break
            os.kill(process.pid, signal.SIGKILL)
            told = process.stdout.read().split(b"\n")[:-1]
            process.stdout.close()
            process.wait()
            for line in told:
                partition, offset = map(int, line.split())
                acknowledged[partition] = offset
            self.assertGreaterEqual(min(acknowledged), enough)
            self.assertGreater(lose(directory), 10_000)
            self.check(directory, acknowledged)

    def check(self, directory: str, acknowledged: list[int]) -> None:
        store = LocalLogStore(directory, Clock(), lambda call: call(), Durability.FSYNC, threaded=False)
        store.open()
        for partition in range(LOGS):
            log = store.log(TOPIC, partition, SETTINGS, Listener(), Producers())
            self.assertGreaterEqual(log.next_offset, acknowledged[partition])
            self.assertEqual(log.damaged, [])
            offset = 0
            while offset < log.next_offset:
                for record in read_records(content(log.read(offset, 1 << 20, 1 << 60)), offset):
                    self.assertEqual((record.offset, record.value), (offset, b"record %d" % offset))
                    offset += 1
            acknowledged[partition] = log.next_offset
        store._open_files.close()
        store._directories.release()
