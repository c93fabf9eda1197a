"""The file system as inspection sees it: nothing can be changed through it."""

from __future__ import annotations

import os

from megabroker.storage.files import Files

__all__ = ["ReadOnlyFiles"]


class ReadOnlyFiles(Files):
    """The real file system, every file opened for reading alone."""

    def open(self, path: str, *, create: bool) -> int:
        """Open for reading; a missing file stays missing."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
