"""The connections of a blocking client: a bounded number, each with one thread at a time.

Whoever takes one when all are out waits for it. A connection that was idle is looked at before it is given
out: one that the broker has closed meanwhile is dropped, and so is not found out by a request that may not
be repeated. (A pool that does not connect by itself leaves that to the request, which says why.) Safe for
threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from megabroker.client.errors import NotConnected, RequestTimedOut
from megabroker.client.link import Link

__all__ = ["Pool"]


class Pool:
    """See the module.

    Args:
        open_link: makes a connection. Raises OSError, ClientError; see ``Link``.
        size: the most connections there are at a time.
        connects: whether taking makes connections; otherwise only ``open`` does.
    """

    def __init__(self, open_link: Callable[[], Link], size: int, *, connects: bool) -> None:
        if size < 1:
            raise ValueError(f"pool_size: expected 1 or more, not {size}")
        self._open_link = open_link
        self._size = size
        self._connects = connects
        self._is_closed = False
        self._changed = threading.Condition()
        self._idle: list[Link] = []
        self._out: set[Link] = set()
        self._doomed: set[Link] = set()  # out when the pool was closed
        self._count = 0  # idle, out, or being opened

    @property
    def count(self) -> int:
        """How many there are."""
        return self._count

    def open(self) -> None:
        """Allow connections again after ``close``, and make the first."""
        with self._changed:
            self._is_closed = False
            if self._count > len(self._doomed):
                return
            self._count += 1
        self.give(self._make())

    def take(self, timeout_s: float) -> Link:
        """Return a connection, to be given back.

        Raises:
            NotConnected: there is none and none may be made.
            RequestTimedOut: all were out for so long.
            OSError, ClientError: none could be made; see ``Link``.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                while self._idle:
                    link = self._idle.pop()
                    if not self._connects or link.is_usable():
                        self._out.add(link)
                        return link
                    self._drop(link)
                if self._is_closed or not (self._connects or self._count):
                    raise NotConnected("not connected: call connect() first")
                if self._connects and self._count < self._size:
                    self._count += 1
                    break
                if not self._changed.wait(deadline - time.monotonic()):
                    raise RequestTimedOut(f"all {self._count} connections were in use for {timeout_s} s")
        return self._make()

    def give(self, link: Link) -> None:
        """Take a connection back; a broken one is dropped."""
        with self._changed:
            self._out.discard(link)
            if link.is_broken or link in self._doomed:
                self._doomed.discard(link)
                self._drop(link)
            else:
                self._idle.append(link)
                self._changed.notify()

    def close(self) -> None:
        """Close all; those that are out when they come back."""
        with self._changed:
            self._is_closed = True
            self._doomed |= self._out
            while self._idle:
                self._drop(self._idle.pop())
            self._changed.notify_all()

    def _make(self) -> Link:
        """Open a connection that is counted already, and out then."""
        try:
            link = self._open_link()
        except BaseException:
            with self._changed:
                self._count -= 1
                self._changed.notify()
            raise
        with self._changed:
            self._out.add(link)
            if self._is_closed:
                self._doomed.add(link)
        return link

    def _drop(self, link: Link) -> None:
        link.close()
        self._count -= 1
        self._changed.notify()
