"""The broker's process: the real composition on simulated surroundings, started, killed, stopped.

Owns what a process has and what dies with it. The threads of storage are simulated too: what they have to
do is done at some moment after the turn that asked for it, and while they wait for a sync everything else
goes on.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed

from megabroker.config.schema import Config
from megabroker.errors import BrokerError, DataDirectoryLocked
from megabroker.net.turns import Turns
from megabroker.service import BrokerService, Surroundings
from megabroker.simulation.clock import ProcessEnded, Reactor, Timeline
from megabroker.simulation.disk import Disk
from megabroker.simulation.files import Faults, SimulatedFiles
from megabroker.simulation.network import Network
from megabroker.simulation.rows import Database, SimulatedMetadataStore
from megabroker.simulation.window import SimulatedWindow, SimulatedWindowStore
from megabroker.storage.store import LocalLogStore
from megabroker.stores import Stores, cleaner_settings, new_cluster_id

__all__ = ["BrokerProcess"]

_PUMP_SECONDS: Final = 0.003
_BUSY_SECONDS: Final = 0.0005
_CLEANING_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 60.0
_JOURNAL_HALF_BYTES: Final = 16 * 1024


class BrokerProcess:
    """One life of the broker.

    Args:
        jumped: by how much the machine's clock is ahead.
        ended: called once when it has ended by a fault.
        journaled: whether the journal is used however little it spares.

    Attributes:
        alive: whether it runs.
    """

    def __init__(
        self,
        timeline: Timeline,
        disk: Disk,
        database: Database,
        window: SimulatedWindow,
        network: Network,
        faults: Faults,
        dice: Random,
        jumped: float,
        ended: Callable[[BrokerProcess], None],
        *,
        journaled: bool,
    ) -> None:
        self._journaled = journaled
        self.alive = False
        self.disk = disk
        self.faults = faults
        self._timeline = timeline
        self._database = database
        self._window = window
        self._network = network
        self._dice = dice
        self._ended = ended
        self.reactor = Reactor(timeline, dice, self._listen, jumped)
        self.reactor.turn_ended = self._turn_ended
        self.files = SimulatedFiles(disk, faults, self.reactor.seconds)
        self.files.wait = self._wait
        self.service: BrokerService | None = None
        self._logs: LocalLogStore | None = None
        self._pumping = False
        self._pump_planned = False
        self._cleaning: Deferred[None] | None = None

    def start(self, config: Config, plugins: Any) -> BrokerError | None:
        """Start; return why it could not. It may also have ended meanwhile."""
        reactor = self.reactor
        surroundings = Surroundings(self._stores, lambda same, _: same, reactor.now_ms)
        self.service = BrokerService(config, plugins, reactor, surroundings=surroundings)
        self.service.turns.most_seconds = float("inf")  # by the clock of whoever runs this
        self.alive = True
        try:
            self.service.startService()
        except ProcessEnded:
            return None
        except (BrokerError, DataDirectoryLocked) as error:
            self.kill()
            return error if isinstance(error, BrokerError) else None
        finally:
            gc.unfreeze()
            gc.disable()
        self._turn_ended()
        self._timeline.later(self._dice.random() * _CLEANING_SECONDS, self._clean)
        return None

    def _listen(self, number: int, factory: Any) -> Any:
        return self._network.listen(self.reactor, number, factory)

    def _stores(self, config: Config, reactor: Any, turns: Turns, worker: Any) -> Stores:
        self._logs = LocalLogStore(
            str(config.data_dir),
            reactor,
            partial(reactor.callFromThread, turns.run),
            config.durability,
            files=self.files,
            new_cluster_id=new_cluster_id,
            node_id=config.node.id,
            max_open_files=16,
            threaded=False,
            cleaner=cleaner_settings(config),
            journal_half_bytes=_JOURNAL_HALF_BYTES,
        )
        self._logs.disk.syncing.eager = self._journaled
        rows = SimulatedMetadataStore(self._database, self.files, config.durability, reactor)
        self._logs.cleaner.pump = self._wait_for_others
        return Stores(self._logs, rows, SimulatedWindowStore(self._window, self.files))

    # --- the threads of storage ---

    def _turn_ended(self) -> None:
        if self._pump_planned or self._logs is None or self._logs.disk.idle:
            return
        self._pump_planned = True
        self._timeline.later(self._dice.random() * _PUMP_SECONDS, self._pump)

    def _pump(self) -> None:
        self._pump_planned = False
        if self.reactor.dead or self._logs is None:
            return
        if self._pumping:
            self._pump_planned = True
            self._timeline.later(_BUSY_SECONDS, self._pump)
            return
        self._pumping = True
        try:
            self.reactor.guarded(self._logs.disk.pump)
        finally:
            self._pumping = False
        self.reactor.end_turn()

    def _wait(self, seconds: float) -> None:
        """A thread waits for the disk: the reactor is told of what was completed, and the world goes on."""
        if not self._pumping or self._logs is None or self.service is None:
            return
        if self._logs.saving.locked():  # the reactor may wait for that, and it is below it on the stack
            return
        pumping = self._pumping
        self.reactor.from_outside(0, self.service.turns.run, self._logs.disk.deliver)
        timeline = self._timeline
        timeline.run_until(timeline.now + seconds, lambda: self.reactor.dead)
        self._pumping = pumping

    def _clean(self) -> None:
        """The thread that compacts looks for what there is to do."""
        if self.reactor.dead or self._logs is None or self._logs.cleaner.stopping:
            return
        if self._pumping:  # whom it may have to wait for is below it on the stack
            self._timeline.later(_BUSY_SECONDS, self._clean)
            return
        done: Deferred[None] = Deferred()
        self._cleaning = done
        try:
            self.reactor.guarded(self._logs.cleaner.run_once)
        finally:
            self._cleaning = None
        done.callback(None)
        self._timeline.later(self._dice.random() * _CLEANING_SECONDS, self._clean)

    def _wait_for_others(self, done: Callable[[], bool]) -> None:
        """That thread waits for the reactor or for another thread, and the world goes on."""
        self._turn_ended()
        timeline = self._timeline
        timeline.run_until(timeline.now + _PATIENCE_SECONDS, lambda: self.reactor.dead or done())

    # --- the end ---

    def kill(self) -> None:
        """kill -9: what was written stays written."""
        if not self.alive:
            return
        self.alive = False
        self.files.dead = True
        self.reactor.stop()
        self._network.process_ended(self.reactor)
        self._ended(self)

    def lose_power(self) -> None:
        """The machine's power goes, and with it what was not synced."""
        self.kill()
        self.disk.lose_power(self._dice)
        self._database.lose_power(self._dice)
        self._window.lose_power(self._dice)

    def stop(self) -> Deferred[None]:
        """SIGTERM; fires when it has stopped. It has to be killed then, as a process ends."""
        if self._cleaning is not None and self._logs is not None:
            # The reactor would wait for that thread, which gives up where it is.
            self._logs.cleaner.stopping = True
            return self._cleaning.addCallback(lambda _: self._stop())
        return self._stop()

    def _stop(self) -> Deferred[None]:
        assert self.service is not None
        stopping: Deferred[None] | None = self.reactor.guarded(self.service.stopService)
        self.reactor.end_turn()
        return stopping or succeed(None)
