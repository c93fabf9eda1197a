"""A whole broker, started and stopped in order; ``assembly`` puts its core together, ``listeners`` binds.

Owns that order, and nothing else.

*Start*, all of it before the reactor serves anybody, so that nothing is answered by half a broker: data
directory and metadata, then the core and its logs (recovery), then HTTP, then the listeners. A fault at any
step undoes the steps before it and is raised.

*Stop*, in order and awaited: stop listening; answer what waits for members, transactions or data, and begin
nothing new for them; let requests that were taken be answered and sent; refuse new ones; write and sync;
close the stores. Of several processes each serves the others until none of them serves clients. SIGTERM loses
nothing that was acknowledged.

``MultiService`` stops all children at once and its endpoint services swallow errors of binding; therefore
both are done by hand, here and in ``listeners``.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred, maybeDeferred, succeed
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from megabroker import __version__
from megabroker.assembly import Core
from megabroker.config.diff import changes
from megabroker.config.rereading import described, reread
from megabroker.config.schema import Config, Storage
from megabroker.core.broker import Broker
from megabroker.core.placement import SinglePlacement, WorkerPlacement
from megabroker.errors import BrokerError
from megabroker.interfaces import IPlacement, IProtocolPlugin, IWindowStore
from megabroker.listeners import Listeners
from megabroker.model import Node, Worker
from megabroker.net import quick
from megabroker.net.transport import DirectReactor
from megabroker.net.turns import Turns
from megabroker.ops.logs import LogThreshold
from megabroker.ops.memory import keep_freed_memory
from megabroker.ops.metrics.service import Metrics, Sources
from megabroker.ops.pauses import Pauses
from megabroker.ops.request_log import RequestLog
from megabroker.stores import Stores, make_stores

if TYPE_CHECKING:
    from megabroker.http.caller import Inside
    from megabroker.peering import Peering

__all__ = ["BrokerService", "Surroundings"]

_log = Logger()

_CHECKPOINT_SECONDS = 60.0
_DRAIN_SECONDS = 10.0


class Surroundings(NamedTuple):
    """What a broker meets outside of itself beside the reactor; whoever simulates it all brings other ones.

    Attributes:
        stores: makes the stores of a process.
        transports: makes, of the reactor and its turns, what listens in its place for the broker's own
            connections.
        now_ms: the time, in milliseconds since the epoch.
    """

    stores: Callable[[Config, Any, Turns, Worker | None], Stores]
    transports: Callable[[Any, Turns], Any]
    now_ms: Callable[[], int]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


_REAL = Surroundings(make_stores, DirectReactor, _now_ms)


class BrokerService(MultiService):
    """One broker process.

    Args:
        config: checked configuration.
        plugins: the installed protocols by name.
        reactor: the reactor to run in.
        read_again: reads the configuration anew, for ``reload``; raises ConfigError.
        threshold: the log's threshold, which follows ``logging.level``.
        worker: which of several processes this is; None for one that is alone.
        surroundings: the real ones, or others.

    Attributes:
        core: the parts of the broker; set while running.
        broker: these as protocols hold them.
        placement: who this node is and where it listens.
        turns: what is done once for all that comes in a turn of the reactor.
        metrics: the numbers of this process; set while running.
        opening: told how many logs are open, and of how many, while it starts; may be assigned.
    """

    core: Core
    broker: Broker
    metrics: Metrics
    opening: Callable[[int, int], None] | None = None

    def __init__(
        self,
        config: Config,
        plugins: Mapping[str, IProtocolPlugin],
        reactor: Any,
        read_again: Callable[[], Config] | None = None,
        threshold: LogThreshold | None = None,
        worker: Worker | None = None,
        surroundings: Surroundings = _REAL,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.setName("megabroker")  # type: ignore[no-untyped-call]
        self.config = config
        self.placement: IPlacement
        if worker is None:
            self.placement = SinglePlacement(Node(id=config.node.id, rack=config.node.rack))
        else:
            self.placement = WorkerPlacement(worker.nodes, worker.index)
        self._worker = worker
        self._plugins = plugins
        self._reactor = reactor
        self._read_again = read_again
        self._threshold = LogThreshold() if threshold is None else threshold
        self._make_stores, transports, self._now_ms = surroundings
        self.turns = Turns(reactor)
        self._listeners = Listeners(plugins, reactor, transports(reactor, self.turns), worker)
        self._stopping = False
        self._pauses = Pauses(reactor)
        self._requests = RequestLog(reactor.seconds)
        self._checkpoints: LoopingCall | None = None
        self._store: Any = None
        self._metadata: Any = None
        self._journal: IWindowStore | None = None
        self._peering: Peering | None = None

    # --- start ---

    def startService(self) -> None:
        """Start everything, in order. Blocking.

        Raises:
            DataDirectoryLocked: another process has the data directory.
            StorageError: it cannot be used.
            StateError: an address is taken or not ours, or a plugin is broken.
        """
        began = time.monotonic()
        keep_freed_memory()
        self._threshold.set(self.config.logging.level)
        # What is made now stays; looking through ever more of it again and again took a third of the time.
        gc.disable()
        try:
            self._open_stores()
            self._assemble()
            self.core.load(self.opening)
            self._listen()
            super().startService()  # type: ignore[no-untyped-call]
            gc.freeze()
        except BaseException:
            self._undo()
            raise
        finally:
            gc.enable()
        self._checkpoints = LoopingCall(self._checkpoint)
        self._checkpoints.clock = self._reactor
        self._checkpoints.start(_CHECKPOINT_SECONDS, now=False)
        self._pauses.start()
        self.metrics.sources.recovery_seconds = time.monotonic() - began
        # Only the running reactor serves, and only it has twistd's signal handlers.
        self._reactor.callWhenRunning(self.ready, round((time.monotonic() - began) * 1000))

    def ready(self, milliseconds: int) -> None:
        """Say that clients are served; called once, so many milliseconds after the start began."""
        _log.info(
            "megabroker {version} is ready after {milliseconds} ms: {listeners}; data in {data_dir}; "
            "{compiled}",
            version=__version__,
            milliseconds=milliseconds,
            listeners=", ".join(
                f"{listener.protocol} at {listener.address.host}:{listener.address.port}"
                for listener in (*self.placement.me.listeners, *self._listeners.told_http())
            )
            or "no protocol is enabled",
            data_dir=self._where(),
            compiled=quick.describe(),
        )

    def _where(self) -> str:
        if self.config.storage is Storage.MEMORY:
            return "memory"
        return os.path.abspath(self.config.data_dir)

    def _open_stores(self) -> None:
        self._store, self._metadata, self._journal = self._make_stores(
            self.config, self._reactor, self.turns, self._worker
        )
        self._store.open()
        self._metadata.open()
        if self._worker is not None:
            from megabroker.peering import Peering

            self._peering = Peering(self._worker, self.config, self._reactor)
            self._metadata = self._peering.followed(self._metadata)

    def _assemble(self) -> None:
        self.core = core = Core(
            self.config,
            Stores(self._store, self._metadata, self._journal),
            self.placement,
            self._peering,
            self.turns,
            self._reactor,
            self._now_ms,
            self._threshold,
            self._in_thread,
            self._note_requests,
        )
        self.broker = core.broker
        self.metrics = Metrics(
            Sources(
                broker=core.broker,
                logs=self._store,
                metadata=self._metadata,
                factories=lambda: self._listeners.counting,
                http=lambda: self._listeners.http,
                pauses=self._pauses,
                settings=lambda: self.config.metrics,
                compiled=quick.compiled() is not None,
            ),
            self._reactor,
            self._in_thread,
        )
        core.topics.setServiceParent(self)  # type: ignore[no-untyped-call]
        core.dedup.setServiceParent(self)  # type: ignore[no-untyped-call]

    def _in_thread(self, function: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args, **kwargs)

    def _listen(self) -> None:
        """Bind HTTP first, then every listener, and advertise where they are."""
        self._listeners.listen_http(self.config, self._inside)
        listeners = self._listeners.listen(self.config, self.broker)
        self._note_requests()
        if isinstance(self.placement, SinglePlacement):
            self.placement.advertise(listeners)
        if self._peering is not None:
            self._peering.listen(self.broker, self.config)

    def _inside(self) -> Inside:
        from megabroker.http.caller import Inside
        from megabroker.ops.health import StorageHealth

        return Inside(
            self.broker,
            lambda: self._listeners.factories,
            self._plugins,
            lambda: self._stopping,
            self.metrics,
            StorageHealth(self.broker, self._store, self._metadata),
        )

    def _undo(self) -> None:
        """Give back what a start that failed had taken; nothing was acknowledged yet.

        The stores close in threads that report to the reactor, and a process whose start failed never runs
        it: without turning it here the end of the process would wait for those threads for ever.
        """
        waiting = self._listeners.close()
        waiting += [maybeDeferred(kept.close) for kept in (self._metadata, self._store) if kept is not None]
        done: list[Any] = []
        ensureDeferred(_all(waiting)).addBoth(done.append)
        deadline = time.monotonic() + _DRAIN_SECONDS
        while not (done or self._reactor.running) and time.monotonic() < deadline:
            self._reactor.iterate(0.05)

    # --- while running ---

    def _checkpoint(self) -> Any:
        checkpoint = getattr(self._store, "checkpoint", None)
        return None if checkpoint is None else checkpoint().addErrback(_log_failure)

    def reload(self) -> None:
        """Read the configuration file again and apply what may change while running."""
        if self._read_again is not None:
            fresh = reread(self.config, self._read_again)
            if fresh is not None:
                self.follow(fresh)

    def follow(self, fresh: Config) -> None:
        """Put another configuration in force, of which nothing needs a restart."""
        found = changes(self.config, fresh)
        if fresh.logging.level != self.config.logging.level:
            self._threshold.set(fresh.logging.level)
        self.config = fresh
        self.core.follow(fresh)
        self._listeners.follow(fresh, None if self._peering is None else self._peering.factory)
        _log.info("configuration reloaded: {keys}", keys=described(found))

    def _note_requests(self) -> None:
        """Have single requests noted, if the log is to tell of them."""
        logging = self.config.logging
        self._requests.configure(logging.requests, logging.slow_request_ms)
        self._listeners.note(self._requests if self._requests.is_wanted else None)
        self.turns.are_noted = self._requests.is_wanted

    # --- stop ---

    def drained(self) -> Deferred[None]:
        """Say that no client is served any more; fires when that is so in all processes of this broker."""
        return succeed(None)

    def stopService(self) -> Deferred[None]:
        """Stop everything, in order; fires when all that was accepted is on the disk."""
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        _log.info("megabroker is stopping")
        self._stopping = True
        self._pauses.stop()
        if self._checkpoints is not None and self._checkpoints.running:
            self._checkpoints.stop()
        core, listeners = self.core, self._listeners
        await _all(listeners.close())
        core.groups.stop()
        core.transactions.stop()
        await _all(listeners.drain(_DRAIN_SECONDS))
        listeners.factories = []
        if self._peering is not None:
            await _all([self.drained()])
            await _all([self._peering.drain(_DRAIN_SECONDS)])
            self._peering.stop()
        core.shares.stop()
        await _all([maybeDeferred(core.topics.stopService)])
        await _all([maybeDeferred(core.dedup.stopService)])
        if self._journal is not None:
            self._journal.close()
        await _all([maybeDeferred(self._metadata.close)])
        await _all([maybeDeferred(self._store.close)])
        self.running = False
        gc.unfreeze()
        _log.info("megabroker has stopped")


async def _all(waiting: list[Deferred[Any]]) -> None:
    """Wait for all; what fails is logged, and the stop goes on."""
    for deferred in waiting:
        deferred.addErrback(_log_failure)
    await DeferredList(waiting)


def _log_failure(failure: Any) -> None:
    if failure.check(BrokerError):
        _log.error("broker-error: {error}", error=failure.getErrorMessage())
    else:
        _log.failure("unexpected failure", failure)
