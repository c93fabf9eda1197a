"""How long a process stands still while Python looks for garbage.

References are counted, so what is not in a circle goes at once; for circles Python looks, and now and then
through everything there is. With 10,000 partitions that takes up to half a second in which nobody is served.
Almost all of it stays for long, and nothing the broker lets go of is in a circle
(``tests/load/test_garbage.py``), so what has been looked through once need not be again.

Circles that become garbage after that, those of plugins for instance, would stay for ever. Therefore
everything is looked through once more when memory has grown a lot since that was last done.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["ShortCollections"]

_LONG_SECONDS: Final = 0.01
_MUCH_BLOCKS: Final = 2_000_000
_OLDEST: Final = 2


class ShortCollections:
    """Has what survives a long look through everything left out of the next ones.

    Args:
        much_blocks: by so many pieces of memory, and twofold, Python's must have grown since all was looked
            through for that to be done again; 100 to 200 MB.

    Attributes:
        frozen: how often something was left out.
        thawed: how often all was to be looked through again.
    """

    def __init__(self, much_blocks: int = _MUCH_BLOCKS) -> None:
        self.frozen = 0
        self.thawed = 0
        self._much_blocks = much_blocks
        self._blocks = sys.getallocatedblocks()
        self._began = 0.0

    def start(self) -> None:
        """Begin, in this process."""
        self._blocks = sys.getallocatedblocks()
        gc.callbacks.append(self._collected)

    def stop(self) -> None:
        """End; what was left out is looked through again."""
        if self._collected in gc.callbacks:
            gc.callbacks.remove(self._collected)
            gc.unfreeze()

    def _collected(self, phase: str, info: Mapping[str, Any]) -> None:
        if info["generation"] != _OLDEST:
            return
        if phase == "start":
            self._began = time.perf_counter()
        elif time.perf_counter() - self._began > _LONG_SECONDS:
            self._keep_short()

    def _keep_short(self) -> None:
        blocks = sys.getallocatedblocks()
        if blocks - self._blocks > max(self._much_blocks, self._blocks):
            self._blocks = blocks
            self.thawed += 1
            gc.unfreeze()
        else:
            self.frozen += 1
            gc.freeze()
