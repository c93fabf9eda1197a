"""What clients say of the leader they believe in."""

from __future__ import annotations

from megabroker.errors import ErrorCode, StateError
from megabroker.interfaces import IPartition
from megabroker.model import NO_LEADER_EPOCH

__all__ = ["check_leader_epoch"]


def check_leader_epoch(partition: IPartition, current_leader_epoch: int) -> None:
    """Compare the epoch a client knows with the partition's own; -1 is not compared (KIP-320).

    Raises:
        StateError: FENCED_LEADER_EPOCH when the client is behind, UNKNOWN_LEADER_EPOCH when it is ahead.
    """
    if current_leader_epoch == NO_LEADER_EPOCH or current_leader_epoch == partition.leader_epoch:
        return
    if current_leader_epoch < partition.leader_epoch:
        raise StateError(ErrorCode.FENCED_LEADER_EPOCH, retriable=True)
    raise StateError(ErrorCode.UNKNOWN_LEADER_EPOCH, retriable=True)
