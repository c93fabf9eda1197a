"""The twistd command: ``twistd megabroker -c FILE``, with ``--check`` to look at the file only.

In place of our own file, ``--kafka-properties`` takes the server.properties of a Kafka broker, whose
directories are then opened where they are.

Owns the command line only. The configuration is read and checked here, before twistd daemonizes, binds or
creates anything; every fault in it is printed, and the exit code says whether there were any.
"""

from __future__ import annotations

import gc
import os
import platform
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.application.service import IService
from twisted.python import usage

import twisted
from megabroker import __version__
from megabroker.codec.compression import missing_libraries
from megabroker.config.endpoint import parse_endpoint
from megabroker.config.given import DEFAULT_TEXT
from megabroker.config.load import load, parse
from megabroker.config.schema import Config
from megabroker.errors import ConfigError
from megabroker.interfaces import IProtocolPlugin
from megabroker.ops.logs import LogThreshold
from megabroker.ops.tls import leave_out_tls
from megabroker.plugin import discover

if TYPE_CHECKING:
    from megabroker.kafkadir.server_properties import ServerProperties

__all__ = ["Options", "makeService"]

_PLAIN = frozenset({"tcp", "unix", "systemd"})


class Options(usage.Options):
    """Command line of ``twistd megabroker``."""

    synopsis = "[--check] {-c FILE | --kafka-properties FILE | --defaults} [--set KEY=VALUE]..."
    longdesc = "Runs the message broker that a file configures; etc/broker.yaml explains every key."
    optParameters = [
        ["config", "c", None, "Configuration file (YAML)."],
        [
            "kafka-properties",
            None,
            None,
            "The server.properties of a Kafka broker, to use it and its directories in place.",
        ],
    ]
    kafka: ServerProperties | None = None
    read_again: Callable[[], Config]
    optFlags = [
        ["check", None, "Check the configuration file, report all faults, and exit."],
        ["defaults", None, "Use no file: every key has its default; Kafka, MEGA and cursus are served."],
        ["greet", None, "Print where clients connect, as the first line of standard output."],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.given: list[str] = []

    def opt_set(self, text: str) -> None:
        """KEY=VALUE overrides a key of the file, for example topics.default_partitions=1."""
        self.given.append(text)

    def parseArgs(self, *words: str) -> None:
        """Refuse words without an option before them, such as a file without its ``-c``."""
        if words:
            raise usage.UsageError(f"{words[0]!r}: expected -c FILE, with -c before the name of the file")

    def postOptions(self) -> None:
        """Read the configuration; end the process when it is faulty or was only to be checked."""
        given = [self[name] for name in ("config", "kafka-properties") if self[name] is not None]
        given += ["the defaults"] if self["defaults"] else []
        if not given:
            raise usage.UsageError(
                "no configuration file given: expected -c FILE, for example -c etc/broker.yaml"
            )
        if len(given) > 1:
            raise usage.UsageError("expected one of -c FILE, --kafka-properties FILE and --defaults, not two")
        if self["kafka-properties"] is not None and self.given:
            raise usage.UsageError("--set: expected -c FILE or --defaults with it")
        source: str = given[0]
        self.plugins = discover()
        try:
            self.broker_config = self._read(source)
        except ConfigError as error:
            print(ConfigError(error.faults, source), file=sys.stderr)
            raise SystemExit(1) from None
        for codec, library in missing_libraries().items():
            print(
                f"megabroker cannot start: {library}, the library for {codec}, is not installed: expected an "
                "installation by pip, which brings it",
                file=sys.stderr,
            )
            raise SystemExit(1)
        if not any(settings.enabled for settings in self.broker_config.protocols.values()):
            print(f"{source}: warning: no protocol is enabled, nothing will be served", file=sys.stderr)
        if self["check"]:
            if warning := self.broker_config.security.warning:
                print(f"{source}: warning: {warning}", file=sys.stderr)
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
        plugins, given = self.plugins, self.given
        if self["defaults"]:
            self.read_again = lambda: parse(DEFAULT_TEXT, source, plugins, given)
            return self.read_again()
        source = os.path.abspath(source)
        if self["kafka-properties"] is None:
            self.read_again = lambda: load(source, plugins, given)
            return self.read_again()
        from megabroker.kafkadir.server_properties import read_server_properties

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


def makeService(options: Options) -> IService:
    """Return the broker as a service for twistd to start."""
    # What is imported stays: there is nothing to find in looking through ever more of it.
    gc.disable()
    try:
        return _make_service(options)
    finally:
        gc.freeze()
        gc.enable()


def _make_service(options: Options) -> IService:
    config = options.broker_config
    twistd: Any = options.parent
    tls = _may_use_tls(config, options.plugins)
    if not tls:
        leave_out_tls()
    from twisted.internet import reactor

    from megabroker.daemon import Daemon

    threshold = LogThreshold(config.logging.level)
    service: IService
    if config.workers == 1:
        from megabroker.service import BrokerService

        service = BrokerService(config, options.plugins, reactor, options.read_again, threshold)
    else:
        from megabroker.supervisor import Supervisor

        name = twistd.get("reactor")
        service = Supervisor(config, options.plugins, reactor, options.read_again, threshold, tls, name)
    return Daemon(service, reactor, threshold, twistd=twistd, kafka=options.kafka, greet=options["greet"])


def _may_use_tls(config: Config, plugins: Mapping[str, IProtocolPlugin]) -> bool:
    """Say whether an endpoint is not plain, or the plugin of a protocol has not said that it needs no TLS."""
    return (config.http.enabled and config.http.tls is not None) or any(
        getattr(plugins[name], "needs_tls", True)
        or any(
            listener.tls is not None or parse_endpoint(listener.endpoint).type not in _PLAIN
            for listener in settings.listeners
        )
        for name, settings in config.protocols.items()
        if settings.enabled
    )
