"""The journal of the deduplication window, with the promises of files in place of files.

Owns the entries as the simulated disk holds them: what was added survives the process, and a cut of the power
may take the last ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Final

from zope.interface import implementer

from megabroker.interfaces import IWindowStore
from megabroker.simulation.files import SimulatedFiles
from megabroker.storage.files import storage_error

__all__ = ["SimulatedWindow", "SimulatedWindowStore"]

_PATH: Final = "dedup"

Entry = tuple[int, int, int]


class SimulatedWindow:
    """What the disk holds: (scope, message id, time in ms), in the order it was added."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def lose_power(self, dice: Random) -> None:
        """Hold what the disk may hold."""
        del self.entries[dice.randrange(len(self.entries) + 1) :]


@implementer(IWindowStore)
class SimulatedWindowStore:
    """One process's hold on it; see ``IWindowStore``.

    Args:
        files: whose faults meet what is added too.
    """

    def __init__(self, window: SimulatedWindow, files: SimulatedFiles) -> None:
        self._window = window
        self._files = files

    def load(self, since_ms: int) -> Iterable[Entry]:
        """Yield entries not older than ``since_ms``."""
        return [entry for entry in self._window.entries if entry[2] >= since_ms]

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries. Raises StorageError."""
        files = self._files
        try:
            files.enter("pwritev", _PATH)
            if files.disk.full:
                raise files.no_room(_PATH)
        except OSError as caught:
            raise storage_error("cannot write", _PATH, caught) from caught
        self._window.entries.extend(entries)
        files.leave()

    def expire(self, before_ms: int) -> None:
        """Forget entries older than ``before_ms``."""
        self._window.entries = [entry for entry in self._window.entries if entry[2] >= before_ms]

    def close(self) -> None:
        """Nothing to release."""
