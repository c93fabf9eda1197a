"""What the compiled turn (``net.compiled``) has to know to take produce requests that repeat.

The shape of each template that Python keeps of a request (``produce_template``) is given to the turn: the
bytes that will be the same in other requests, where in an answer the numbers stand, and where batches go. The
turn recognises such requests, checks their batches and gathers them in runs; a run's target has the partition
append it.

Owns the targets of a listener. Invariant: a target is open only while a request of its shape would go the
short way of ``produce_template`` too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from twisted.logger import Logger

from megabroker.errors import BrokerError
from megabroker.interfaces import IBroker, IPartition, IRun, ITakesRuns
from megabroker.model import Acks, RunRoom
from megabroker.net.asked import Asked
from megabroker.net.counts import Counts
from megabroker.protocols.kafka.record_rules import looks_inside

if TYPE_CHECKING:
    from megabroker.net.connection import BrokerConnection
    from megabroker.protocols.kafka.produce_template import ProduceTemplate
    from megabroker.protocols.kafka.protocol import KafkaConnection

__all__ = ["RunTarget", "Targets", "expect"]

_log = Logger()


class RunTarget:
    """A partition as runs find it.

    Args:
        counts: of the listener whose requests they are.
        generation: the quotas' at which no client of a shape is limited.
    """

    __slots__ = ("__weakref__", "_broker", "_configured", "_counts", "_generation", "acks", "partition")

    def __init__(self, broker: IBroker, counts: Counts, partition: Any, acks: Acks, generation: int) -> None:
        self.partition = partition
        self.acks = acks
        self._broker = broker
        self._counts = counts
        self._configured = partition.topic
        self._generation = generation

    @property
    def is_current(self) -> bool:
        """Whether topic and quotas are still those that were looked at."""
        return self.partition.topic is self._configured and self._broker.quotas.generation == self._generation

    def open(self) -> RunRoom | None:
        """Say what a run may hold; see ``ITakesRuns.open_run``."""
        if (
            self.partition.topic is not self._configured
            or self._broker.quotas.generation != self._generation
            or self._broker.admission.is_overdrawn
        ):
            return None
        room: RunRoom | None = self.partition.open_run(self.acks)
        return room

    def append(self, run: IRun) -> None:
        """Have a run appended; it is answered here if that is refused."""
        self._broker.admission.charged_bytes += run.size_bytes
        self._counts.received_bytes += run.received_bytes
        run.began = self._broker.turns.began
        try:
            self.partition.append_run(run, self.acks)
        except BrokerError as error:
            run(error)
        except Exception:  # noqa: BLE001 - logged, and the others go on
            self.answered(run)
            self.failed(run.connections)

    def failed(self, connections: Iterable[BrokerConnection]) -> None:
        """Log what was just raised, and close who was to be answered."""
        _log.failure("a run of produce requests")
        for connection in connections:
            connection.abort("internal error, logged above")

    def answered(self, run: IRun) -> None:
        """A run is answered, or can no longer be."""
        self._broker.admission.discharge(run.size_bytes)
        counts = self._counts
        counts.sent_bytes += run.sent_bytes
        turns, produced = self._broker.turns, counts.latencies["Produce"]
        if turns.since == run.began and turns.kind is produced:
            turns.alike += run.requests
        else:
            turns.answered(produced, run.began, run.requests)
        if counts.notes is not None:
            for connection in run.connections[:1]:
                Asked(connection, "Produce", -1, run.size_bytes, run.began).note(())


class Targets:
    """The targets of all connections of a listener, so that what they send meets in one run."""

    def __init__(self, broker: IBroker, counts: Counts) -> None:
        self._broker = broker
        self._counts = counts
        self._known: WeakValueDictionary[tuple[IPartition, Acks], RunTarget] = WeakValueDictionary()

    def get(self, partition: IPartition, acks: Acks) -> RunTarget | None:
        """Return where runs for a partition go; None if its batches must be looked into."""
        target = self._known.get((partition, acks))
        if target is not None and target.is_current:
            return target
        if not ITakesRuns.providedBy(partition) or partition.codec is not None or looks_inside(partition):
            return None
        target = RunTarget(self._broker, self._counts, partition, acks, self._broker.quotas.generation)
        self._known[partition, acks] = target
        return target


def expect(connection: KafkaConnection, template: ProduceTemplate) -> None:
    """Have the compiled turn take requests that go by a template."""
    targets, quotas = connection.factory.run_targets, connection.broker.quotas

    def find(index: int) -> RunTarget | None:
        # Of a target that is current only its connections know that they are still not limited.
        current = quotas.generation == template.generation
        partition = template.partition(index) if current else None
        return None if partition is None else targets.get(partition, template.acks)

    connection.expect(
        *template.shape(), find, template.refusal, connection.broker.settings.limits.max_request_bytes
    )
