"""What an init system is told, over the real kind of socket."""

from __future__ import annotations

import os
import pathlib
import socket
import tempfile
from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock

from megabroker.config.endpoint import parse_endpoint
from megabroker.ops.channel import ASK
from megabroker.ops.systemd import Notifier
from megabroker.ops.watching import Watch


class InitSystem:
    """The socket that an init system reads."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + path[1:] if path.startswith("@") else path)
        self._socket.settimeout(0)
        self.address = path

    def heard(self) -> list[list[str]]:
        """Return the lines of each message that has come."""
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["file", "abstract"])
def init(request: pytest.FixtureRequest) -> Iterator[InitSystem]:
    with tempfile.TemporaryDirectory() as place:
        found = InitSystem(f"{place}/notify" if request.param == "file" else f"@{place}/notify")
        yield found
        found.close()


def notifier(init: InitSystem, clock: Clock, **more: str) -> Notifier:
    environment = {"NOTIFY_SOCKET": init.address, **more}
    found = Notifier(clock, environment)
    assert not environment  # no child speaks in this process's place
    return found


def test_a_life(init: InitSystem) -> None:
    clock = Clock()
    told = notifier(init, clock, WATCHDOG_USEC="4000000", WATCHDOG_PID=str(os.getpid()))
    told.opening(0, 100)
    told.opening(1, 100)  # within the second of the first
    assert init.heard() == [["STATUS=opening logs: 0 of 100", "EXTEND_TIMEOUT_USEC=120000000"]]
    well = [True]
    told.ready("serving clients", lambda: well[0])
    assert init.heard() == [["READY=1", "STATUS=serving clients"], ["WATCHDOG=1"]]
    clock.pump([1.0] * 4)
    assert init.heard() == [["WATCHDOG=1"]] * 2
    well[0] = False
    clock.pump([1.0] * 4)
    assert init.heard() == []
    told.reloading()
    (lines,) = init.heard()
    assert lines[0] == "RELOADING=1"
    assert int(lines[1].removeprefix("MONOTONIC_USEC=")) > 0
    told.reloaded()
    assert init.heard() == [["READY=1", "STATUS=serving clients"]]
    told.status("serving clients, whatever")
    told.reloaded()
    assert init.heard() == [
        ["STATUS=serving clients, whatever"],
        ["READY=1", "STATUS=serving clients, whatever"],
    ]
    told.stopping()
    assert init.heard()[0][0] == "STOPPING=1"
    told.close()
    assert not clock.getDelayedCalls()


def test_nobody_is_told_where_there_is_nobody() -> None:
    clock = Clock()
    for environment in ({}, {"NOTIFY_SOCKET": "relative"}, {"NOTIFY_SOCKET": "", "WATCHDOG_USEC": "1000"}):
        told = Notifier(clock, dict(environment))
        told.ready("serving", lambda: True)
        told.stopping()
        told.close()
        assert not clock.getDelayedCalls()


def test_the_watchdog_of_another_process_is_not_ours(init: InitSystem) -> None:
    for more in ({"WATCHDOG_PID": "1"}, {"WATCHDOG_PID": ""}):
        told = notifier(init, Clock(), WATCHDOG_USEC="1000000", **more)
        assert told.watchdog_seconds == (0.0 if more["WATCHDOG_PID"] else 0.5)
    assert notifier(init, Clock(), WATCHDOG_USEC="soon").watchdog_seconds == 0.0


def test_an_init_system_that_is_gone_or_full_keeps_nobody_waiting(tmp_path: pathlib.Path) -> None:
    told = Notifier(Clock(), {"NOTIFY_SOCKET": f"{tmp_path}/gone"})
    told.ready("serving", lambda: True)
    full = InitSystem(f"{tmp_path}/full")
    told = Notifier(Clock(), {"NOTIFY_SOCKET": full.address})
    for _ in range(2000):  # far more than a socket's queue takes
        told.ready("serving", lambda: True)
    full.close()


class _Child:
    def __init__(self) -> None:
        self.asked = 0

    def send(self, message: object) -> None:
        assert message == ASK
        self.asked += 1

    def signal(self, number: int) -> None:
        raise AssertionError("not yet")


def test_workers_that_do_not_answer_are_told_of() -> None:
    clock = Clock()
    child = _Child()
    watch = Watch(clock, lambda: {child: 1})  # type: ignore[dict-item]
    watch.start()
    clock.pump([5.0] * 2)
    assert watch.all_answer
    clock.advance(5.0)
    assert not watch.all_answer
    watch.answered(child)  # type: ignore[arg-type]
    assert watch.all_answer
    watch.stop()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("systemd:INET:index=0", ""),
        ("systemd:domain=INET6:name=kafka", ""),
        ("systemd:INET", "either index or name"),
        ("systemd:INET:index=0:name=a", "either index or name"),
        ("systemd:X25:index=0", "domain is one of"),
        ("systemd:INET:index=-1", "index is a number"),
        ("systemd:INET:index=0:mode=7", "no option"),
    ],
)
def test_endpoints(text: str, reason: str) -> None:
    if not reason:
        assert parse_endpoint(text).type == "systemd"
        return
    with pytest.raises(ValueError, match=reason):
        parse_endpoint(text)
