"""Compression: forms that clients send, damage, and output that must not be made."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import cramjam
import lz4.frame
import pytest
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec import compression
from megabroker.codec.compression import GZIP, LZ4, NONE, SNAPPY, ZSTD, OutputTooLarge, compress, decompress
from megabroker.codec.primitives import write_uvarint
from megabroker.errors import ProtocolError

CODECS = (NONE, GZIP, SNAPPY, LZ4, ZSTD)
MIXED = os.urandom(70_000) + b"megabroker" * 40_000


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("data", [b"", b"x", b"hello " * 50, MIXED], ids=["empty", "one", "text", "mixed"])
def test_round_trip_within_an_exact_bound(codec: int, data: bytes) -> None:
    packed = compress(codec, data)
    assert decompress(codec, packed, len(data)) == data
    assert decompress(codec, memoryview(bytearray(packed)), 1 << 30) == data


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("data", [b"x", b"hello " * 50, MIXED], ids=["one", "text", "mixed"])
def test_one_byte_over_the_bound_is_refused(codec: int, data: bytes) -> None:
    with pytest.raises(OutputTooLarge):
        decompress(codec, compress(codec, data), len(data) - 1)


@pytest.mark.parametrize("codec", CODECS[1:])
def test_every_truncation_is_refused(codec: int) -> None:
    packed = compress(codec, b"hello " * 50)
    # A xerial stream has no end mark: only its head alone is a whole, empty stream.
    whole = {16} if codec == SNAPPY else set()
    for size in set(range(len(packed))) - whole:
        with pytest.raises(ProtocolError):
            decompress(codec, packed[:size], 1 << 20)


@pytest.mark.parametrize("codec", CODECS[1:])
def test_trailing_bytes_are_refused(codec: int) -> None:
    for trailing in (b"\x00", b"garbage", compress(codec, b"again"), bytes(200_000)):
        with pytest.raises(ProtocolError):
            decompress(codec, compress(codec, b"hello") + trailing, 1 << 20)


class CompressionTests(SynchronousTestCase):
    """What does not fit a table."""

    def test_numbers_and_names(self) -> None:
        self.assertEqual(
            [compression.NAMES[codec] for codec in CODECS], ["none", "gzip", "snappy", "lz4", "zstd"]
        )
        self.assertEqual(compression.CODEC_NUMBERS["zstd"], 4)

    def test_unknown_codec(self) -> None:
        for codec in (-1, 5, 7):
            self.assertRaises(ProtocolError, decompress, codec, b"", 10)
            self.assertRaises(ValueError, compress, codec, b"")

    def test_gzip_is_read_by_the_standard_library_and_back(self) -> None:
        self.assertEqual(gzip.decompress(compress(GZIP, MIXED)), MIXED)
        self.assertEqual(compression.gunzip(gzip.compress(MIXED), len(MIXED)), MIXED)

    def test_gzip_checksum_is_checked(self) -> None:
        packed = bytearray(gzip.compress(b"hello"))
        packed[-5] ^= 1
        self.assertRaises(ProtocolError, compression.gunzip, packed, 100)

    def test_a_body_that_is_not_gzip(self) -> None:
        for body in (b"", b"plain text", b"\x1f\x8b", b"\x78\x9c\x03\x00\x00\x00\x00\x01"):
            self.assertRaises(ProtocolError, compression.gunzip, body, 100)

    def test_snappy_is_written_in_xerial_framing_of_several_blocks(self) -> None:
        packed = compress(SNAPPY, MIXED)
        self.assertEqual(packed[:16], b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01")
        first = int.from_bytes(packed[16:20], "big")
        self.assertEqual(bytes(cramjam.snappy.decompress_raw(packed[20 : 20 + first])), MIXED[: 32 * 1024])

    def test_raw_snappy_is_read(self) -> None:
        packed = bytes(cramjam.snappy.compress_raw(MIXED))
        self.assertEqual(decompress(SNAPPY, packed, len(MIXED)), MIXED)
        self.assertRaises(OutputTooLarge, decompress, SNAPPY, packed, len(MIXED) - 1)

    def test_snappy_lengths_that_cannot_be(self) -> None:
        head = compress(SNAPPY, b"")
        for tail in (b"\x00", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xffabc"):
            self.assertRaises(ProtocolError, decompress, SNAPPY, head + tail, 1 << 30)
        self.assertRaises(ProtocolError, decompress, SNAPPY, write_uvarint(1 << 29) + b"\x00a", 1 << 30)
        self.assertRaises(ProtocolError, decompress, SNAPPY, b"\x00\x00", 1 << 30)

    def test_lz4_blocks_are_independent_and_dependent_ones_are_read(self) -> None:
        self.assertTrue(compress(LZ4, MIXED)[4] & 0x20)
        for linked in (True, False):
            for store_size in (True, False):
                packed = lz4.frame.compress(
                    MIXED,
                    block_linked=linked,
                    store_size=store_size,
                    content_checksum=True,
                    block_checksum=True,
                )
                self.assertEqual(decompress(LZ4, packed, len(MIXED)), MIXED)

    def test_zstd_frame_that_asks_for_a_huge_window(self) -> None:
        frame = b"\x28\xb5\x2f\xfd\x00\xf8\x03\x00\x00x"
        self.assertRaises(ProtocolError, decompress, ZSTD, frame, 1 << 20)

    def test_bombs_are_stopped_before_they_expand(self) -> None:
        """Each input would make a gigabyte; the process must not grow by more than a few steps."""
        if not Path("/proc/self/status").exists():
            raise pytest.skip.Exception("no /proc to measure with")
        done = subprocess.run(
            [sys.executable, "-c", _BOMBS], capture_output=True, text=True, timeout=60, check=False
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        grown = dict(line.split() for line in done.stdout.splitlines())
        self.assertEqual(sorted(grown), ["gzip", "lz4", "snappy", "snappy-raw", "zstd"])
        for name, kilobytes in grown.items():
            self.assertLess(int(kilobytes), 16 * 1024, name)


_BOMBS = r"""
import zlib, struct, re
import cramjam, lz4.frame
from megabroker.codec import compression as c

GB, MB = 1 << 30, 1 << 20

def peak_kb():
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])

packer = zlib.compressobj(9, wbits=31)
head = packer.compress(b"") + packer.compress(bytes(MB)) + packer.flush(zlib.Z_FULL_FLUSH)
gzip_bomb = head + (packer.compress(bytes(MB)) + packer.flush(zlib.Z_FULL_FLUSH)) * 1023

packer = lz4.frame.LZ4FrameCompressor(block_size=lz4.frame.BLOCKSIZE_MAX4MB, block_linked=False)
head = packer.begin()
lz4_bomb = head + (packer.compress(bytes(4 * MB)) + packer.flush()[:-4]) * 256

rle_block = struct.pack("<I", 1 << 1 | 131072 << 3)[:3] + b"\0"
zstd_bomb = b"\x28\xb5\x2f\xfd\x00\x88" + rle_block * 8192

block = bytes(cramjam.snappy.compress_raw(bytes(4 * MB)))
snappy_bomb = c.compress(c.SNAPPY, b"") + (struct.pack(">i", len(block)) + block) * 16
raw_bomb = b"\x80\x80\x80\x80\x04" + block[4:] * 16

for name, codec, bomb in (
    ("gzip", c.GZIP, gzip_bomb), ("lz4", c.LZ4, lz4_bomb), ("zstd", c.ZSTD, zstd_bomb),
    ("snappy", c.SNAPPY, snappy_bomb), ("snappy-raw", c.SNAPPY, raw_bomb),
):
    c.decompress(codec, c.compress(codec, b"load the library"), 100)
    before = peak_kb()
    try:
        c.decompress(codec, bomb, MB)
    except c.OutputTooLarge:
        print(name, peak_kb() - before)
"""
