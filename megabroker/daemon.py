"""The broker as a daemon: under twistd, with its signals, its log and its one line about why it cannot start.

Owns what a process has and a service has not. SIGTERM and SIGINT stop in order and with exit code 0, SIGHUP
reads the configuration again, SIGUSR2 has all imported that might be later, for an upgrade that leaves this
process alone; a broker that cannot start ends the process with exit code 1.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from megabroker.errors import BrokerError, DataDirectoryLocked
from megabroker.ops.collecting import ShortCollections
from megabroker.ops.greeting import greeting
from megabroker.ops.logs import LogThreshold, make_observer
from megabroker.ops.steady import keep_steady
from megabroker.ops.systemd import Notifier

if TYPE_CHECKING:
    from megabroker.kafkadir.server_properties import ServerProperties

__all__ = ["Daemon"]

_log = Logger()

_SERVING = "serving clients"
_COMPLETE = "serving clients, with all of this version in memory"


class Daemon(Service):
    """The broker under twistd.

    Args:
        service: the broker, or what supervises it: a service with ``reload`` and, perhaps, an ``exit_code``.
        threshold: the log's threshold.
        twistd: the options of twistd itself.
        kafka: what the server.properties of a Kafka broker say, whose directories are opened then.
        greet: whether whoever started it is told where to connect, in the first line that there is.
    """

    name = "megabroker"

    def __init__(
        self,
        service: Any,
        reactor: Any,
        threshold: LogThreshold,
        *,
        twistd: Any,
        kafka: ServerProperties | None,
        greet: bool = False,
    ) -> None:
        keep_steady(reactor)
        self._service = service
        self._reactor = reactor
        self._threshold = threshold
        self._twistd = twistd
        self._kafka = kafka
        self._greet = greet
        self._collections = ShortCollections()
        self._notifier = Notifier(reactor)
        service.opening = self._notifier.opening

    def setServiceParent(self, parent: Any) -> None:
        """Give the application our log, unless another was asked for on the command line."""
        twistd = self._twistd
        if isinstance(parent, Componentized) and not twistd.get("syslog"):
            form = self._service.config.logging.format
            observer = make_observer(twistd.get("logfile"), not twistd["nodaemon"], self._threshold, form)
            if self._greet and form == "human":
                observer = greeting(observer, sys.stdout)
            parent.setComponent(ILogObserver, observer)  # type: ignore[no-untyped-call]
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """Start; a broker that cannot ends the process with exit code 1 and the reason."""
        if hasattr(signal, "SIGUSR2"):
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # until there is something to be imported for
        self._reactor.callWhenRunning(self._take_signals)
        try:
            if self._kafka is not None:
                self._open_kafka(self._kafka)
            self._service.startService()
        except (DataDirectoryLocked, BrokerError, CannotListenError) as error:
            self._tell(f"megabroker cannot start: {error}")
            pidfile = self._twistd["pidfile"]
            if pidfile and os.path.exists(pidfile):
                os.unlink(pidfile)
            raise SystemExit(1) from None
        except KeyboardInterrupt:
            self._tell("megabroker was interrupted before it was ready")
            raise SystemExit(130) from None
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._hang_up)
            signal.signal(signal.SIGUSR2, self._files_go)
        self._collections.start()
        super().startService()  # type: ignore[no-untyped-call]
        # Not before the reactor runs: only then are clients answered.
        self._reactor.callWhenRunning(self._notifier.ready, _SERVING, self._is_well)

    def stopService(self) -> Deferred[None]:
        """Stop in order; the process then ends with the service's exit code, whatever twistd thinks of it."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._collections.stop()
        self._notifier.stopping()
        return maybeDeferred(self._service.stopService).addCallback(self._stopped)

    def _stopped(self, _: Any) -> None:
        self._notifier.close()
        exit_code = getattr(self._service, "exit_code", 0)
        if exit_code:
            atexit.register(os._exit, exit_code)

    def _open_kafka(self, kafka: ServerProperties) -> None:
        """Make the directories of a Kafka broker ours, and say what that means."""
        from megabroker.kafkadir.adopting import adopt

        for name, reason in sorted(kafka.passed_over.items()):
            _log.info("{name} is not followed: {reason}", name=name, reason=reason)
        takeover = adopt(kafka.directories, kafka.config, time.time_ns() // 1_000_000)
        if takeover is None:
            return
        for finding in takeover.findings:
            _log.warn("{kind}: {text}", kind=finding.kind.value, text=finding.text)
        _log.info(
            "took over {topics} topics, {groups} groups and {ids} transactional ids from Apache Kafka",
            topics=len(takeover.topics),
            groups=len({*takeover.groups, *takeover.offsets}),
            ids=len(takeover.transactions),
        )

    def _tell(self, text: str) -> None:
        """Say why there is no broker, to whoever started it."""
        if self._twistd["nodaemon"]:
            print(text, file=sys.__stderr__)
            return
        _log.critical("{text}", text=text)
        # The process that twistd was started as waits here for the outcome and prints 98 bytes of it.
        pipe = self._twistd.get("statusPipe")
        if pipe is not None:
            os.write(pipe, b"1 " + text.encode()[:98])

    def _take_signals(self) -> None:
        # In place of the reactor's own handlers, after which twistd dies of the signal once all is stopped in
        # order: an orderly stop has exit code 0. A shell lets what it runs in the background ignore SIGINT.
        signal.signal(signal.SIGTERM, self._terminate)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._terminate)

    def _terminate(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self._stop_reactor, signal.Signals(number).name)

    def _stop_reactor(self, reason: str) -> None:
        try:
            self._reactor.stop()
        except ReactorNotRunning:
            _log.info("{reason} again: already stopping", reason=reason)
        else:
            _log.info("{reason} received", reason=reason)

    def _hang_up(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self._reload)

    def _reload(self) -> None:
        self._notifier.reloading()
        try:
            self._service.reload()
        finally:
            self._notifier.reloaded()

    def _files_go(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self._import_all)

    def _import_all(self) -> None:
        from megabroker.ops.importing import import_all

        done = getattr(self._service, "import_all", import_all)(self._reactor)
        done.addCallback(lambda _: self._notifier.status(_COMPLETE))
        done.addErrback(lambda failure: _log.failure("not everything could be imported", failure))

    def _is_well(self) -> bool:
        return bool(getattr(self._service, "is_well", True))
