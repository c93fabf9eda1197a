"""Time that goes on steadily, whatever is done to the system's clock.

Twisted's reactor tells the time by the system's clock, and plans by it: set back by an hour, what was
planned for a moment later comes an hour later, and a fetch that waits, a session that ends and a rebalance
that is due wait with it. Owns the replacement of that: the reactor goes by the system's clock as it was at
the beginning and counts on from there. What the time is for records is asked of the system's clock all the
same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ["keep_steady", "steady_seconds"]


def steady_seconds() -> Callable[[], float]:
    """Return what tells the seconds since the epoch by a clock that nobody sets."""
    began = time.time() - time.monotonic()
    return lambda: began + time.monotonic()


def keep_steady(reactor: Any) -> None:
    """Have a reactor plan by such a clock. Call it before anything is planned."""
    reactor.seconds = steady_seconds()
