"""A cursus client for measurements: what it is sent, numbered messages, is counted and checked.

Its messages are a number in decimal, then whatever; they must come in order, none missing and none twice.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
import time

__all__ = ["Subscriber", "consume"]

_SECONDS = 60
_LENGTH = struct.Struct(">I")
_number = re.compile(rb"\d+").match


class _Stream:
    """One connection; frames as they come."""

    def __init__(self, port: int, command: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), _SECONDS)
        self._file = self.socket.makefile("rb", buffering=1 << 20)
        body = command.encode()
        self.socket.sendall(_LENGTH.pack(len(body)) + body)

    def frame(self) -> bytes | None:
        """Return the next frame, or None at the end."""
        head = self._file.read(_LENGTH.size)
        return self._file.read(*_LENGTH.unpack(head)) if head else None

    def close(self) -> None:
        self._file.close()
        self.socket.close()


def _check(message: bytes, expected: int) -> None:
    found = _number(message)
    assert found is not None, message[:200]
    assert int(found[0]) == expected, f"message {expected} was to come, and not {int(found[0])}"


def consume(port: int, topic: str, count: int) -> None:
    """Read messages 0 to ``count`` of partition 0 by one CONSUME after the other, each for what is left."""
    expected = 0
    while expected < count:
        stream = _Stream(port, f"CONSUME {topic} 0 {expected}")
        began = expected
        while (message := stream.frame()) is not None:
            _check(message, expected)
            expected += 1
        stream.close()
        assert expected > began, f"{count - expected} of {count} messages are missing"
    assert expected == count, f"{expected} messages came of {count}"


class Subscriber:
    """Takes what is published to a topic from now on, in a thread of its own.

    Attributes:
        cpu_seconds: what taking it has cost, once all has come.
    """

    def __init__(self, port: int, topic: str, count: int) -> None:
        self.cpu_seconds = 0.0
        self._count = count
        self._stream = _Stream(port, f"SUBSCRIBE {topic}")
        answer = self._stream.frame()
        assert answer is not None
        assert answer.decode().endswith(f"Subscribed to '{topic}'"), answer
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def finish(self) -> float:
        """Wait until all has come; return when that was, by the monotonic clock."""
        self._thread.join()
        self._stream.close()
        if self._failed:
            raise self._failed[0]
        return self._ended

    def _run(self) -> None:
        try:
            for expected in range(self._count):
                message = self._stream.frame()
                assert message is not None, f"{self._count - expected} of {self._count} messages are missing"
                _check(message, expected)
        except BaseException as error:  # noqa: BLE001 - told by finish
            self._failed.append(error)
        self._ended = time.monotonic()
        self.cpu_seconds = time.thread_time()
