"""Reading record by record over a partition of prepared batches."""

from __future__ import annotations

import tempfile
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import build, build_control, scan, stamp
from megabroker.errors import ErrorCode, ProtocolError, RequestError, StorageError
from megabroker.model import AbortedTransaction, FileRange, ReadResult, TopicPartition
from megabroker.protocols.gate import Gate
from megabroker.protocols.reading import ReadCache, RecordReader
from megabroker.storage.files import Files, LogFile


class Batches:
    """What ``IPartition.read`` gives over batches at chosen offsets; counts its reads."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, bytes]] = []
        self.reads = 0
        self.topic_partition = TopicPartition("orders", 0)
        self.file: Any = None
        self.high_watermark = 0
        self.start_offset = 0
        self.last_stable_offset = 1 << 60
        self.aborted: list[AbortedTransaction] = []

    def add(self, base_offset: int, values: list[bytes], compression: int = 0) -> None:
        self.add_batch(base_offset, build([(None, v, (), 7) for v in values], compression=compression))

    def add_batch(self, base_offset: int, data: bytearray) -> None:
        stamp(data, base_offset, 0)
        (_, header), *_ = scan(data, 0, len(data))
        self.batches.append((base_offset, header.next_offset, bytes(data)))
        self.high_watermark = header.next_offset

    def read(
        self, offset: int, max_bytes: int, *, committed: bool = False, cached_only: bool = False
    ) -> ReadResult:
        self.reads += 1
        if not self.start_offset <= offset <= self.high_watermark:
            raise RequestError(ErrorCode.OFFSET_OUT_OF_RANGE)
        stable = self.last_stable_offset if committed else self.high_watermark
        data = b"".join(batch for base, end, batch in self.batches if end > offset and base < stable)
        if data:
            (_, first), *_ = scan(data, 0, len(data))
            data = data[: max(max_bytes, first.size_bytes)]
        if self.file is None:
            return ReadResult(data, len(data))
        files = Files()
        position = files.size(self.file.fileno())
        files.pwritev(self.file.fileno(), [data], position)
        return ReadResult(FileRange(self.file, position, len(data)), len(data))

    def aborted_transactions(self, from_offset: int, to_offset: int) -> list[AbortedTransaction]:
        found = (one for one in self.aborted if one.first_offset < to_offset)
        return [one for one in found if one.last_offset >= from_offset]


def reader(
    partition: Batches, offset: int = 0, cache: ReadCache | None = None, **options: Any
) -> RecordReader:
    return RecordReader(partition, offset, cache or ReadCache(1 << 20), **options)  # type: ignore[arg-type]


def drained(one: RecordReader) -> list[tuple[int, bytes | None]]:
    found = []
    while (record := one.next()) is not None:
        found.append((record.offset, record.value))
        assert one.position == record.offset + 1
    return found


class RecordReaderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.partition = Batches()
        self.partition.add(0, [b"a", b"b"])
        self.partition.add_batch(
            2,
            build_control(commit=True, producer_id=1, producer_epoch=0, coordinator_epoch=0, timestamp_ms=1),
        )
        self.partition.add(3, [b"d", b"e", b"f"], compression=1)
        self.partition.add(10, [b"k"], compression=3)
        self.expected = [(0, b"a"), (1, b"b"), (3, b"d"), (4, b"e"), (5, b"f"), (10, b"k")]

    def test_every_record_from_every_offset(self) -> None:
        for offset in range(12):
            for read_bytes in (1, 100, 1 << 18):
                one = reader(self.partition, offset, read_bytes=read_bytes)
                self.assertEqual(drained(one), [r for r in self.expected if r[0] >= offset])

    def test_file_ranges(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            self.partition.file = LogFile(Files(), f"{directory}/log", create=True)
            self.assertEqual(drained(reader(self.partition)), self.expected)

    def test_goes_on_when_more_is_there(self) -> None:
        one = reader(self.partition)
        drained(one)
        self.assertEqual(one.position, 11)
        self.partition.add(11, [b"l"])
        self.assertEqual(drained(one), [(11, b"l")])

    def test_a_batch_is_read_once_in_order(self) -> None:
        partition = Batches()
        partition.add(0, [b"%d" % i for i in range(500)], compression=1)
        one = reader(partition)
        for _ in range(500):
            self.assertIsNotNone(one.next())
        self.assertEqual(partition.reads, 1)

    def test_drop_loses_nothing(self) -> None:
        one = reader(self.partition)
        found = []
        while (record := one.next()) is not None:
            found.append((record.offset, record.value))
            one.drop()
        self.assertEqual(found, self.expected)

    def test_out_of_range(self) -> None:
        self.assertRaises(RequestError, reader(self.partition, 12).next)
        self.partition.start_offset = 3
        self.assertRaises(RequestError, reader(self.partition, 2).next)

    def test_a_flipped_bit_is_never_served(self) -> None:
        base, end, data = self.partition.batches[0]
        flipped = data.replace(b"\x01a", b"\x01c").replace(b"\x02a", b"\x02c")
        assert flipped != data
        self.partition.batches[0] = (base, end, flipped)
        with self.assertRaises(ProtocolError) as caught:
            drained(reader(self.partition))
        self.assertIn("offset 0 of orders-0 is damaged", str(caught.exception))
        self.assertEqual(drained(reader(self.partition, end)), drained(reader(self.partition, end)))

    def test_damage(self) -> None:
        base, end, data = self.partition.batches[2]
        self.partition.batches[2] = (base, end, data[:70] + b"\xff" * (len(data) - 70))
        self.assertRaises(ProtocolError, drained, reader(self.partition))

    def test_a_log_that_goes_backwards_is_an_error_and_no_loop(self) -> None:
        self.partition.batches[:] = [(0, 1 << 40, self.partition.batches[0][2])]
        self.partition.high_watermark = 100
        self.assertRaises(StorageError, reader(self.partition, 50).next)


class TransactionTests(SynchronousTestCase):
    """Consumers of these wires see what was committed, and nothing else."""

    def add(self, partition: Batches, base: int, value: bytes, producer_id: int) -> None:
        data = build(
            [(None, value, (), 7)], producer_id=producer_id, producer_epoch=0, base_sequence=0, attributes=16
        )
        partition.add_batch(base, data)

    def end(self, partition: Batches, offset: int, producer_id: int, first_offset: int, commit: bool) -> None:
        partition.add_batch(
            offset,
            build_control(
                commit=commit, producer_id=producer_id, producer_epoch=0, coordinator_epoch=0, timestamp_ms=1
            ),
        )
        if not commit:
            partition.aborted.append(AbortedTransaction(producer_id, first_offset, offset, offset + 1))

    def test_aborted_records_are_passed_over_and_open_ones_waited_for(self) -> None:
        partition = Batches()
        self.add(partition, 0, b"committed", 1)
        self.add(partition, 1, b"aborted", 2)
        self.end(partition, 2, 2, 1, commit=False)
        self.end(partition, 3, 1, 0, commit=True)
        self.add(partition, 4, b"again", 2)
        self.end(partition, 5, 2, 4, commit=True)
        partition.add(6, [b"plain"])
        self.add(partition, 7, b"open", 1)
        partition.last_stable_offset = 7
        one = reader(partition)
        self.assertEqual(drained(one), [(0, b"committed"), (4, b"again"), (6, b"plain")])
        self.end(partition, 8, 1, 7, commit=True)
        partition.last_stable_offset = 9
        self.assertEqual(drained(one), [(7, b"open")])

    def test_what_was_deleted_since_it_was_read_is_not_taken_for_committed(self) -> None:
        partition = Batches()
        partition.add(0, [b"plain"])
        self.add(partition, 1, b"aborted", 2)
        self.end(partition, 2, 2, 1, commit=False)
        partition.add(3, [b"more"])
        one = reader(partition)
        record = one.next()
        assert record is not None
        self.assertEqual(record.value, b"plain")
        partition.start_offset = 3  # the segment goes, and with it what it says of aborted transactions
        partition.aborted.clear()
        self.assertEqual(drained(one), [(3, b"more")])


class ReadCacheTests(SynchronousTestCase):
    def test_the_longest_unused_gives_up(self) -> None:
        partition = Batches()
        partition.add(0, [b"x" * 1000] * 10, compression=1)
        cache = ReadCache(50_000)
        readers = [reader(partition, 0, cache) for _ in range(8)]
        for one in readers:
            one.next()
        self.assertLessEqual(cache.held_bytes, 50_000)
        reads = partition.reads
        self.assertEqual(len(drained(readers[-1])), 9)
        self.assertEqual(partition.reads, reads + 1)
        self.assertEqual(len(drained(readers[0])), 9)
        self.assertEqual(partition.reads, reads + 3)
        for one in readers:
            one.close()
        self.assertEqual(cache.held_bytes, 0)


class GateTests(SynchronousTestCase):
    def test_opens_for_all_once(self) -> None:
        gate = Gate()
        self.assertFalse(gate.closed)
        gate.close()
        called: list[int] = []
        gate.when_room(lambda: called.append(1))
        gate.when_room(lambda: called.append(2))
        self.assertTrue(gate.closed)
        gate.open()
        gate.open()
        self.assertEqual(called, [1, 2])
