"""Batches written anew: what stays is the same, whatever is left out; what are no records is refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from megabroker.codec.batch import build, check_crc, read_header, records
from megabroker.codec.compression import NAMES
from megabroker.codec.primitives import write_varint, write_varlong
from megabroker.codec.rewriting import delete_horizon, emptied, payload_of, rebuilt, recompressed, skim
from megabroker.errors import ProtocolError

LIMIT = 1 << 24
CODECS = st.integers(0, len(NAMES) - 1)
BYTES = st.one_of(st.none(), st.binary(max_size=200))
TIMES = st.integers(-1, 2**45)
ROWS = st.lists(
    st.tuples(BYTES, BYTES, st.lists(st.tuples(st.text(max_size=5), BYTES), max_size=3), TIMES),
    min_size=1,
    max_size=30,
)


class RewritingTests(SynchronousTestCase):
    @given(ROWS, CODECS, st.integers(0, 2**40), st.booleans(), st.randoms(use_true_random=False))
    def test_some_records(self, rows, codec, base, stamped, dice) -> None:
        data = build(
            rows,
            compression=codec,
            base_offset=base,
            producer_id=9,
            producer_epoch=2,
            base_sequence=7,
            leader_epoch=4,
            attributes=8 if stamped else 0,
        )
        header = read_header(data, 0, len(data))
        payload = payload_of(data, header, 0, LIMIT)
        walked = list(skim(payload, header))
        whole = list(records(data, header))
        self.assertEqual(
            [(one.offset, one.key, one.has_value) for one in walked],
            [(one.offset, one.key, one.value is not None) for one in whole],
        )
        places = sorted(dice.sample(range(len(rows)), dice.randrange(1, len(rows) + 1)))
        for horizon in (None, 0, 2**44):
            fresh = rebuilt(header, payload, [walked[at] for at in places], horizon)
            found = read_header(fresh, 0, len(fresh))
            self.assertTrue(check_crc(fresh, 0, found))
            self.assertEqual(list(records(fresh, found)), [whole[at] for at in places])
            self.assertEqual(found.max_timestamp, max(whole[at].timestamp_ms for at in places))
            self.assertEqual(found[:1] + found[2:4] + found[9:12], header[:1] + header[2:4] + header[9:12])
            self.assertEqual((found.next_offset, found.compression), (header.next_offset, codec))
            self.assertEqual(delete_horizon(found), horizon)
        head = emptied(header)
        found = read_header(head, 0, len(head))
        self.assertTrue(check_crc(head, 0, found))
        self.assertEqual(
            (found.next_offset, found.record_count, found.size_bytes), (header.next_offset, 0, 61)
        )

    @given(ROWS, CODECS, CODECS)
    def test_another_codec(self, rows, source, target) -> None:
        data = build(rows, compression=source)
        header = read_header(data, 0, len(data))
        found, fresh = recompressed(header, data, target, None, LIMIT)
        self.assertEqual(found, read_header(fresh, 0, len(fresh)))
        self.assertTrue(check_crc(fresh, 0, found))
        self.assertEqual(list(records(fresh, found)), list(records(data, header)))

    @given(ROWS, st.data())
    def test_damaged_records_are_refused_or_agree(self, rows, data) -> None:
        batch = build(rows)
        at = data.draw(st.integers(61, len(batch) - 1))
        batch[at] ^= data.draw(st.integers(1, 255))
        header = read_header(batch, 0, len(batch))
        payload = payload_of(batch, header, 0, LIMIT)
        try:
            walked = [(one.offset, one.key) for one in skim(payload, header)]
        except ProtocolError:
            return
        try:
            whole = [(one.offset, one.key) for one in records(batch, header)]
        except ProtocolError:
            return  # values and headers are not looked at
        self.assertEqual(walked, whole)

    def test_times_that_no_horizon_goes_with(self) -> None:
        for delta in (2**63 - 1, -(2**63), 2**62, -(2**62) - 6):
            body = b"".join((b"\0", write_varlong(delta), b"\0\1\1\0"))
            payload = write_varint(len(body)) + body
            header = read_header(build([(None, None, (), 5)]), 0, 100)
            with self.assertRaises(ProtocolError):
                list(skim(payload, header))
        data = build([(None, None, (), 2**63 - 1)])
        header = read_header(data, 0, len(data))
        with self.assertRaises(ProtocolError):
            list(skim(bytes(data[61:]), header))

    @given(st.binary(max_size=300), st.integers(1, 20))
    def test_any_bytes(self, payload, count) -> None:
        data = build([(None, None, (), 0)])
        header = read_header(data, 0, len(data))._replace(record_count=count, last_offset_delta=count)
        try:
            for one in skim(payload, header):
                self.assertLessEqual(one.end, len(payload))
        except ProtocolError:
            pass
