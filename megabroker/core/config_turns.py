"""Changes of what administrators set, one after the other.

Owns the turns in which somebody reads what is set, works out what shall be set and has it stored, whatever
wire it came over, so that no change is lost between two of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred, DeferredLock

from megabroker.interfaces import ITopicService

__all__ = ["in_turn"]

_T = TypeVar("_T")

_turns: WeakKeyDictionary[ITopicService, DeferredLock] = WeakKeyDictionary()


def in_turn(topics: ITopicService, change: Callable[[], Deferred[_T]]) -> Deferred[_T]:
    """Make a change when those before it are made; fires and fails as it does.

    Args:
        topics: of the broker whose configurations are changed.
    """
    turn = _turns.get(topics)
    if turn is None:
        turn = _turns[topics] = DeferredLock()
    return turn.run(change)
