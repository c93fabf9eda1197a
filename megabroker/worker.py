"""A worker: the process that does a share of the work of a broker, started and watched by the supervisor.

    python -m megabroker.worker NODE-ID CHANNEL

Owns what this process has and a service has not: it logs to its standard output, stops in order when told or
when its supervisor is gone, and ends with exit code 1 after it has said why it cannot start. Signals that a
terminal or an init system sends to all processes at once are the supervisor's business: it stops the workers
in order.
"""

from __future__ import annotations

import faulthandler
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

from megabroker.ops.channel import (
    ALIVE,
    ASK,
    DRAINED,
    END,
    IMPORT,
    IMPORTED,
    OPENING,
    READY,
    REFUSED,
    STOP,
    TELL_WHERE,
    Channel,
)
from megabroker.ops.tls import leave_out_tls

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

__all__ = ["main"]

_ORPHAN_SECONDS = 15
_OPENED_TELLS = 16


def main(arguments: list[str]) -> int:
    """Run a worker; return the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()
    faulthandler.register(TELL_WHERE)
    channel = Channel(socket.socket(fileno=int(arguments[1])))
    start = channel.receive()
    if start is None:
        return 1
    if not start.tls:
        leave_out_tls()
    if start.reactor is not None:
        from twisted.application.reactors import installReactor

        installReactor(start.reactor)
    return _run(start, channel)


def _run(start: Any, channel: Channel) -> int:
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.error import CannotListenError
    from twisted.logger import globalLogBeginner

    from megabroker.errors import BrokerError
    from megabroker.ops.collecting import ShortCollections
    from megabroker.ops.logs import LogThreshold, make_worker_observer
    from megabroker.ops.steady import keep_steady
    from megabroker.plugin import discover
    from megabroker.service import BrokerService

    end: Deferred[None] = Deferred()

    class Broker(BrokerService):
        """The broker of this process."""

        def ready(self, milliseconds: int) -> None:
            """Tell the supervisor."""
            channel.send((READY, milliseconds))

        def drained(self) -> Deferred[None]:
            """Tell the supervisor, and wait until it says that all are."""
            try:
                channel.send((DRAINED, None))
            except OSError:
                _end(end)
            return end

    keep_steady(reactor)
    threshold = LogThreshold(start.config.logging.level)
    observer = make_worker_observer(sys.stdout, start.worker.me.id, threshold, start.config.logging.format)
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)

    def opening(done: int, total: int) -> None:
        """Tell the supervisor, now and then."""
        if not done % _OPENED_TELLS:
            try:
                channel.send((OPENING, (done, total)))
            except OSError:
                pass  # the supervisor is gone, which the thread notices

    service = Broker(start.config, discover(), reactor, threshold=threshold, worker=start.worker)
    service.opening = opening
    watch = threading.Thread(target=_obey, args=(channel, service, reactor, end), daemon=True)
    watch.start()
    try:
        service.startService()
    except (BrokerError, CannotListenError) as error:
        channel.send((REFUSED, str(error)))
        return 1
    ShortCollections().start()
    running: Any = reactor
    running.addSystemEventTrigger("before", "shutdown", service.stopService)
    running.run(installSignalHandlers=False)
    return 0


def _obey(channel: Channel, service: Any, reactor: Any, end: Deferred[None]) -> None:
    """Thread: pass on what the supervisor sends; when it is gone, stop, whatever else happens."""
    while (message := channel.receive()) is not None:
        if message == STOP:
            reactor.callFromThread(_stop, reactor)
        elif message == END:
            reactor.callFromThread(_end, end)
        elif message == ASK:
            reactor.callFromThread(_answer, channel, ALIVE)
        elif message == IMPORT:
            reactor.callFromThread(_import, reactor, channel)
        else:
            reactor.callFromThread(service.follow, message)
    signal.alarm(_ORPHAN_SECONDS)
    reactor.callFromThread(_stop, reactor)
    reactor.callFromThread(_end, end)


def _answer(channel: Channel, what: str) -> None:
    try:
        channel.send((what, None))
    except OSError:
        pass  # the supervisor is gone, which the thread notices


def _import(reactor: Any, channel: Channel) -> None:
    from megabroker.ops.importing import import_all

    import_all(reactor).addCallback(lambda _: _answer(channel, IMPORTED))


def _end(end: Deferred[None]) -> None:
    if not end.called:
        end.callback(None)


def _stop(reactor: Any) -> None:
    from twisted.internet.error import ReactorNotRunning

    try:
        reactor.stop()
    except ReactorNotRunning:
        pass  # it is stopping already


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
