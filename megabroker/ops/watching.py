"""Whether the processes of this broker still do anything: asked every few seconds, and ended when they hang.

Owns the questions, and for how long no answer is borne with. A process answers by its reactor, so that one
that waits for ever for a lock or goes round in circles is found out, and one that was stopped by a debugger
after the same time. It is made to write down where its threads are, then it is killed; whoever started it
notices that as any other end.

Silence is counted by questions and not by the clock: a machine that was stopped altogether has asked none.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from megabroker.ops.channel import ASK, TELL_WHERE
from megabroker.ops.child import Child

__all__ = ["Watch"]

_log = Logger()

_ASK_SECONDS = 5.0
_PATIENCE = 12
_LATELY = 2


class Watch:
    """See the module.

    Args:
        watched: returns who is to be asked, with the node each of them is.
    """

    def __init__(self, clock: IReactorTime, watched: Callable[[], Mapping[Child, int]]) -> None:
        self._watched = watched
        self._silent: dict[Child, int] = {}  # turns since they were asked
        self._turns = LoopingCall(self._turn)
        self._turns.clock = clock

    def start(self) -> None:
        """Begin to ask."""
        self._turns.start(_ASK_SECONDS, now=False)

    def stop(self) -> None:
        """Ask no more."""
        if self._turns.running:
            self._turns.stop()

    def answered(self, child: Child) -> None:
        """It has."""
        self._silent.pop(child, None)

    @property
    def all_answer(self) -> bool:
        """Whether nobody has been silent since he was asked before last."""
        return all(turns <= _LATELY for turns in self._silent.values())

    def _turn(self) -> None:
        watched = self._watched()
        self._silent = {child: self._silent.get(child, 0) + 1 for child in watched}
        for child, turns in self._silent.items():
            if turns == 1:
                child.send(ASK)
            elif turns == _PATIENCE + 1:
                _log.error("worker-hangs", node=watched[child], seconds=_PATIENCE * _ASK_SECONDS)
                child.signal(TELL_WHERE)
            elif turns > _PATIENCE + 1:
                child.signal(signal.SIGKILL)
