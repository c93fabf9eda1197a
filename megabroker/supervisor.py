"""Several workers as one broker: started together, watched, and stopped in order.

Owns what there is once for all of them: the locks on the data directories, the sockets that clients connect
to, the configuration file, the log, and which processes there are. Serves nobody and reads no log of
messages. A worker that dies is started anew, ever more slowly if it dies again and again; its sockets stay
open meanwhile. One that hangs is killed, also while it is being stopped. After an upgrade of the package none
is started anew: two versions must not be one broker, so all end, to be started by whoever watches them.

*Start* is one blocking call, as that of a single process: it returns when every worker serves, or raises what
one of them said is wrong. *Stop*: all are told to serve no clients any more, and when none does to end; until
then they serve each other, so that whatever a client has asked of one of them can be answered. Each has all
the time it takes. A worker that sees its channel end has lost its supervisor and stops.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults, succeed
from twisted.logger import Logger, LogLevel

from megabroker import __version__
from megabroker.config.diff import changes
from megabroker.config.rereading import described, reread
from megabroker.config.schema import Config
from megabroker.config.workers import own_ports, worker_config
from megabroker.errors import ErrorCode, StateError
from megabroker.interfaces import IProtocolPlugin
from megabroker.model import HTTP, PEERS, HostPort, Listener, Node, Worker
from megabroker.net import quick
from megabroker.net.listening import advertised, bind_each, bind_file, bind_shared
from megabroker.ops.channel import ALIVE, DRAINED, END, IMPORT, IMPORTED, OPENING, READY, STOP
from megabroker.ops.child import Child, ended_how, wait
from megabroker.ops.installed import Installed
from megabroker.ops.json_logs import BEGIN
from megabroker.ops.logs import LINE, LogThreshold
from megabroker.ops.watching import Watch
from megabroker.stores import SharedDirectories

__all__ = ["Start", "Supervisor"]

_log = Logger()

_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 10.0
_STEADY_SECONDS: Final = 20.0
_UNDO_SECONDS: Final = 15.0
_LINE: Final = re.compile(r"\d{4}-\d\d-\d\dT|    |" + re.escape(BEGIN))


@attrs.frozen
class Start:
    """What a worker is told first.

    Attributes:
        reactor: the name that twistd was given, or None.
        tls: whether what it serves may use TLS.
    """

    config: Config
    worker: Worker
    reactor: str | None
    tls: bool


class _Place:
    """A worker's place, whichever process has it.

    Attributes:
        child: that process; None while it is to be started anew.
        serves: whether it has said so.
        why: why it cannot serve, in its own words.
        pause_seconds: how long the next start is put off.
        drained: fires when the process that is being stopped serves no clients any more, or has ended.
        gone: fires when it has ended.
        imported: each fires when the process has imported everything, or has ended.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.child: Child | None = None
        self.serves = False
        self.why = ""
        self.started_at = 0.0
        self.pause_seconds = _FIRST_PAUSE_SECONDS
        self.restart: Any = None
        self.drained: Deferred[None] | None = None
        self.gone: Deferred[int] | None = None
        self.imported: list[Deferred[None]] = []

    def drain_ended(self) -> None:
        """The process serves no clients any more."""
        if self.drained is not None and not self.drained.called:
            self.drained.callback(None)

    def import_ended(self) -> None:
        """The process has all in memory, or is no more."""
        waiting, self.imported = self.imported, []
        for one in waiting:
            one.callback(None)


class Supervisor(Service):
    """See the module.

    Args:
        config: checked configuration, with more than one worker.
        plugins: the installed protocols by name.
        reactor: the reactor to run in.
        read_again: reads the configuration anew; raises ConfigError.
        threshold: the log's threshold.
        tls: whether what is served may use TLS.
        reactor_name: what twistd was told to use.

    Attributes:
        exit_code: what the process should end with, known when stopped.
        opening: told how many logs are open, and of how many, while it starts; may be assigned.
    """

    name = "megabroker"

    def __init__(
        self,
        config: Config,
        plugins: Mapping[str, IProtocolPlugin],
        reactor: Any,
        read_again: Callable[[], Config] | None = None,
        threshold: LogThreshold | None = None,
        tls: bool = True,
        reactor_name: str | None = None,
    ) -> None:
        self.config = config
        self.exit_code = 0
        self._own = own_ports(plugins)
        self._http: list[HostPort] = []
        self._reactor = reactor
        self._read_again = read_again
        self._threshold = LogThreshold() if threshold is None else threshold
        self._tls = tls
        self._reactor_name = reactor_name
        node_ids = [config.node.id + index for index in range(config.workers)]
        self._directories = SharedDirectories(config, node_ids, reactor)
        self.opening: Callable[[int, int], None] | None = None
        self._opened: dict[int, tuple[int, int]] = {}  # logs, and how many of them, by node
        self._sockets: list[socket.socket] = []
        self._places: list[_Place] = []
        self._stopping = False
        self._installed = Installed()
        self._watch = Watch(reactor, self._serving)

    # --- start ---

    def startService(self) -> None:
        """Start every worker and wait until all serve. Blocking.

        Raises:
            DataDirectoryLocked: another broker has the data directory.
            StorageError: it cannot be used.
            StateError: an address is taken or not ours, or a worker cannot start.
        """
        began = time.monotonic()
        self._threshold.set(self.config.logging.level)
        self._directories.open()
        try:
            self._places = [_Place(worker) for worker in self._workers()]
            for place in self._places:
                self._start(place)
            self._wait()
            self._directories.keep_room()
        except BaseException:
            self._undo()
            raise
        super().startService()  # type: ignore[no-untyped-call]
        for place in self._places:
            assert place.child is not None
            place.child.follow()
        self._watch.start()
        self._reactor.callWhenRunning(self._say_ready, round((time.monotonic() - began) * 1000))

    def _workers(self) -> list[Worker]:
        """Bind every socket; return what each worker is."""
        config = self.config
        each = [worker_config(config, index, self._own) for index in range(config.workers)]
        descriptors: list[dict[tuple[str, str], int]] = [{} for _ in each]
        listeners: list[list[Listener]] = [[] for _ in each]
        for name, settings in config.protocols.items():
            for number, listener in enumerate(settings.listeners if settings.enabled else ()):
                wanted = [one.protocols[name].listeners[number] for one in each]
                try:
                    if name in self._own:
                        bound = bind_each([one.endpoint for one in wanted])
                    else:
                        bound = bind_shared(listener.endpoint, len(each))
                except StateError as error:
                    raise StateError(error.code, f"protocols.{name}: {error.message}") from error
                self._sockets += bound
                for index, (one, theirs) in enumerate(zip(bound, wanted, strict=True)):
                    descriptors[index][name, listener.name] = one.fileno()
                    address = advertised(
                        theirs.advertised_host, theirs.advertised_port, one.getsockname()[:2]
                    )
                    listeners[index].append(Listener(name, listener.name, address))
        self._bind_http(each, descriptors)
        nodes = tuple(
            Node(one.node.id, one.node.rack, tuple(theirs))
            for one, theirs in zip(each, listeners, strict=True)
        )
        places = self._directories.sockets
        for theirs, path in zip(descriptors, places, strict=True):
            one = bind_file(path)
            self._sockets.append(one)
            theirs[PEERS] = one.fileno()
        return [Worker(index, nodes, places, descriptors[index]) for index in range(len(nodes))]

    def _bind_http(self, each: list[Config], descriptors: list[dict[tuple[str, str], int]]) -> None:
        """Bind where each worker is administered over HTTP."""
        if not self.config.http.enabled:
            return
        try:
            bound = bind_each([one.http.endpoint for one in each])
        except StateError as error:
            raise StateError(error.code, f"http: {error.message}") from error
        self._sockets += bound
        for theirs, one in zip(descriptors, bound, strict=True):
            theirs[HTTP] = one.fileno()
        self._http = [advertised(None, None, one.getsockname()[:2]) for one in bound]

    def _start(self, place: _Place) -> None:
        worker = place.worker
        start = Start(
            worker_config(self.config, worker.index, self._own), worker, self._reactor_name, self._tls
        )
        descriptors = [*self._directories.descriptors, *worker.descriptors.values()]
        place.serves, place.why = False, ""
        place.started_at = self._reactor.seconds()
        module = ["megabroker.worker", str(worker.me.id)]
        try:
            place.child = Child(self._reactor, self, module, start, descriptors)
        except OSError as error:
            raise StateError(ErrorCode.INTERNAL, f"a worker cannot be started: {error}") from error

    def _wait(self) -> None:
        """Wait until all serve. Raises StateError."""
        while not all(place.serves for place in self._places):
            for place in self._places:
                if place.child is None:
                    raise StateError(ErrorCode.INTERNAL, place.why)
            wait([place.child for place in self._places if place.child is not None], None)

    def _undo(self) -> None:
        """Give back what a start that failed had taken."""
        self._stopping = True
        for place in self._places:
            if place.child is not None:
                place.child.send(STOP)
                place.child.send(END)
        patience: float | None = _UNDO_SECONDS
        while children := [place.child for place in self._places if place.child is not None]:
            if not wait(children, patience):
                patience = None
                for child in children:
                    child.signal(signal.SIGKILL)
        self._close_sockets()
        self._close_directories()

    def _close_directories(self) -> None:
        try:
            self._directories.close()
        except OSError as error:
            self.exit_code = 1
            _log.error("data directories are not left in order: {error}", error=str(error))

    def _close_sockets(self) -> None:
        for one in self._sockets:
            one.close()
        self._sockets = []

    def _say_ready(self, milliseconds: int) -> None:
        told = dict.fromkeys(
            f"{listener.protocol} at {listener.address.host}:{listener.address.port}"
            for place in self._places
            for listener in place.worker.me.listeners
        )
        told.update({f"http at {address.host}:{address.port}": None for address in self._http})
        _log.info(
            "megabroker {version} with {count} workers is ready after {milliseconds} ms: {listeners}; "
            "data in {data_dir}; {compiled}",
            version=__version__,
            count=len(self._places),
            milliseconds=milliseconds,
            listeners=", ".join(told) or "no protocol is enabled",
            data_dir=os.path.abspath(self.config.data_dir),
            compiled=quick.describe(),
        )

    @property
    def is_well(self) -> bool:
        """Whether every worker that serves has lately answered whether it does anything."""
        return self._watch.all_answer

    # --- what workers say and do ---

    def _place_of(self, child: Child) -> _Place:
        return next(place for place in self._places if place.child is child)

    def _serving(self) -> dict[Child, int]:
        """Return who serves, with its node; who does not yet may take long, for instance to recover."""
        return {
            place.child: place.worker.me.id
            for place in self._places
            if place.child is not None and place.serves
        }

    def said(self, child: Child, line: str) -> None:
        """A worker has logged something, or something in it printed."""
        if _LINE.match(line):
            _log.emit(LogLevel.info, "{log_line}", **{LINE: line})
        elif line:
            _log.warn("{line}", line=line, node=self._place_of(child).worker.me.id)

    def told(self, child: Child, message: Any) -> None:
        """A worker serves now, or cannot."""
        place = self._place_of(child)
        kind, what = message
        if kind == READY:
            place.serves = True
            if self.running:
                _log.info("worker serves again", node=place.worker.me.id, milliseconds=what)
        elif kind == OPENING:
            self._opened[place.worker.me.id] = what
            if self.opening is not None:
                self.opening(*map(sum, zip(*self._opened.values(), strict=True)))
        elif kind == ALIVE:
            self._watch.answered(child)
        elif kind == DRAINED:
            place.drain_ended()
        elif kind == IMPORTED:
            place.import_ended()
        else:
            place.why = what

    def ended(self, child: Child, status: int) -> None:
        """A worker has ended; unless it was told to, it is started anew."""
        place = self._place_of(child)
        place.child = None
        place.serves = False
        place.import_ended()
        place.why = place.why or f"worker of node {place.worker.me.id} ended {ended_how(status)}"
        if place.gone is not None:
            place.drain_ended()
            place.gone.callback(status)
            return
        if self._stopping or not self.running:
            return
        if self._reactor.seconds() - place.started_at > _STEADY_SECONDS:
            place.pause_seconds = _FIRST_PAUSE_SECONDS
        _log.error(
            "worker-ended", node=place.worker.me.id, why=place.why, restart_seconds=place.pause_seconds
        )
        place.restart = self._reactor.callLater(place.pause_seconds, self._start_anew, place)
        place.pause_seconds = min(2 * place.pause_seconds, _LONGEST_PAUSE_SECONDS)

    def _start_anew(self, place: _Place) -> None:
        place.restart = None
        if self._installed.is_replaced():
            self.exit_code = 1
            _log.error(
                "installed-anew", node=place.worker.me.id, outcome="all workers stop and are restarted"
            )
            self._reactor.stop()
            return
        try:
            self._start(place)
        except StateError as error:
            _log.error("worker-not-started", node=place.worker.me.id, error=error.message)
            place.restart = self._reactor.callLater(_LONGEST_PAUSE_SECONDS, self._start_anew, place)
            return
        assert place.child is not None
        place.child.follow()

    def reload(self) -> None:
        """Read the configuration file again and have every worker apply what may change while running."""
        if self._read_again is None:
            return
        fresh = reread(self.config, self._read_again)
        if fresh is None:
            return
        found = changes(self.config, fresh)
        self.config = fresh
        self._threshold.set(fresh.logging.level)
        for place in self._places:
            if place.child is not None:
                place.child.send(worker_config(fresh, place.worker.index, self._own))
        _log.info("configuration reloaded: {keys}", keys=described(found))

    def import_all(self, reactor: Any) -> Deferred[None]:
        """Have every worker import all that it might need later; fires when all have, or have ended."""
        done: list[Deferred[None]] = []
        for place in self._places:
            if place.child is not None:
                done.append(Deferred())
                place.imported.append(done[-1])
                place.child.send(IMPORT)
        return gatherResults(done).addCallback(lambda _: None)

    # --- stop ---

    def stopService(self) -> Deferred[None]:
        """Stop every worker, in order; fires when all have ended and the directories are in order."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._stopping = True
        _log.info("megabroker is stopping")
        self._close_sockets()
        return ensureDeferred(self._stop_all())

    async def _stop_all(self) -> None:
        gone = [self._stop(place) for place in self._places]
        await gatherResults([place.drained or succeed(None) for place in self._places])
        for place in self._places:
            if place.child is not None:
                place.child.send(END)
        self._stopped(await gatherResults(gone))

    def _stop(self, place: _Place) -> Deferred[int]:
        if place.restart is not None:
            place.restart.cancel()
            place.restart = None
        if place.child is None:
            return succeed(1)
        place.drained, place.gone = Deferred(), Deferred()
        place.child.send(STOP)
        if not place.serves:  # it has acknowledged nothing, and may take long to come to it
            place.child.signal(signal.SIGKILL)
        return place.gone

    def _stopped(self, statuses: list[int]) -> None:
        self._watch.stop()
        for place, status in zip(self._places, statuses, strict=True):
            if status:
                self.exit_code = 1
                _log.error("worker-not-stopped-in-order", node=place.worker.me.id, why=place.why)
        self._close_directories()
        _log.info("megabroker has stopped")
