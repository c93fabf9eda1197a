"""Record batches: golden bytes, what is refused and as what, stamping, and walks over many batches."""

from __future__ import annotations

import struct
from collections.abc import Callable

from crc32c import crc32c
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec import batch, compression
from megabroker.errors import ErrorCode, ProtocolError
from megabroker.model import BatchHeader, Header, Record

T0 = 1_700_000_000_000

# Two records of a transactional producer, as aiokafka 0.14 builds them.
GOLDEN = bytes.fromhex(
    "0000000000000000 0000004f ffffffff 02 ad96108c 0010 00000001 0000018bcfe56800 0000018bcfe56864"
    " 0000000000000007 0002 00000005 00000002"
    " 2a 00 00 00 06 6b6579 0a 76616c7565 04 02 68 02 78 02 6e 01"
    " 0e 00 c801 02 01 01 00"
)


def sample(count: int = 3, **options: int) -> bytearray:
    """Build a batch of ``count`` small records."""
    return batch.build([(b"k%d" % n, b"value-%d" % n, (), T0 + n) for n in range(count)], **options)


def patched(data: bytes | bytearray, pos: int, form: str, value: int, *, fix_crc: bool = True) -> bytearray:
    """Change one header field of a copy of ``data``, with a right CRC unless told otherwise."""
    out = bytearray(data)
    struct.pack_into(form, out, pos, value)
    if fix_crc:
        struct.pack_into(">I", out, 17, crc32c(bytes(out[21:])))
    return out


class GoldenTests(SynchronousTestCase):
    """The layout itself."""

    def test_build(self) -> None:
        built = batch.build(
            [(b"key", b"value", [("h", b"x"), ("n", None)], T0), (None, None, (), T0 + 100)],
            producer_id=7,
            producer_epoch=2,
            base_sequence=5,
            attributes=16,
        )
        self.assertIsInstance(built, bytearray)
        self.assertEqual(built.hex(" "), GOLDEN.hex(" "))

    def test_read(self) -> None:
        header = batch.read_header(GOLDEN, 0, len(GOLDEN))
        expected = BatchHeader(0, 0x4F, -1, 2, 0xAD96108C, 16, 1, T0, T0 + 100, 7, 2, 5, 2)
        self.assertEqual(header, expected)
        self.assertIsInstance(header, BatchHeader)
        self.assertTrue(header.is_transactional)
        self.assertTrue(batch.check_crc(GOLDEN, 0, header))
        self.assertEqual(
            list(batch.read_records(GOLDEN)),
            [
                Record(0, T0, b"key", b"value", (Header("h", b"x"), Header("n", None))),
                Record(1, T0 + 100, None, None),
            ],
        )

    def test_build_single_is_build(self) -> None:
        for key in (None, b"", b"key", b"k" * 5000):
            for value in (None, b"", b"value", memoryview(b"v" * 70_000)):
                self.assertEqual(batch.build_single(key, value, T0), batch.build([(key, value, (), T0)]))

    def test_control_marker(self) -> None:
        for commit in (True, False):
            data = batch.build_control(
                commit=commit, producer_id=9, producer_epoch=1, coordinator_epoch=4, timestamp_ms=T0
            )
            header = batch.read_header(data, 0, len(data))
            self.assertTrue(header.is_control and header.is_transactional)
            self.assertEqual(list(batch.records(data, header)), [])
            (marker,) = batch.records(data, header, control=True)
            self.assertEqual(marker.key, b"\x00\x00\x00\x01" if commit else b"\x00\x00\x00\x00")
            self.assertEqual(batch.parse_control(marker), (commit, 4))
        self.assertRaises(ProtocolError, batch.parse_control, Record(0, 0, b"\x00", None))


class BuildTests(SynchronousTestCase):
    """Faults of the caller."""

    def test_out_of_range(self) -> None:
        self.assertRaises(ValueError, batch.build, [])
        self.assertRaises(ValueError, batch.build, [(None, b"", (), 1 << 63)])
        self.assertRaises(ValueError, sample, compression=5)
        self.assertRaises(ValueError, sample, base_offset=-(1 << 64))
        self.assertRaises(ValueError, batch.build_single, None, b"", 1 << 63)

    def test_timestamps_need_not_ascend(self) -> None:
        times = [T0, T0 - 5_000_000, T0 + 7, -1]
        data = batch.build([(None, b"", (), time) for time in times])
        self.assertEqual(batch.read_header(data, 0, len(data)).max_timestamp, T0 + 7)
        self.assertEqual([record.timestamp_ms for record in batch.read_records(data)], times)


class ReadHeaderTests(SynchronousTestCase):
    """Truncated, corrupt and old are three different things."""

    def refused(self, data: bytes | bytearray, error: type[Exception]) -> None:
        for buf in (bytes(data), memoryview(data)):
            with self.assertRaises(error) as caught:
                batch.read_header(buf, 0, len(buf))
            self.assertIs(type(caught.exception), error)

    def test_truncated(self) -> None:
        data = sample()
        for size in range(len(data)):
            self.refused(data[:size], batch.TruncatedBatch)

    def test_peek_needs_the_head_only(self) -> None:
        data = sample()
        self.assertEqual(batch.peek_header(data, 0, 61), batch.read_header(data, 0, len(data)))
        self.assertRaises(batch.TruncatedBatch, batch.peek_header, data, 0, 60)
        self.assertRaises(batch.TruncatedBatch, batch.peek_header, data, 100, 60)

    def test_old_message_sets(self) -> None:
        body = struct.pack(">BBq", 1, 0, T0) + struct.pack(">ii", -1, 1) + b"x"
        old = struct.pack(">qiI", 0, 4 + len(body), crc32c(body)) + body
        self.refused(old, batch.UnsupportedMagic)
        self.refused(patched(sample(), 16, ">b", 0), batch.UnsupportedMagic)
        self.refused(patched(sample(), 16, ">b", 3), batch.UnsupportedMagic)
        for magic, code in ((0, ErrorCode.INVALID_RECORD), (3, ErrorCode.CORRUPT_BATCH)):
            with self.assertRaises(batch.UnsupportedMagic) as raised:
                batch.read_header(patched(sample(), 16, ">b", magic), 0, len(sample()))
            self.assertEqual(raised.exception.code, code)

    def test_corrupt(self) -> None:
        data = sample()
        for pos, form, value in (
            (0, ">q", -1),
            (0, ">q", (1 << 63) - 1),
            (8, ">i", 48),
            (8, ">i", -1),
            (23, ">i", -1),
            (23, ">i", 1),
            (57, ">i", -1),
            (57, ">i", 4),
        ):
            self.refused(patched(data, pos, form, value), batch.CorruptBatch)
        self.refused(patched(patched(data, 23, ">i", -1), 57, ">i", 0), batch.CorruptBatch)

    def test_compacted_away(self) -> None:
        data = patched(sample(), 57, ">i", 0)
        self.assertEqual(batch.read_header(data, 0, len(data)).next_offset, 3)

    def test_in_the_middle_of_a_buffer(self) -> None:
        data = sample()
        buf = b"junk" + data + b"junk"
        header = batch.read_header(buf, 4, len(buf))
        self.assertTrue(batch.check_crc(buf, 4, header))
        self.assertFalse(batch.check_crc(buf[:80] + b"?" + buf[81:], 4, header))
        self.assertRaises(batch.TruncatedBatch, batch.read_header, buf, 4, len(buf) - 5)


class ValidateProduceTests(SynchronousTestCase):
    """What a client may send."""

    def refused(self, data: bytes | bytearray, error: type[batch.BatchError], code: ErrorCode) -> None:
        with self.assertRaises(error) as caught:
            batch.validate_produce(data)
        self.assertIs(type(caught.exception), error)
        self.assertIs(caught.exception.code, code)

    def test_accepted(self) -> None:
        for codec in range(5):
            data = sample(compression=codec)
            for buf in (data, bytes(data), memoryview(data)):
                self.assertEqual(batch.validate_produce(buf), batch.read_header(data, 0, len(data)))
        batch.validate_produce(GOLDEN)
        batch.validate_produce(batch.build_single(None, None, -1))

    def test_client_base_offset_means_nothing(self) -> None:
        self.assertEqual(batch.validate_produce(patched(sample(), 0, ">q", -7)).record_count, 3)

    def test_truncated(self) -> None:
        data = sample()
        for size in range(len(data)):
            self.refused(data[:size], batch.TruncatedBatch, ErrorCode.INVALID_RECORD)

    def test_any_flipped_bit_under_the_crc(self) -> None:
        data = sample()
        for pos in range(17, len(data)):
            self.refused(
                patched(data, pos, ">B", data[pos] ^ 4, fix_crc=False),
                batch.CorruptBatch,
                ErrorCode.CORRUPT_BATCH,
            )

    def test_old_format(self) -> None:
        self.refused(patched(sample(), 16, ">b", 1), batch.UnsupportedMagic, ErrorCode.INVALID_RECORD)

    def test_two_batches(self) -> None:
        self.refused(sample() + sample(), batch.InvalidBatch, ErrorCode.INVALID_RECORD)

    def test_batch_length_too_small(self) -> None:
        self.refused(patched(sample(), 8, ">i", 48), batch.CorruptBatch, ErrorCode.CORRUPT_BATCH)
        self.refused(patched(sample(), 8, ">i", -1), batch.CorruptBatch, ErrorCode.CORRUPT_BATCH)

    def test_forbidden_to_clients(self) -> None:
        plain, idempotent = sample(), sample(producer_id=1, producer_epoch=0, base_sequence=0)
        batch.validate_produce(idempotent)
        for data in (
            patched(plain, 21, ">h", 0x20),
            patched(plain, 21, ">h", 0x10),
            patched(plain, 23, ">i", 3),
            patched(patched(plain, 57, ">i", 0), 23, ">i", -1),
            patched(patched(plain, 57, ">i", 1 << 30), 23, ">i", (1 << 30) - 1),
            patched(idempotent, 43, ">q", -2),
            patched(idempotent, 51, ">h", -1),
            patched(idempotent, 53, ">i", -1),
        ):
            self.refused(data, batch.InvalidBatch, ErrorCode.INVALID_RECORD)
        for codec in (5, 6, 7):
            self.refused(
                patched(plain, 21, ">h", codec), batch.InvalidBatch, ErrorCode.UNSUPPORTED_COMPRESSION
            )


class StampTests(SynchronousTestCase):
    """Writing into a batch in place."""

    def test_stamp_keeps_the_crc(self) -> None:
        data = sample()
        for target in (data, memoryview(data)):
            batch.stamp(target, 12345678901, 7)
        header = batch.read_header(data, 0, len(data))
        self.assertEqual((header.base_offset, header.leader_epoch), (12345678901, 7))
        self.assertTrue(batch.check_crc(data, 0, header))
        self.assertEqual([r.offset for r in batch.read_records(data)], [12345678901 + n for n in range(3)])

    def test_append_time(self) -> None:
        for codec in (compression.NONE, compression.ZSTD):
            data = sample(compression=codec)
            before = batch.validate_produce(data)
            batch.stamp(data, 50, 1)
            after = batch.stamp_append_time(data, before, T0 + 999)
            stored = batch.read_header(data, 0, len(data))
            self.assertEqual(stored, after._replace(base_offset=50, leader_epoch=1))
            self.assertTrue(batch.check_crc(data, 0, after))
            self.assertTrue(after.is_log_append_time)
            self.assertEqual((after.base_timestamp, after.max_timestamp), (T0, T0 + 999))
            self.assertEqual(after.compression, codec)
            self.assertEqual({r.timestamp_ms for r in batch.read_records(data)}, {T0 + 999})


class WalkTests(SynchronousTestCase):
    """Many batches in one buffer."""

    def setUp(self) -> None:
        self.first = bytes(sample(3, base_offset=10))
        self.control = bytes(
            patched(
                batch.build_control(
                    commit=True, producer_id=1, producer_epoch=0, coordinator_epoch=0, timestamp_ms=T0
                ),
                0,
                ">q",
                13,
            )
        )
        self.last = bytes(sample(2, base_offset=14, compression=compression.LZ4))
        self.all = self.first + self.control + self.last

    def test_scan(self) -> None:
        found = [(pos, header.base_offset) for pos, header in batch.scan(self.all, 0, len(self.all))]
        second = len(self.first)
        self.assertEqual(found, [(0, 10), (second, 13), (second + len(self.control), 14)])
        cut = [header.base_offset for _, header in batch.scan(self.all, 0, len(self.all) - 1)]
        self.assertEqual(cut, [10, 13])
        self.assertEqual(list(batch.scan(self.all, 0, 0)), [])

    def test_scan_says_where_it_is_corrupt(self) -> None:
        walk = batch.scan(self.first + bytes(100), 0, len(self.first) + 100)
        self.assertEqual(next(walk)[0], 0)
        self.assertRaises(batch.UnsupportedMagic, next, walk)

    def test_read_records(self) -> None:
        for start in range(18):
            wanted = [offset for offset in (10, 11, 12, 14, 15) if offset >= start]
            self.assertEqual([r.offset for r in batch.read_records(self.all, start)], wanted)
        self.assertEqual([r.offset for r in batch.read_records(self.all[:-1])], [10, 11, 12])
        self.assertEqual(list(batch.read_records(self.first[:-1])), [])

    def test_decompression_is_bounded(self) -> None:
        data = batch.build([(None, bytes(1 << 20), (), T0)], compression=compression.GZIP)
        self.assertRaises(compression.OutputTooLarge, list, batch.read_records(data, max_bytes=1 << 20))
        self.assertEqual(len(list(batch.read_records(data, max_bytes=(1 << 20) + 20))), 1)

    def test_find_batch(self) -> None:
        damaged = bytes(77) + b"\x02" * 99 + self.all
        for buf in (damaged, bytearray(damaged), memoryview(damaged)):
            for min_offset, wanted in ((0, 10), (10, 10), (11, 13), (14, 14)):
                found = batch.find_batch(buf, 0, len(buf), min_offset)
                assert found is not None
                self.assertEqual(found[1].base_offset, wanted)
                self.assertEqual(batch.read_header(buf, found[0], len(buf)), found[1])
            self.assertIsNone(batch.find_batch(buf, 0, len(buf), 15))
        found = batch.find_batch(damaged, 177, len(damaged), 0)
        assert found is not None
        self.assertEqual(found[1].base_offset, 13)
        self.assertIsNone(
            batch.find_batch(damaged, 0, len(damaged) - len(self.last) - len(self.control) - 1, 0)
        )

    def test_find_batch_passes_over_a_wrong_crc(self) -> None:
        broken = bytearray(self.first)
        broken[-1] ^= 1
        found = batch.find_batch(bytes(broken) + self.last, 0, len(broken) + len(self.last), 0)
        assert found is not None
        self.assertEqual(found[0], len(broken))

    def test_find_batch_is_bounded_on_bytes_made_to_delay_it(self) -> None:
        size = 1 << 20
        one = struct.pack(">qiibIhi", 99, size // 2, 0, 2, 0, 0, 0)
        one += struct.pack(">qqqhii", 0, 0, 0, 0, 0, 1)
        bait = one * (size // len(one))
        self.assertRaises(batch.SearchExhausted, batch.find_batch, bait, 0, len(bait), 99)
        self.assertIsNone(batch.find_batch(bait, 0, len(bait), 100))


class RecordTests(SynchronousTestCase):
    """Records that are none; the CRC of each batch here is right."""

    def refused(self, payload: bytes, count: int = 1) -> None:
        head = sample(1)[:61]
        data = patched(head + payload, 8, ">i", 49 + len(payload))
        data = patched(patched(data, 57, ">i", count), 23, ">i", count - 1)
        header = batch.read_header(data, 0, len(data))
        self.assertTrue(batch.check_crc(data, 0, header))
        self.assertRaises(ProtocolError, list, batch.read_records(data))

    def test_hostile_records(self) -> None:
        varint: Callable[[int], bytes] = batch_varint
        good = b"\x00\x00\x00\x01\x01\x00"
        whole = varint(len(good)) + good
        self.refused(whole + b"x")
        self.refused(whole, 2)
        self.refused(whole * 2, 1)
        self.refused(whole * 2, 2)
        self.refused(whole, (1 << 31) - 1)
        self.refused(varint(-1) + good)
        self.refused(varint(5) + good)
        self.refused(varint(7) + good)
        self.refused(varint((1 << 31) - 1) + good)
        self.refused(b"\xff" * 12)
        for body in (
            b"\x00\x00\x00" + varint(-2) + b"\x01\x00",
            b"\x00\x00\x00\x01" + varint(-2) + b"\x00",
            b"\x00\x00\x00" + varint((1 << 31) - 1) + b"\x01\x00",
            b"\x00\x00\x00\x01" + varint((1 << 31) - 1) + b"\x00",
            b"\x00\x00\x00\x01" + varint(4000) + b"\x00",
            b"\x00\x00" + varint(1) + b"\x01\x01\x00",
            b"\x00\x00" + varint(-1) + b"\x01\x01\x00",
            b"\x00\x00\x00\x01\x01" + varint(1),
            b"\x00\x00\x00\x01\x01" + varint(-1),
            b"\x00\x00\x00\x01\x01" + varint((1 << 31) - 1),
            b"\x00\x00\x00\x01\x01" + varint(1) + varint(-1) + varint(-1),
            b"\x00\x00\x00\x01\x01" + varint(1) + varint(50) + varint(-1),
            b"\x00\x00\x00\x01\x01" + varint(1) + varint(0) + varint(-2),
            b"\x00\x00\x00\x01\x01" + varint(1) + varint(0) + varint(50),
            b"\x00" + b"\xfe" + b"\xff" * 8 + b"\x01" + b"\x00\x01\x01\x00",
            b"\x00" + b"\xff" * 11 + b"\x00\x01\x01\x00",
        ):
            self.refused(varint(len(body)) + body)

    def test_header_key_that_is_no_text(self) -> None:
        body = b"\x00\x00\x00\x01\x01" + batch_varint(1) + batch_varint(1) + b"\xff" + batch_varint(-1)
        payload = batch_varint(len(body)) + body
        data = patched(sample(1)[:61] + payload, 8, ">i", 49 + len(payload))
        (record,) = batch.read_records(data)
        self.assertEqual(record.headers, (Header("�", None),))


def batch_varint(value: int) -> bytes:
    """Write a zig-zag varint independently of the code under test."""
    number = (value << 1) ^ (value >> 31)
    out = b""
    while number > 0x7F:
        out += bytes((number & 0x7F | 0x80,))
        number >>= 7
    return out + bytes((number,))
