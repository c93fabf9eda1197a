"""A run of batches as the batches it is made of, for logs that have to look at each."""

from __future__ import annotations

from megabroker.codec.batch import read_header
from megabroker.interfaces import ILog, IRun

__all__ = ["append_each"]


def append_each(log: ILog, run: IRun, leader_epoch: int) -> int:
    """Append the batches of a run one after the other; return the first one's offset.

    Raises:
        StorageError: the log takes no more. What it took before stays; whoever sent it is told that it failed
            and sends it again, as after any lost answer.
    """
    base: int = log.next_offset
    run.stamp(base, leader_epoch)
    data = memoryview(run.data)
    run.given()
    for size in run.sizes():
        batch, data = data[:size], data[size:]
        log.append(read_header(batch, 0, size), batch, leader_epoch, None)
    return base
