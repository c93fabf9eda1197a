"""What an init system is told of this process, in the way of systemd (sd_notify).

    NOTIFY_SOCKET   a Unix datagram socket; each message is lines of NAME=VALUE
    WATCHDOG_USEC   within so many microseconds there is to be a WATCHDOG=1, or the process is killed

Owns the messages. A process that was not started by an init system has neither variable, and nothing is done.
The variables are taken out of the environment, so that no child speaks in this process's place. A message
that cannot be sent is lost: nothing may wait for whoever reads them.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

__all__ = ["Notifier"]

_log = Logger()

_SOCKET: Final = "NOTIFY_SOCKET"
_WATCHDOG: Final = "WATCHDOG_USEC"
_WATCHDOG_PID: Final = "WATCHDOG_PID"
_TOLD_SECONDS: Final = 1.0
_EXTEND_SECONDS: Final = 120
"""How long opening a single log may take beyond the time that a start is given."""


class Notifier:
    """Tells the init system how this process does.

    Args:
        clock: plans the watchdog.
        environment: where the variables are.

    Attributes:
        watchdog_seconds: how often the watchdog is told that all is well; 0 where there is none.
    """

    def __init__(self, clock: Any, environment: MutableMapping[str, str] = os.environ) -> None:
        self._address = _address(environment.pop(_SOCKET, ""))
        self.watchdog_seconds = _watchdog_seconds(
            environment.pop(_WATCHDOG, ""), environment.pop(_WATCHDOG_PID, "")
        )
        self._socket: socket.socket | None = None
        self._told_at = 0.0
        self._status = ""
        self._is_well: Callable[[], bool] = lambda: True
        self._failed = False
        self._beats = LoopingCall(self._beat)
        self._beats.clock = clock

    def opening(self, done: int, total: int) -> None:
        """So many logs of all are open; said once a second, and that there is more time needed."""
        now = time.monotonic()
        if now - self._told_at >= _TOLD_SECONDS:
            self._told_at = now
            self._send(
                f"STATUS=opening logs: {done} of {total}",
                f"EXTEND_TIMEOUT_USEC={_EXTEND_SECONDS * 1_000_000}",
            )

    def ready(self, status: str, is_well: Callable[[], bool]) -> None:
        """Clients are served.

        Args:
            status: a line for who asks how the process does.
            is_well: asked before the watchdog is told so.
        """
        self._status, self._is_well = status, is_well
        self._send("READY=1", f"STATUS={status}")
        if self._address and self.watchdog_seconds and not self._beats.running:
            self._beats.start(self.watchdog_seconds, now=True)

    def status(self, status: str) -> None:
        """Have another line for who asks how the process does, from now on."""
        self._status = status
        self._send(f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is being read again; ``reloaded`` follows."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}", "STATUS=reading the configuration again")

    def reloaded(self) -> None:
        """It has been."""
        self._send("READY=1", f"STATUS={self._status}")

    def stopping(self) -> None:
        """The process is being stopped, which takes the time it takes."""
        self._send(
            "STOPPING=1",
            "STATUS=stopping: clients are answered, logs are written",
            f"EXTEND_TIMEOUT_USEC={_EXTEND_SECONDS * 1_000_000}",
        )

    def close(self) -> None:
        """Tell nothing any more."""
        if self._beats.running:
            self._beats.stop()
        self._address = ""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _beat(self) -> None:
        if self._is_well():
            self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._failed:
                self._failed = True
                _log.warn("init-system-not-told: {error}", error=str(error))


def _address(text: str) -> str:
    """Return the address of a socket; an @ stands for the null byte of an abstract one."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else ""


def _watchdog_seconds(microseconds: str, pid: str) -> float:
    """Return half of the time in which the watchdog is to be told; 0 if it is another process's."""
    if not microseconds.isascii() or not microseconds.isdigit() or pid not in ("", str(os.getpid())):
        return 0.0
    return int(microseconds) / 2_000_000
