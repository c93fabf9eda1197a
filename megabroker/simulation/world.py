"""One run: the broker's machine, its clients, its faults, all from one seed.

Owns the order of a run. Topics are made; clients work while chaos strikes; all faults are mended and the
broker is started once more; whoever reads everything then reads everything; the rules look at the history.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from random import Random
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from megabroker.errors import BrokerError
from megabroker.model import Durability
from megabroker.plugin import discover
from megabroker.simulation.administrators import Administrator, Inspector
from megabroker.simulation.chance import decided_by
from megabroker.simulation.chaos import Chaos
from megabroker.simulation.clients import Client, Stage
from megabroker.simulation.clock import EPOCH_SECONDS, ProcessEnded, Timeline
from megabroker.simulation.consumers import Reader
from megabroker.simulation.cursus_clients import CursusProducer
from megabroker.simulation.disk import Disk
from megabroker.simulation.files import Faults
from megabroker.simulation.history import Died, History, SyncFailed
from megabroker.simulation.mega_clients import MegaConsumer, MegaProducer
from megabroker.simulation.members import ConsumerMember, Member
from megabroker.simulation.network import Network
from megabroker.simulation.plan import Plan, make_config
from megabroker.simulation.process import BrokerProcess
from megabroker.simulation.producers import IdempotentProducer, PlainProducer, TransactionalProducer
from megabroker.simulation.rows import Database
from megabroker.simulation.rules import Violation, check
from megabroker.simulation.share_members import ShareMember
from megabroker.simulation.trimmers import Trimmer
from megabroker.simulation.window import SimulatedWindow

__all__ = ["Result", "World", "run"]

_KINDS: Final[dict[str, type[Client]]] = {
    "plain": PlainProducer,
    "idempotent": IdempotentProducer,
    "transactional": TransactionalProducer,
    "reader": Reader,
    "member": Member,
    "consumer": ConsumerMember,
    "administrator": Administrator,
    "mega producer": MegaProducer,
    "mega consumer": MegaConsumer,
    "cursus producer": CursusProducer,
    "share member": ShareMember,
    "trimmer": Trimmer,
}
_PATIENCE_SECONDS: Final = 120.0

Line = tuple[float, str, object]


@attrs.frozen
class Result:
    """What came of a run.

    Attributes:
        digest: of everything that happened; the same for the same seed and code.
        trace: (time, who, what), times in seconds since the beginning.
        injected: faults by kind.
        counts: what clients did, by kind.
        happened: how many things happened.
    """

    seed: int
    violations: list[Violation]
    digest: str
    trace: list[Line]
    injected: Counter[str]
    counts: Counter[str]
    happened: int


@functools.cache
def _plugins() -> Any:
    return discover()


class World:
    """See the module; ``run`` once."""

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        self.seed = seed
        self.plan = Plan.of(Random(f"plan {seed}")) if plan is None else plan
        self.timeline = Timeline()
        self.network = Network(self.timeline, Random(f"network {seed}"))
        self.disk = Disk()
        self.database = Database()
        self.window = SimulatedWindow()
        self.process: BrokerProcess | None = None
        self.jumped = 0.0
        self.trace: list[Line] = []
        self.violations: list[Violation] = []
        self.injected: Counter[str] = Counter()
        history = History(synced=self.plan.durability is Durability.FSYNC)
        self.stage = Stage(self.timeline, self.network, history, self.say, self.violations.append)
        self.note = self.stage.note
        self.chaos = Chaos(self, self.plan, Random(f"chaos {seed}"))
        self._dice = Random(f"machine {seed}")
        self._config = make_config(self.plan, _plugins())
        self._digest = hashlib.blake2b(digest_size=12)
        self._failure: Failure | None = None
        self._lives = 0
        self._striking = False

    def say(self, who: str, what: object) -> None:
        """Add a line to the trace; what it is, as text, is asked only when it is shown."""
        self.trace.append((self.timeline.now - EPOCH_SECONDS, who, what))

    # --- the machine ---

    def _start(self) -> None:
        """Start the broker, again and again until it runs."""
        if self.process is not None and self.process.alive:
            return
        self._lives += 1
        dice = Random(f"process {self.seed} {self._lives}")
        faults = Faults(dice)
        faults.injected = self.injected
        faults.sync_failed = self._sync_failed
        self.process = process = BrokerProcess(
            self.timeline,
            self.disk,
            self.database,
            self.window,
            self.network,
            faults,
            dice,
            self.jumped,
            self._ended,
            journaled=self.plan.journaled,
        )
        self.say("machine", f"start {self._lives}")
        if self._striking and dice.random() < 0.1 and {"kill", "power loss"} & {*self.plan.faults}:
            self.chaos.strike_soon(process)
        refused = process.start(self._config, _plugins())
        if refused is not None:
            self.say("machine", f"the broker does not start: {refused.message}")

    def _ended(self, process: BrokerProcess) -> None:
        self.say("machine", "the broker has ended")
        self.note(Died(self.timeline.now))
        self.timeline.later(0.1 + self._dice.random(), self._start)

    def _sync_failed(self) -> None:
        """Somebody will notice in a while and have the broker started anew."""
        self.note(SyncFailed(self.timeline.now))
        process = self.process
        if process is not None:
            self.timeline.later(0.5 + self._dice.random() * 2, process.kill)

    def _observe(self, event: Any) -> None:
        """What the broker logs is in the trace; what it did not expect is a fault of its."""
        process = self.process
        if process is None or not process.alive:
            return
        level = event.get("log_level")
        text = formatEvent(event)
        self.say("broker", f"{level.name if level is not None else '-'}: {text}")
        if level is LogLevel.critical:
            failure = event.get("log_failure")
            if failure is not None and failure.check(ProcessEnded, BrokerError):
                return
            detail = "" if failure is None else failure.getTraceback()
            self.violations.append(Violation("unexpected-failure", f"{text}\n{detail}"))

    # --- the run ---

    def run(self) -> Result:
        """Run it all."""
        with decided_by(self.seed):
            globalLogPublisher.addObserver(self._observe)  # type: ignore[arg-type]
            try:
                self._act()
            finally:
                globalLogPublisher.removeObserver(self._observe)  # type: ignore[arg-type]
                if self.process is not None:
                    self.process.kill()
        if self._failure is not None:
            self._failure.raiseException()
        self.violations += check(self.stage.history)
        return Result(
            self.seed,
            self.violations,
            self._sum(),
            self.trace,
            self.injected + self.network.injected + self.chaos.injected,
            self.stage.counts,
            self.timeline.count,
        )

    def _sum(self) -> str:
        for event in self.stage.history.events:
            self._digest.update(type(event).__name__.encode() + tuple.__repr__(event).encode())
        self._digest.update(repr((self.network.digest, self.timeline.now, self.timeline.count)).encode())
        return self._digest.hexdigest()

    def _act(self) -> None:
        stage, plan = self.stage, self.plan
        self.say("plan", str(plan))
        self._start()
        inspector = Inspector(stage, "inspector", Random(f"inspector {self.seed}"))
        if not self._await(inspector.make_topics(plan), "make topics"):
            return
        lives = [
            self._live(_KINDS[kind], f"{kind.replace(' ', '-')}-{number}")
            for kind in _KINDS
            for number in range(plan.clients.get(kind, 0))
        ]
        self._striking = True
        self.chaos.start()
        self.timeline.run_until(self.timeline.now + plan.seconds)
        self._striking = False
        stage.open = False
        self.chaos.stop()
        self.say("machine", "nothing goes wrong any more")
        for life in lives:
            if not self._wait(life):
                self.violations.append(Violation("stuck", "a client never came to an end"))
                return
        self._await(inspector.wait_for_data(), "wait for data")
        self._last_start()
        self._await(inspector.read_everything(), "read everything")

    def _last_start(self) -> None:
        process = self.process
        if process is not None and process.alive:
            if self._dice.random() < 0.5:
                self._stop(process)
            process.kill()
        self.timeline.run_until(self.timeline.now + 3)

    def _stop(self, process: BrokerProcess) -> None:
        if not self._wait(process.stop()):
            self.violations.append(Violation("stuck", "the broker does not stop"))

    def _live(self, kind: type[Client], name: str) -> Deferred[Any]:
        client = kind(self.stage, name, Random(f"{name} {self.seed}"))
        return Deferred.fromCoroutine(client.run()).addErrback(self._client_failed)

    def _client_failed(self, failure: Failure) -> None:
        if self._failure is None:
            self._failure = failure

    def _await(self, life: Any, what: str) -> bool:
        done: Deferred[Any] = Deferred.fromCoroutine(life).addErrback(self._client_failed)
        if not self._wait(done):
            self.violations.append(Violation("stuck", f"the inspector cannot {what}"))
        return bool(done.called)

    def _wait(self, done: Deferred[Any]) -> bool:
        """Let time pass until something fires, or for too long; return whether it has."""
        self.timeline.run_until(self.timeline.now + _PATIENCE_SECONDS, lambda: bool(done.called))
        return bool(done.called)


def run(seed: int) -> Result:
    """Run one seed."""
    return World(seed).run()
