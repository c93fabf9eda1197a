"""Whether what this process was started from has been replaced under it, by an upgrade of its package.

A package of the system brings an environment for the broker alone, and says in a file what is in there. Its
upgrade leaves a broker that runs as it is; but a process that the broker starts from then on would be of the
new version.
"""

from __future__ import annotations

import pathlib
import sys
from typing import Final

__all__ = ["MARK", "Installed"]

MARK: Final = pathlib.Path(sys.prefix) / "bundle.json"
"""What the package says; not there in an environment of somebody's own."""


class Installed:
    """What was installed when this was made."""

    def __init__(self, mark: pathlib.Path = MARK) -> None:
        self._mark = mark
        self._was = self._now()

    def is_replaced(self) -> bool:
        """Return whether it is another package now, or none."""
        return self._now() != self._was

    def _now(self) -> bytes:
        try:
            return self._mark.read_bytes()
        except OSError:
            return b""
