"""Share groups byte for byte: a member joins, fetches, acknowledges and leaves."""

from __future__ import annotations

from tests.unit.share_fetch_harness import ShareCase


class GoldenTests(ShareCase):
    def exchange_bytes(self, request: str, *expected: str) -> None:
        """Send a frame without its size, in hexadecimal; compare the whole answer."""
        frame = bytes.fromhex(request.replace("TOPIC", self.topic.id.hex))
        self.connection.dataReceived(len(frame).to_bytes(4, "big") + frame)
        self.turns()
        answer = self.connection.transport.value()
        self.connection.transport.clear()
        wanted = bytes.fromhex("".join(expected).replace("TOPIC", self.topic.id.hex))
        self.assertEqual(answer[4:].hex(" ", 1), wanted.hex(" ", 1))
        self.assertEqual(int.from_bytes(answer[:4], "big"), len(wanted))

    def test_from_joining_to_leaving(self) -> None:
        self.configure(share_auto_offset_reset="earliest")
        self.exchange_bytes(
            "004c 0001 00000001 0000 00"  # API 76, version 1, correlation id, client id, no tagged fields
            "02 67 02 6d 00000000 00"  # group "g", member "m", epoch 0, no rack
            "02 02 74"  # subscribes to "t"
            "00",
            "00000001 00 00000000 0000 00"  # correlation id, throttle time, no error, no message
            "02 6d 00000001 00001388"  # member "m", epoch 1, 5000 ms
            "01 02 TOPIC 03 00000000 00000001 00 00"  # there is an assignment: both partitions
            "00",
        )
        # The first fetch begins the session; where the group begins is stored before it is answered.
        self.exchange_bytes(
            "004e 0001 00000002 0000 00"
            "02 67 02 6d 00000000"  # session epoch 0
            "00000000 00000000 7fffffff 000001f4 000001f4"  # no wait, min and max bytes, records, row
            "02 TOPIC 02 00000000 01 00 00"  # partition 0, no acknowledgements
            "01 00",
            "00000002 00 00000000 0000 00 00007530 01 01 00",  # locks of 30,000 ms, nothing yet
        )
        self.produce(b"0", b"1")
        batch = bytes(self.service.core.topics.partition("t", 0).read(0, 1000).data).hex()
        size = f"{len(batch) // 2 + 1:02x}"
        self.exchange_bytes(
            "004e 0002 00000003 0000 00 02 67 02 6d 00000001"
            "00000000 00000001 7fffffff 000001f4 000001f4"
            "00 00"  # fills batches, renews nothing
            "01 01 00",  # what the session has
            "00000003 00 00000000 0000 00 00007530"
            "02 TOPIC 02 00000000"  # partition 0
            "0000 00 0000 00"  # no errors
            "00000000 00000000 00",  # leader, told only with errors
            f"{size} {batch}"
            "02 0000000000000000 0000000000000001 0001 00"  # 0 to 1 acquired, for the first time
            "00 00 01 00",
        )
        self.exchange_bytes(
            "004f 0002 00000004 0000 00 02 67 02 6d 00000002 00"
            "02 TOPIC 02 00000000"
            "02 0000000000000000 0000000000000001 03 01 02 00"  # accept 0, release 1
            "00 00 00",
            "00000004 00 00000000 0000 00 00007530"
            "02 TOPIC 02 00000000 0000 00 00000000 00000000 00 00 00 01 00",
        )
        self.exchange_bytes(
            "004f 0001 00000005 0000 00 02 67 02 6d 00000002 01 00",  # an epoch that was
            "00000005 00 00000000 007b 20" + b"expected session epoch 3, not 2".hex() + "01 01 00",
        )
        self.exchange_bytes(
            "004c 0001 00000006 0000 00 02 67 02 6d ffffffff 00 00 00",
            "00000006 00 00000000 0000 00 02 6d ffffffff 00000000 ff 00",
        )
