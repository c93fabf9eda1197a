"""One line for whoever started a broker by hand: where to connect, before the log says anything of it."""

from __future__ import annotations

from typing import Any, TextIO

from twisted.logger import ILogObserver, LogEvent
from zope.interface import provider

__all__ = ["greeting"]


def greeting(observer: ILogObserver, stream: TextIO) -> ILogObserver:
    """Return an observer that greets when the broker says that it is ready, and else does as ``observer``."""

    @provider(ILogObserver)
    def greeted(event: LogEvent) -> None:
        if "listeners" in event and "milliseconds" in event:
            where = event["listeners"].replace(" at ", " clients: ").replace(", ", "  ")
            stream.write(f"megabroker is ready.  {where}  (Ctrl-C stops it)\n")
            stream.flush()
        observer(event)

    result: Any = greeted
    return result  # type: ignore[no-any-return]
