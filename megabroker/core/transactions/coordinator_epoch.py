"""The epoch in which this broker coordinates transactions; every marker carries it.

Owns the row ``transaction_coordinator/epoch``. One node coordinates every transactional id, and always the
same: the epoch is 0, unless another broker coordinated before, whose markers are in the logs. Then the row
says an epoch above all of theirs, or the partitions would take our markers for those of a coordinator that
was replaced.
"""

from __future__ import annotations

from typing import Final

from megabroker.errors import ErrorCode, StorageError
from megabroker.interfaces import IMetadataStore
from megabroker.model import Change

__all__ = ["coordinator_epoch", "coordinator_epoch_row"]

_TABLE: Final = "transaction_coordinator"
_KEY: Final = "epoch"


def coordinator_epoch_row(epoch: int) -> Change:
    """Return the row that says it."""
    return Change(_TABLE, _KEY, epoch)


def coordinator_epoch(metadata: IMetadataStore) -> int:
    """Read it. Blocking.

    Raises:
        StorageError: the row cannot be read or is no epoch.
    """
    found = metadata.rows(_TABLE).get(_KEY, 0)
    if not isinstance(found, int) or found < 0:
        raise StorageError(
            ErrorCode.STORAGE, f"metadata row {_TABLE}/{_KEY} holds {found!r}, no epoch", retriable=False
        )
    return found
