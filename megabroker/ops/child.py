"""A process of this broker as the one that started it sees it: what it says, what it tells, when it ends.

Owns the process and the two descriptors that lead to it: a pipe with the lines that it logs or prints, and a
channel of messages. Both end with the process, which is how its end is known. They are read by the reactor,
and before that runs by ``wait``.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from megabroker.ops.channel import Channel

__all__ = ["Child", "Parent", "ended_how", "wait"]

_READ_BYTES: Final = 1 << 16
_LONGEST_LINE_BYTES: Final = 1 << 20


class Parent(Protocol):
    """Whoever is told of a child; called in the thread that reads."""

    def said(self, child: Child, line: str) -> None:
        """It has written a line."""

    def told(self, child: Child, message: Any) -> None:
        """It has sent a message."""

    def ended(self, child: Child, status: int) -> None:
        """It has ended, with an exit code or, negative, by a signal; nothing comes after that."""


@implementer(IReadDescriptor)
class _Reader:
    """One descriptor of a child; ``read`` returns whether there is more to come."""

    def __init__(self, descriptor: int, read: Callable[[], bool], at_end: Callable[[_Reader], None]) -> None:
        self._descriptor = descriptor
        self._read = read
        self._at_end = at_end

    def fileno(self) -> int:
        """IFileDescriptor."""
        return self._descriptor

    def logPrefix(self) -> str:
        """ILoggingContext."""
        return "worker"

    def doRead(self) -> None:
        """IReadDescriptor: read once."""
        if not self._read():
            self._at_end(self)

    def connectionLost(self, reason: Failure) -> None:
        """IFileDescriptor: the other end is closed and there was nothing left to read."""
        self._at_end(self)


class Child:
    """See the module; starts at once.

    Args:
        module: what it runs, with its arguments behind it; the channel's descriptor comes last.
        start: the first message it gets.
        descriptors: what it inherits beside that, under the same numbers.

    Attributes:
        pid: its process id.
    """

    def __init__(
        self, reactor: Any, parent: Parent, module: Sequence[str], start: Any, descriptors: Sequence[int]
    ) -> None:
        self._reactor = reactor
        self._parent = parent
        ours, theirs = socket.socketpair()
        self._output, their_output = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", *module, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=their_output,
                stderr=their_output,
                pass_fds=[theirs.fileno(), *descriptors],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        except OSError:
            ours.close()
            os.close(self._output)
            raise
        finally:
            theirs.close()
            os.close(their_output)
        self.pid = self._process.pid
        self._channel = Channel(ours)
        self._partial = b""
        self.readers = [
            _Reader(self._output, self._read_output, self._reader_ended),
            _Reader(ours.fileno(), self._read_channel, self._reader_ended),
        ]
        self.send(start)

    def follow(self) -> None:
        """Have the reactor read from now on."""
        for reader in self.readers:
            self._reactor.addReader(reader)

    def send(self, message: Any) -> None:
        """Send a message; no effect on a child that is at its end."""
        try:
            self._channel.send(message)
        except OSError:
            pass

    def signal(self, number: int) -> None:
        """Send a signal; no effect on a child that has ended."""
        self._process.send_signal(number)

    def _read_output(self) -> bool:
        data = os.read(self._output, _READ_BYTES)
        *lines, self._partial = (self._partial + data).split(b"\n")
        if self._partial and (not data or len(self._partial) > _LONGEST_LINE_BYTES):
            lines.append(self._partial)
            self._partial = b""
        for line in lines:
            self._parent.said(self, line.decode(errors="replace"))
        return bool(data)

    def _read_channel(self) -> bool:
        message = self._channel.receive()
        if message is not None:
            self._parent.told(self, message)
        return message is not None

    def _reader_ended(self, reader: _Reader) -> None:
        self._reactor.removeReader(reader)
        if reader not in self.readers:
            return
        self.readers.remove(reader)
        if not self.readers:
            os.close(self._output)
            self._channel.close()
            self._parent.ended(self, self._process.wait())


def wait(children: Iterable[Child], seconds: float | None) -> bool:
    """Read what comes from children, without the reactor; return whether anything came in time. Blocking."""
    readers = {reader.fileno(): reader for child in children for reader in child.readers}
    poll = select.poll()
    for descriptor in readers:
        poll.register(descriptor, select.POLLIN)
    ready = poll.poll(None if seconds is None else seconds * 1000)
    for descriptor, _ in ready:
        readers[descriptor].doRead()
    return bool(ready)


def ended_how(status: int) -> str:
    """Return how a process ended, in words."""
    if status >= 0:
        return f"with exit code {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"
