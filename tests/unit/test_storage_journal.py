"""The journal: its bytes, what is read of them whatever happened, and when its room is used again."""

from __future__ import annotations

import itertools
import os
import tempfile
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from megabroker.storage.faults import FaultyFiles
from megabroker.storage.journal import (
    Entry,
    Frame,
    Journal,
    JournalError,
    _encode_frame,
    encode_entry,
    entry_key,
    read_frames,
)

HALF_BYTES = 4 * 4096
KEY = bytes(range(16))
TOPIC = bytes([0xAA]) * 16

GOLDEN = (
    "4d425346"  # MBSF
    "53a723d3"  # CRC-32C
    "00000064"  # 100 bytes
    "00000001"  # one entry
    "000102030405060708090a0b0c0d0e0f"
    "0000000000000007"  # generation
    "0000000000000003"  # number
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "0003612d30"  # a-0
    "0000000000000064"  # segment
    "0000000000000200"  # position
    "000000000000012c"  # offset after it
    "0000000368690a"  # three bytes
)


class FormatTests(SynchronousTestCase):
    def test_golden(self) -> None:
        frame = _encode_frame(
            KEY, 7, 3, 1, encode_entry(entry_key(TOPIC, "a-0"), 100, 512, 300, [b"h", b"i\n"])
        )
        self.assertEqual(len(frame), 4096)
        self.assertEqual(frame.rstrip(b"\0").hex(), GOLDEN)


class JournalCase(SynchronousTestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = f"{directory.name}/sync-journal"
        self.files = FaultyFiles(real_sync=False)
        self.journal = self.make()

    def make(self) -> Journal:
        journal = Journal(self.files, self.path, HALF_BYTES)
        journal.make()
        self.addCleanup(journal.close)
        return journal

    def add(self, *entries: Entry, journal: Journal | None = None) -> bool:
        parts = [
            part
            for one in entries
            for part in encode_entry(
                entry_key(one.topic_id, one.name), one.segment, one.position, one.end_offset, [one.data]
            )
        ]
        logs = {one.name: one.end_offset for one in entries}
        return (journal or self.journal).append(parts, len(entries), logs)

    def read(self) -> list[tuple[list[Frame], int]]:
        fd = os.open(self.path, os.O_RDONLY)
        try:
            return [(list(frames), missing) for frames, missing in read_frames(self.files, fd)]
        finally:
            os.close(fd)

    def entries(self) -> list[Entry]:
        return [entry for frames, _ in self.read() for frame in frames for entry in frame.entries]

    def spoil(self, position: int, data: bytes) -> None:
        with open(self.path, "r+b") as file:
            file.seek(position)
            file.write(data)


def entry(name: str, end_offset: int, size: int = 10) -> Entry:
    return Entry(TOPIC, name, 0, end_offset * 10, end_offset, bytes([end_offset % 256]) * size)


class ReadingTests(JournalCase):
    def test_a_new_one_is_empty(self) -> None:
        self.assertEqual(self.read(), [])
        self.assertEqual(os.path.getsize(self.path), 4096 + 2 * HALF_BYTES)

    def test_in_order_over_both_halves(self) -> None:
        told = [entry("a-0", at, 3000) for at in range(1, 8)]
        for one in told:
            self.assertTrue(self.add(one))
        self.assertEqual(self.entries(), told)

    def test_frames_of_a_former_generation_mean_nothing(self) -> None:
        for at in range(1, 10):
            self.assertTrue(self.add(entry("a-0", at, 3000)))
            self.journal.settled("a-0", at)
        self.assertEqual([one.end_offset for one in self.entries()], [5, 6, 7, 8, 9])

    def test_a_torn_frame_is_not_there(self) -> None:
        told = [entry("a-0", at) for at in (1, 2, 3)]
        for one in told:
            self.add(one)
        self.spoil(3 * 4096 + 60, b"torn")
        self.assertEqual(self.read(), [([Frame(1, 0, [told[0]]), Frame(1, 1, [told[1]])], 0)])

    def test_a_crash_within_the_first_frame_of_a_new_generation_is_no_damage(self) -> None:
        """Whatever sectors of its blocks came to the disk, in whatever order."""
        for at in range(1, 9):
            self.assertTrue(self.add(entry("a-0", at, 3000)))
        self.journal.settled("a-0", 4)
        states = [self.bytes()]
        self.journal._begin(self.journal._halves[1], 3)
        states.append(self.bytes())
        self.assertTrue(self.add(entry("a-0", 9, 6000)))
        states.append(self.bytes())
        self.assertEqual(self.entries()[-1], entry("a-0", 9, 6000))
        for before, after in itertools.pairwise(states):
            sectors = [
                at for at in range(0, len(after), 512) if before[at : at + 512] != after[at : at + 512]
            ]
            for torn in range(2 ** min(len(sectors), 8)):
                mixed = bytearray(before)
                for bit, at in enumerate(sectors[:4] + sectors[-4:]):
                    if torn >> bit & 1:
                        mixed[at : at + 512] = after[at : at + 512]
                with open(self.path, "wb") as file:
                    file.write(mixed)
                self.assertEqual(sum(missing for _, missing in self.read()), 0, torn)

    def bytes(self) -> bytes:
        with open(self.path, "rb") as file:
            return file.read()

    def test_memory_is_that_of_a_frame(self) -> None:
        journal = Journal(self.files, self.path, 64 * 65536)
        journal.make()
        self.addCleanup(journal.close)
        for at in range(1, 100):
            self.assertTrue(self.add(entry("a-0", at, 60_000), journal=journal))
        fd = os.open(self.path, os.O_RDONLY)
        self.addCleanup(os.close, fd)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        count = sum(len(frame.entries) for frames, _ in read_frames(self.files, fd) for frame in frames)
        self.assertEqual(count, 99)
        self.assertLess(tracemalloc.get_traced_memory()[1], 10 * 65536)

    def test_a_damaged_frame_between_others_is_told(self) -> None:
        told = [entry("a-0", at) for at in (1, 2, 3)]
        for one in told:
            self.add(one)
        for number, position in ((0, 4096), (1, 8192)):
            with open(self.path, "rb") as file:
                file.seek(position)
                block = file.read(4096)
            self.spoil(position + 60, b"rot")
            [(frames, missing)] = self.read()
            self.assertEqual(missing, 1)
            self.assertEqual([frame.number for frame in frames], [at for at in range(3) if at != number])
            self.spoil(position, block)

    def test_what_a_client_stores_is_no_frame(self) -> None:
        """A record that looks like a frame, in a frame that is torn."""
        forged = _encode_frame(KEY, 9, 0, 1, encode_entry(entry_key(TOPIC, "b-0"), 0, 0, 9, [b"forged"]))
        self.add(Entry(TOPIC, "a-0", 0, 0, 1, bytes(4096 - 48 - 21 - 28) + bytes(forged)))
        self.spoil(4096 + 50, b"torn")
        with open(self.path, "rb") as file:
            file.seek(8192)
            self.assertEqual(file.read(4), b"MBSF")
        self.assertEqual(self.read(), [])

    def test_another_version_and_no_journal(self) -> None:
        with open(self.path, "rb") as file:
            header = file.read(36)
        for bit in range(8 * len(header)):
            flipped = bytearray(header)
            flipped[bit // 8] ^= 1 << bit % 8
            self.spoil(0, bytes(flipped))
            with self.assertRaises(JournalError):
                self.read()
        self.spoil(0, header[:4] + b"\0\0\0\x01" + header[8:])
        with self.assertRaisesRegex(JournalError, "version 1; expected 2"):
            self.read()
        self.spoil(0, b"XXXX")
        with self.assertRaises(JournalError):
            self.read()
        os.truncate(self.path, 10)
        with self.assertRaises(JournalError):
            self.read()


class RoomTests(JournalCase):
    def test_a_half_that_is_needed_is_not_used_again(self) -> None:
        for at in range(1, 9):
            self.assertTrue(self.add(entry(f"log-{at % 2}", at, 3000)), at)
        self.assertFalse(self.add(entry("log-0", 10, 3000)))
        self.assertTrue(self.journal.turned)
        self.assertEqual(self.journal.held(all_of_it=False), {"log-1": 3, "log-0": 4})
        self.assertEqual(self.journal.held(all_of_it=True), {"log-1": 7, "log-0": 8})
        self.journal.settled("log-1", 3)
        self.journal.settled("log-0", 3)
        self.assertFalse(self.add(entry("log-0", 10, 3000)), "of this log only what came before is settled")
        self.assertEqual(len(self.entries()), 8)
        self.journal.settled("log-0", 4)
        self.assertTrue(self.add(entry("log-0", 10, 3000)))
        self.assertEqual([one.end_offset for one in self.entries()], [5, 6, 7, 8, 10])
        self.assertEqual(self.journal.held(all_of_it=True), {"log-1": 7, "log-0": 10})

    def test_too_much_for_a_half(self) -> None:
        self.assertFalse(self.add(entry("a-0", 1, HALF_BYTES)))
        self.assertTrue(self.add(entry("a-0", 1)))

    def test_removed(self) -> None:
        self.journal.remove()
        self.assertEqual(os.listdir(os.path.dirname(self.path)), [])

    def test_not_made(self) -> None:
        self.journal.remove()
        for number in range(4):
            self.files.fail("pwritev", 28, skip=number)
            with self.assertRaises(OSError):
                self.make() if number < 1 else self.refuse()
            self.files.heal()
            self.assertEqual(os.listdir(os.path.dirname(self.path)), [])

    def refuse(self) -> None:
        self.files.fail("rename", 28)
        self.make()


entries = st.builds(
    Entry,
    st.binary(min_size=16, max_size=16),
    st.text(max_size=12),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    st.binary(max_size=5000),
)
rounds = st.lists(st.lists(entries, min_size=1, max_size=3), max_size=8)


class AnyBytesTests(JournalCase):
    @settings(max_examples=60, deadline=None)
    @given(
        rounds,
        st.lists(st.tuples(st.integers(4096, 4096 + 2 * HALF_BYTES), st.binary(max_size=40)), max_size=4),
    )
    def test_what_is_read_was_written(self, told: list[list[Entry]], spoilt: list[tuple[int, bytes]]) -> None:
        journal = self.make()
        written = [one for one in told if self.add(*one, journal=journal)]
        self.assertEqual([frame.entries for frames, _ in self.read() for frame in frames], written)
        for position, data in spoilt:
            self.spoil(position, data)
        left = [frame.entries for frames, _ in self.read() for frame in frames]
        self.assertTrue(all(one in written for one in left))
        if not spoilt:
            self.assertEqual(left, written)
        journal.close()
