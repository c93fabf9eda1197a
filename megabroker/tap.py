"""The twistd command: ``twistd megabroker -c FILE`` and ``twistd megabroker --check -c FILE``.

Owns the command line only. The configuration is read and checked here, before twistd daemonizes, binds or
creates anything; every fault in it is printed, and the exit code says whether there were any.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from twisted.application.service import IService
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.python.components import Componentized

from megabroker.config.load import load
from megabroker.errors import BrokerError, ConfigError, DataDirectoryLocked
from megabroker.ops.logs import LogThreshold, make_observer
from megabroker.plugin import discover
from megabroker.service import BrokerService

__all__ = ["Options", "makeService"]

_log = Logger()


class Options(usage.Options):
    """Command line of ``twistd megabroker``."""

    synopsis = "[--check] -c FILE"
    longdesc = "Runs the message broker that FILE configures; etc/broker.yaml explains every key."
    optParameters = [["config", "c", None, "Configuration file (YAML)."]]
    optFlags = [["check", None, "Check the configuration file, print what is wrong with it, and exit."]]

    def postOptions(self) -> None:
        """Read the configuration; end the process when it is faulty or was only to be checked."""
        if self["config"] is None:
            raise usage.UsageError(
                "no configuration file given: expected -c FILE, for example -c etc/broker.yaml"
            )
        source: str = self["config"]
        self.plugins = discover()
        try:
            self.broker_config = load(source, self.plugins)
        except ConfigError as error:
            print(error, file=sys.stderr)
            raise SystemExit(1) from None
        if not any(settings.enabled for settings in self.broker_config.protocols.values()):
            print(f"{source}: warning: no protocol is enabled, nothing will be served", file=sys.stderr)
        if self["check"]:
            print(f"{source}: no faults")
            raise SystemExit(0)
        self._check_writable()
        # twistd may change the directory before the file is read again.
        self["config"] = os.path.abspath(source)

    def _check_writable(self) -> None:
        """End the process if twistd could not write its pid file or log; it would say so by a traceback."""
        twistd: Any = self.parent
        run_directory = os.path.abspath(twistd["rundir"] or ".")
        daemon = not twistd["nodaemon"]
        for option in ("pidfile", "logfile"):
            path = twistd[option]
            if option == "logfile" and daemon and not twistd.get("syslog"):
                path = path or "twistd.log"
            if not path or path == "-":
                continue
            directory = os.path.dirname(os.path.join(run_directory, path))
            if not os.access(directory, os.W_OK | os.X_OK):
                print(
                    f"megabroker cannot start: it may not write {path} in {directory}: expected "
                    f"--{option}= with a path where it may",
                    file=sys.stderr,
                )
                raise SystemExit(1)


class _Daemon(BrokerService):
    """The broker under twistd: says in one line why it cannot start, and reloads on SIGHUP."""

    def __init__(self, *args: Any, twistd: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._twistd = twistd

    def setServiceParent(self, parent: Any) -> None:
        """Give the application our log, unless another was asked for on the command line."""
        twistd = self._twistd
        if isinstance(parent, Componentized) and not twistd.get("syslog"):
            observer = make_observer(twistd.get("logfile"), not twistd["nodaemon"], self._threshold)
            parent.setComponent(ILogObserver, observer)  # type: ignore[no-untyped-call]
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """Start; a broker that cannot ends the process with exit code 1 and the reason."""
        self._reactor.callWhenRunning(signal.signal, signal.SIGTERM, self._terminate)
        try:
            super().startService()
        except (DataDirectoryLocked, BrokerError, CannotListenError) as error:
            self._tell(f"megabroker cannot start: {error}")
            pidfile = self._twistd["pidfile"]
            if pidfile and os.path.exists(pidfile):
                os.unlink(pidfile)
            raise SystemExit(1) from None
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._hang_up)

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

    def _terminate(self, number: int, frame: object) -> None:
        # In place of the reactor's own handler, after which twistd dies of the signal once all is stopped in
        # order: an orderly stop has exit code 0.
        self._reactor.callFromThread(self._stop_reactor)

    def _stop_reactor(self) -> None:
        try:
            self._reactor.stop()
        except ReactorNotRunning:
            pass

    def _hang_up(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self.reload)


def makeService(options: Options) -> IService:
    """Return the broker as a service for twistd to start."""
    from twisted.internet import reactor

    return _Daemon(
        options.broker_config,
        options.plugins,
        reactor,
        source=options["config"],
        threshold=LogThreshold(options.broker_config.logging.level),
        twistd=options.parent,
    )
