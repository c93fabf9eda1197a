"""The twistd command: ``twistd megabroker -c FILE``, with ``--check`` to look at the file only.

In place of our own file, ``--kafka-properties`` takes the server.properties of a Kafka broker, whose
directories are then opened where they are.

Owns the command line only. The configuration is read and checked here, before twistd daemonizes, binds or
creates anything; every fault in it is printed, and the exit code says whether there were any.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.application.service import IService
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.python.components import Componentized

import twisted
from megabroker import __version__
from megabroker.config.load import load
from megabroker.config.schema import Config
from megabroker.errors import BrokerError, ConfigError, DataDirectoryLocked
from megabroker.kafkadir.adopting import adopt
from megabroker.kafkadir.server_properties import ServerProperties, read_server_properties
from megabroker.ops.logs import LogThreshold, make_observer
from megabroker.plugin import discover
from megabroker.service import BrokerService

__all__ = ["Options", "makeService"]

_log = Logger()


class Options(usage.Options):
    """Command line of ``twistd megabroker``."""

    synopsis = "[--check] {-c FILE | --kafka-properties FILE}"
    longdesc = "Runs the message broker that FILE configures; etc/broker.yaml explains every key."
    optParameters = [
        ["config", "c", None, "Configuration file (YAML)."],
        [
            "kafka-properties",
            None,
            None,
            "In its place the server.properties of a Kafka broker, whose directories are then opened.",
        ],
    ]
    kafka: ServerProperties | None = None
    read_again: Callable[[], Config]
    optFlags = [["check", None, "Check the configuration file, print what is wrong with it, and exit."]]

    def postOptions(self) -> None:
        """Read the configuration; end the process when it is faulty or was only to be checked."""
        given = [self[name] for name in ("config", "kafka-properties") if self[name] is not None]
        if not given:
            raise usage.UsageError(
                "no configuration file given: expected -c FILE, for example -c etc/broker.yaml"
            )
        if len(given) > 1:
            raise usage.UsageError("expected one of -c FILE and --kafka-properties FILE, not both")
        source: str = given[0]
        self.plugins = discover()
        try:
            self.broker_config = self._read(source)
        except ConfigError as error:
            print(ConfigError(error.faults, source), file=sys.stderr)
            raise SystemExit(1) from None
        if not any(settings.enabled for settings in self.broker_config.protocols.values()):
            print(f"{source}: warning: no protocol is enabled, nothing will be served", file=sys.stderr)
        if self["check"]:
            self._show_properties()
            print(f"{source}: no faults")
            raise SystemExit(0)
        self._check_writable()

    def opt_version(self) -> None:
        """Display the versions of the broker, Twisted and Python, and exit."""
        versions = f"Twisted {twisted.__version__}, Python {platform.python_version()}"
        print(f"megabroker {__version__} ({versions})")
        raise SystemExit(0)

    def _read(self, source: str) -> Config:
        """Read the file; ``read_again`` then does it anew, wherever twistd changes its directory to."""
        plugins, source = self.plugins, os.path.abspath(source)
        if self["kafka-properties"] is None:
            self.read_again = lambda: load(source, plugins)
            return self.read_again()
        read = partial(read_server_properties, source, plugins, os.getcwd())
        self.read_again = lambda: read().config
        self.kafka = read()
        return self.kafka.config

    def _show_properties(self) -> None:
        """Print which properties of Kafka's are followed and which are not."""
        if self.kafka is not None:
            for name, key in sorted(self.kafka.followed.items()):
                print(f"{name}: followed, {key}")
            for name, reason in sorted(self.kafka.passed_over.items()):
                print(f"{name}: not followed, {reason}")

    def _check_writable(self) -> None:
        """End the process if twistd could not write its pid file or log; it would say so by a traceback."""
        twistd: Any = self.parent
        if "rundir" not in twistd:
            raise usage.UsageError("twist cannot run the broker: expected twistd")
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

    def __init__(self, *args: Any, twistd: Any, kafka: ServerProperties | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._twistd = twistd
        self._kafka = kafka

    def setServiceParent(self, parent: Any) -> None:
        """Give the application our log, unless another was asked for on the command line."""
        twistd = self._twistd
        if isinstance(parent, Componentized) and not twistd.get("syslog"):
            observer = make_observer(twistd.get("logfile"), not twistd["nodaemon"], self._threshold)
            parent.setComponent(ILogObserver, observer)  # type: ignore[no-untyped-call]
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """Start; a broker that cannot ends the process with exit code 1 and the reason."""
        self._reactor.callWhenRunning(self._take_signals)
        try:
            if self._kafka is not None:
                self._open_kafka(self._kafka)
            super().startService()
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

    def _open_kafka(self, kafka: ServerProperties) -> None:
        """Make the directories of a Kafka broker ours, and say what that means."""
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
        self._reactor.callFromThread(self.reload)


def makeService(options: Options) -> IService:
    """Return the broker as a service for twistd to start."""
    from twisted.internet import reactor

    return _Daemon(
        options.broker_config,
        options.plugins,
        reactor,
        read_again=options.read_again,
        threshold=LogThreshold(options.broker_config.logging.level),
        twistd=options.parent,
        kafka=options.kafka,
    )
