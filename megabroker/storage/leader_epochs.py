"""The leader epochs of a log while it is open: which began where."""

from __future__ import annotations

__all__ = ["Epochs", "LeaderEpochs"]

Epochs = list[tuple[int, int]]
"""(leader epoch, first offset), both rising."""


class LeaderEpochs:
    """See the module.

    Args:
        rows: what is known already; becomes this one's.

    Attributes:
        latest: the greatest epoch there is; -1 if there is none.
    """

    def __init__(self, rows: Epochs) -> None:
        self.rows = rows
        self.latest = -1
        self._note_latest()

    def begin(self, leader_epoch: int, offset: int) -> None:
        """Take note that an epoch begins, which is greater than those before."""
        self.latest = leader_epoch
        self.rows.append((leader_epoch, offset))

    def truncate(self, offset: int) -> None:
        """Forget epochs that begin at ``offset`` or after it."""
        while self.rows and self.rows[-1][1] >= offset:
            self.rows.pop()
        self._note_latest()

    def _note_latest(self) -> None:
        self.latest = self.rows[-1][0] if self.rows else -1

    def end_offset(self, leader_epoch: int, log_end: int) -> tuple[int, int]:
        """See ``ILog.epoch_end_offset``.

        Args:
            log_end: the offset after the last record of the log.
        """
        end = log_end
        for epoch, start in reversed(self.rows):
            if epoch <= leader_epoch:
                return epoch, end
            end = start
        return -1, -1
