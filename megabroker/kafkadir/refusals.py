"""How this package says that something cannot be used."""

from __future__ import annotations

from megabroker.errors import ErrorCode, StorageError

__all__ = ["refusal"]


def refusal(message: str) -> StorageError:
    """Return an error that trying again does not mend."""
    return StorageError(ErrorCode.STORAGE, message, retriable=False)
