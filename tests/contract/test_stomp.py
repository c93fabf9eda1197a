"""What every wire must bear, of STOMP; and that it uses nothing that other plugins may not."""

from __future__ import annotations

import pathlib
import re

from megabroker.plugins.stomp_plugin import stomp
from megabroker.testing.protocol import ProtocolChecks, Wire, check_every_split

GOLDEN = pathlib.Path(__file__).parent / "golden"
OPENING = b"CONNECT\naccept-version:1.0,1.1,1.2\nhost:here\n\n\0"


def send(text: bytes, headers: bytes = b"", destination: bytes = b"/topic/harness") -> bytes:
    return b"SEND\ndestination:" + destination + b"\nreceipt:r\n" + headers + b"\n" + text + b"\0"


def subscribe(name: bytes, destination: bytes = b"/topic/harness", headers: bytes = b"") -> bytes:
    return b"SUBSCRIBE\nid:" + name + b"\ndestination:" + destination + b"\n" + headers + b"\n\0"


class TestStomp(ProtocolChecks):
    wire = Wire(
        plugin=stomp,
        settings={"max_body_bytes": 64 * 1024, "max_header_bytes": 1024},
        opening=OPENING,
        conversation=[
            subscribe(b"t") + send(b"one", b"key:k\ncolour:a\\cb\r\n") + b"\n\r\n",
            send(b"t\0o", b"content-length:3\n"),
            subscribe(b"q", b"/queue/harness", b"ack:client\n"),
            b"BEGIN\ntransaction:x\n\n\0"
            + send(b"three", b"transaction:x\n")
            + b"COMMIT\ntransaction:x\nreceipt:c\n\n\0",
            b"ACK\nid:2-harness-0-1\nreceipt:a\n\n\0",
            b"NACK\nid:2-harness-0-2\n\n\0",
            b"BEGIN\ntransaction:y\n\n\0"
            + send(b"never", b"transaction:y\n")
            + b"ABORT\ntransaction:y\n\n\0",
            b"UNSUBSCRIBE\nid:t\nreceipt:u\n\n\0" + b"DISCONNECT\nreceipt:bye\n\n\0",
        ],
        store=send,
        read=lambda n: subscribe(b"r", headers=b"offset:earliest\n") if n == 0 else b"",
        too_long=b"SEND\ndestination:/topic/harness\n\n" + b"x" * (64 * 1024 + 1),
        constant=lambda answer: re.sub(rb"\n(timestamp|session):[-\d]+", b"", answer),
        partial=send(b"never all of it")[:-3],
    )
    golden = (GOLDEN / "stomp.golden",)
    packages = ("megabroker.protocols.stomp", "megabroker.plugins.stomp_plugin")

    def test_every_split_of_the_bytes_comes_to_the_same(self) -> None:
        check_every_split(self.wire, at_most=100)
