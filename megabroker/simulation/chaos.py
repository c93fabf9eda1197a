"""What goes wrong in a run, and when: the faults of a plan at moments that chance picks.

Owns the striking. A kill and a cut of the power are planned for one of the next system calls, so that they
meet the broker in the middle of whatever it does; what dies is started again after a while, as a supervisor
does it.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Final, Protocol

from megabroker.codec.batch import BatchError, check_crc, scan
from megabroker.model import BatchHeader
from megabroker.simulation.clock import Planned, Timeline
from megabroker.simulation.disk import Disk, File
from megabroker.simulation.files import CHANGING
from megabroker.simulation.history import Damaged, Event, PowerLost, Troubled
from megabroker.simulation.network import Network
from megabroker.simulation.plan import Plan
from megabroker.simulation.process import BrokerProcess

__all__ = ["Chaos"]

_CALLS_AHEAD: Final = 60
_TRANSACTIONAL_OR_CONTROL: Final = 0x30


class Machine(Protocol):
    """What is struck.

    Attributes:
        process: the broker's, None while there is none.
        jumped: by how much its clock is ahead.
    """

    process: BrokerProcess | None
    disk: Disk
    network: Network
    timeline: Timeline
    jumped: float

    def note(self, event: Event) -> None:
        """Add to the history."""

    def say(self, who: str, what: object) -> None:
        """Add to the trace."""


class Chaos:
    """Strikes a machine until it is told to stop.

    Attributes:
        injected: what was done, by kind.
    """

    def __init__(self, machine: Machine, plan: Plan, dice: Random) -> None:
        self.injected: Counter[str] = Counter()
        self._machine = machine
        self._plan = plan
        self._dice = dice
        self._next: Planned | None = None
        self._flipped: set[tuple[File, int]] = set()
        self._strikes: dict[str, Callable[[BrokerProcess], None]] = {
            "kill": self._kill,
            "power loss": self._cut_power,
            "restart": self._restart,
            "io error": self._fail_calls,
            "full disk": self._fill_disk,
            "reset": self._reset,
            "stall": self._stall,
            "clock jump": self._jump,
            "bit flip": self._flip,
        }

    def start(self) -> None:
        """Begin."""
        if self._plan.faults:
            wait = self._dice.expovariate(1 / self._plan.pause_seconds)
            self._next = self._machine.timeline.later(wait, self._strike)

    def stop(self) -> None:
        """Let nothing more go wrong."""
        machine = self._machine
        machine.disk.full = False
        if self._next is not None:
            self._next.cancel()
        if machine.process is not None:
            machine.process.faults.heal()

    def _strike(self) -> None:
        kind = self._dice.choice(self._plan.faults)
        process = self._machine.process
        if process is not None and process.alive:
            self._machine.say("chaos", kind)
            self._strikes[kind](process)
        self.start()

    def strike_soon(self, process: BrokerProcess) -> None:
        """Kill it or cut its power within its next calls."""
        kinds = [kind for kind in ("kill", "power loss") if kind in self._plan.faults]
        self._strikes[self._dice.choice(kinds)](process)

    def _kill(self, process: BrokerProcess) -> None:
        self.injected["kill"] += 1
        process.faults.end_within(_CALLS_AHEAD, process.kill)

    def _cut_power(self, process: BrokerProcess) -> None:
        self.injected["power loss"] += 1
        process.faults.end_within(_CALLS_AHEAD, lambda: self._power_gone(process))

    def _power_gone(self, process: BrokerProcess) -> None:
        process.lose_power()
        self._machine.note(PowerLost(self._machine.timeline.now))

    def _restart(self, process: BrokerProcess) -> None:
        self.injected["restart"] += 1
        process.stop().addBoth(lambda _: process.kill())

    def _fail_calls(self, process: BrokerProcess) -> None:
        call = self._dice.choice(CHANGING)
        code = self._dice.choice((errno.EIO, errno.EIO, errno.ENOSPC))
        self._machine.note(Troubled(self._machine.timeline.now))
        process.faults.fail(call, errno.EIO if call == "fdatasync" else code, self._dice.randrange(10))

    def _fill_disk(self, process: BrokerProcess) -> None:
        self.injected["full disk"] += 1
        disk = self._machine.disk
        disk.full = True
        self._machine.note(Troubled(self._machine.timeline.now))
        self._machine.timeline.later(self._dice.random() * 3, setattr, disk, "full", False)

    def _some_link(self) -> Any:
        links = list(self._machine.network.links)
        return self._dice.choice(links) if links else None

    def _reset(self, process: BrokerProcess) -> None:
        link = self._some_link()
        if link is not None:
            self.injected["connection reset"] += 1
            link.end()

    def _stall(self, process: BrokerProcess) -> None:
        link = self._some_link()
        if link is not None:
            self.injected["connection stalled"] += 1
            link.stall(self._dice.random() * 15)

    def _jump(self, process: BrokerProcess) -> None:
        self.injected["clock jump"] += 1
        seconds = self._dice.choice((-3600.0, -30.0, -1.0, -0.01, 0.01, 1.0, 30.0, 3600.0))
        self._machine.jumped += seconds
        self._machine.say("chaos", f"the clock jumps by {seconds} seconds")
        process.reactor.jump(seconds)

    def _flip(self, process: BrokerProcess) -> None:
        """Cut the power, and have a bit of a log wrong after it."""
        process.kill()
        self._power_gone(process)
        logs = [
            (path, node)
            for path, node in self._machine.disk.files()
            if path.endswith(".log") and "-delete/" not in path
        ]
        for path, node in self._dice.sample(logs, len(logs)):
            if self._flip_in(path, node):
                return

    def _flip_in(self, path: str, node: File) -> bool:
        found = [one for one in self._whole(node) if not one[1].attributes & _TRANSACTIONAL_OR_CONTROL]
        if not found:
            return False
        position, header = self._dice.choice(found)
        first, last = self._room(path.rpartition("/")[0], header)
        at = position + self._dice.randrange(header.size_bytes)
        node.stable[at] ^= 1 << self._dice.randrange(8)
        node.data[:] = node.stable
        self._flipped.add((node, position))
        topic, _, number = path.split("/")[2].rpartition("-")
        self.injected["bit flip"] += 1
        partition = (topic, int(number))
        self._machine.note(Damaged(self._machine.timeline.now, partition, first, last))
        return True

    def _room(self, directory: str, header: BatchHeader) -> tuple[int, int]:
        """Return the offsets between a batch's neighbours: whose batch it was nobody can tell any more."""
        entries = self._machine.disk.directory(directory).entries
        nodes = [node for name, node in entries.items() if name.endswith(".log") and isinstance(node, File)]
        found = [one for node in nodes for _, one in self._whole(node)]
        before = [one.next_offset for one in found if one.base_offset < header.base_offset]
        behind = [one.base_offset for one in found if one.base_offset > header.base_offset]
        return max(before, default=0), min(behind, default=header.next_offset) - 1

    def _whole(self, node: File) -> list[tuple[int, BatchHeader]]:
        """Return the batches of a log file, up to where there is none, that are as they were written.

        The header of another may be wrong, offsets included, of which the CRC does not cover the base.
        """
        found = []
        try:
            for position, header in scan(node.stable, 0, len(node.stable)):
                if (node, position) not in self._flipped and check_crc(node.stable, position, header):
                    found.append((position, header))
        except BatchError:
            pass
        return found
