"""What a log believes of its leader-epoch-checkpoint, which has no check of its own."""

from __future__ import annotations

import bisect
import pathlib

from twisted.logger import LogEvent, globalLogPublisher

from megabroker.model import LogSettings
from tests.crash.test_recovery import RecoveryCase

_TOLD = b"0\n3\n1 0\n3 40\n6 92\n"
_BEHIND = b"0\n2\n1 0\n3 40\n"
_ENDS = {0: (-1, -1), 1: (1, 40), 2: (1, 40), 3: (3, 92), 5: (3, 92), 6: (6, 120), 9: (6, 120)}


class LeaderEpochTests(RecoveryCase):
    """Sixty batches of two records each, in epochs 1, 3 and 6, in several segments."""

    def setUp(self) -> None:
        super().setUp()
        self.path = f"{self.partition}/leader-epoch-checkpoint"
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        for at in range(60):
            self.append(b"%d" % at, b"-" * 20, epoch=1 if at < 20 else 3 if at < 46 else 6)
        self.store.disk.pump()
        self.bases = [int(path[-24:-4]) for path in self.logs()]
        self.assertGreater(len(self.bases), 3)
        self.assertFalse({40, 92} & set(self.bases))  # they begin within segments

    def told(self) -> dict[int, tuple[int, int]]:
        return {epoch: self.log.epoch_end_offset(epoch) for epoch in _ENDS}

    def written(self) -> bytes:
        return pathlib.Path(self.path).read_bytes()

    def write(self, data: bytes) -> None:
        pathlib.Path(self.path).write_bytes(data)

    def warnings(self) -> list[str]:
        found = [event["log_format"].partition(":")[0] for event in self.events if "log_format" in event]
        self.events.clear()
        return [one for one in found if one.startswith("leader-epoch")]

    def set_epoch(self, offset: int, epoch: int) -> None:
        """Change the epoch in the head of the batch at an offset, which no CRC covers."""
        path = self.logs()[bisect.bisect_right(self.bases, offset) - 1]
        with open(path, "r+b") as file:
            at = file.read().index(offset.to_bytes(8, "big") + b"\0\0")
            file.seek(at + 12)
            file.write(epoch.to_bytes(4, "big"))

    def test_what_is_right_is_believed_without_a_word(self) -> None:
        for end in (self.close, self.crash):
            end()
            self.start()
            self.assertEqual((self.told(), self.written(), self.warnings()), (_ENDS, _TOLD, []))

    def test_wrong_numbers_give_way_to_the_log(self) -> None:
        wrong = (
            b"0\n3\n1 0\n3 40\n7 90\n",
            b"0\n3\n1 0\n3 42\n6 92\n",
            b"0\n3\n1 0\n3 38\n6 92\n",
            b"0\n3\n1 0\n2 40\n6 92\n",
            b"0\n3\n0 0\n3 40\n6 92\n",
            b"0\n3\n1 4\n3 40\n6 92\n",
            b"0\n3\n1 0\n3 40\n6 80\n",
            b"0\n3\n1 0\n3 40\n6 990\n",
            b"0\n2\n1 0\n6 92\n",
            _BEHIND,
            b"0\n3\n3 40\n1 0\n6 92\n",
            b"0\n3\n1 0\n3 40\n3 92\n",
            b"0\n4\n1 0\n3 40\n6 92\n8 100\n",
            b"0\n1\n9 0\n",
            b"0\n0\n",
            b"0\n3\n1 0\n3 x0\n6 92\n",
        )
        for end in (self.close, self.crash):
            for data in wrong:
                end()
                self.write(data)
                self.start()
                self.assertEqual(self.told(), _ENDS, data)
                self.assertEqual(self.written(), _TOLD, data)
                # What is read after a crash has told the last one already.
                is_behind = end == self.crash and data == _BEHIND
                self.assertEqual(self.warnings(), [] if is_behind else ["leader-epochs-made-anew"], data)

    def test_the_head_that_changed_is_not_believed(self) -> None:
        for offset, epoch in (
            (20, 65_537),
            (20, 0),
            (40, 67),
            (38, 5),
            (92, 4),
            (118, 70_000),
            (118, 2),
            (0, 3),
        ):
            self.close()
            former = {path: pathlib.Path(path).read_bytes() for path in self.logs()}
            self.set_epoch(offset, epoch)
            self.start()
            self.assertEqual((self.told(), self.written()), (_ENDS, _TOLD), (offset, epoch))
            self.close()
            for path, data in former.items():
                pathlib.Path(path).write_bytes(data)
            self.start()

    def test_a_log_that_begins_later(self) -> None:
        self.log.advance_start(50)
        self.store.disk.pump()
        self.close()
        self.start()
        self.assertEqual((self.told(), self.warnings()), (_ENDS, []))
        self.close()
        self.write(b"0\n2\n3 50\n6 92\n")  # as Kafka has it then
        self.start()
        self.assertEqual((self.log.epoch_end_offset(3), self.warnings()), ((3, 92), []))

    def test_a_log_that_is_empty(self) -> None:
        self.log.settings = LogSettings(retention_ms=0, segment_ms=0)
        self.log.enforce_retention(2_000_000_000_000)
        self.store.disk.pump()
        self.assertEqual((self.log.size_bytes, self.log.start_offset), (0, 120))
        for end in (self.close, self.crash):
            for data in (b"0\n2\n1 0\n1 40\n", b"0\n1\n1\n", b"", _TOLD, b"0\n0\n"):
                end()
                self.write(data)
                self.start()
                self.assertEqual(
                    (self.log.next_offset, self.log.epoch_end_offset(9)[1]),
                    (120, -1 if data != _TOLD else 120),
                )
        self.append(b"x", epoch=7)
        self.assertEqual(self.log.epoch_end_offset(7), (7, 121))
