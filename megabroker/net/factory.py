"""The factory of one listener: admits connections, keeps their deadlines, sends their answers, drains them.

Owns the set of a listener's connections and the two things done for all of them together: one sweep a
second instead of a timer each, and settling all that had something to do in a turn at its end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from megabroker.interfaces import IBroker, IManagedFactory
from megabroker.model import Listener
from megabroker.net.admission import Admission
from megabroker.net.connection import BrokerConnection
from megabroker.net.counts import Counts

if TYPE_CHECKING:
    from megabroker.net.tls import ListenerTls

__all__ = ["BrokerFactory"]

_log = Logger()

_SWEEP_SECONDS = 1.0


@implementer(IManagedFactory)
class BrokerFactory(Factory):
    """Makes the connections of one listener and keeps count of them.

    Args:
        broker: the core.
        listener: what this listener is called and advertised as.
        connection_class: makes the connections, given this factory.

    Attributes:
        tls: what is under its connections, if that is TLS.
        is_bounded: whether its connections count among those that limits bound.
        counts: what it has done.
    """

    noisy = False
    is_bounded = True
    tls: ListenerTls | None = None

    def __init__(
        self,
        broker: IBroker,
        listener: Listener,
        connection_class: Callable[[Any], BrokerConnection],
    ) -> None:
        limits = broker.settings.limits
        self.broker = broker
        self.listener = listener
        self.connection_class = connection_class
        self.admission: Admission = broker.admission
        self.counts = Counts()
        self.output_buffer_bytes: int = limits.output_buffer_bytes
        self.partial_frame_seconds = int(limits.partial_frame_seconds)
        self.idle_seconds = int(limits.idle_seconds)
        self.tick = 0
        self.connections: dict[BrokerConnection, None] = {}  # in the order they came
        self._turns = broker.turns
        self._to_flush: list[BrokerConnection] = []
        self._sweeping: LoopingCall | None = None
        self._drained: Deferred[None] | None = None

    def doStart(self) -> None:
        """Factory: begin sweeping when the port listens."""
        super().doStart()  # type: ignore[no-untyped-call]
        if self._sweeping is None:
            self._sweeping = LoopingCall(self._sweep)
            self._sweeping.clock = self.broker.reactor
            self._sweeping.start(_SWEEP_SECONDS, now=False).addErrback(
                lambda failure: _log.failure("sweeping connections", failure)
            )

    def buildProtocol(self, addr: IAddress | None) -> BrokerConnection | None:  # type: ignore[override]
        """Factory: admit a connection, or refuse it by closing."""
        host = getattr(addr, "host", None) or "local"
        refusal: str | None = "the broker is stopping"
        if self._drained is None:
            refusal = self.admission.admit(host) if self.is_bounded else None
        if refusal is not None:
            self._refused(host, refusal)
            return None
        connection = self.connection_class(self)
        connection.peer_host = host
        connection.peer = f"{host}:{getattr(addr, 'port', '-')}"
        _log.debug(
            "connection-opened: {protocol} from {peer}", protocol=self.listener.protocol, peer=connection.peer
        )
        quotas = self.broker.quotas
        self.counts.opened += 1
        if self.is_bounded and quotas.limits_addresses and (wait_ms := quotas.connection_ms(host)):
            # At once it would come back at once (KIP-612).
            self._refused(host, f"more than its quota of connections; closed after {wait_ms} ms")
            connection.turn_away(wait_ms)
        return connection

    def _refused(self, host: str, refusal: str) -> None:
        """Log a refused connection, ever more rarely."""
        self.counts.refused += 1
        if self.counts.refused & (self.counts.refused - 1) == 0:
            _log.warn(
                "{protocol} connection from {host} refused ({count} so far): {refusal}",
                protocol=self.listener.protocol,
                host=host,
                count=self.counts.refused,
                refusal=refusal,
            )

    def connection_gone(self, connection: BrokerConnection) -> None:
        """Count a connection out."""
        self.connections.pop(connection, None)
        if connection.ended_well:  # else its end is logged with its cause
            _log.debug(
                "connection-closed: {protocol} from {peer}",
                protocol=self.listener.protocol,
                peer=connection.peer,
                client_id=connection.client_id,
            )
        if self.is_bounded:
            self.admission.dismiss(connection.peer_host)
        if self._drained is not None and not self.connections:
            self._finish_draining()

    def flush_soon(self, connection: BrokerConnection) -> None:
        """Have ``connection.flush`` called once, at the end of this turn."""
        to_flush = self._to_flush
        to_flush.append(connection)
        if len(to_flush) == 1:
            self._turns.settle_at_end(self._flush_all)

    def _flush_all(self) -> None:
        connections = self._to_flush
        self._to_flush = []
        for connection in connections:
            try:
                connection.flush()
            except Exception as error:  # noqa: BLE001 - the connection edge: logged, and the others go on
                connection.fail(error)

    def _sweep(self) -> None:
        self.tick += 1
        self.admission.unread.relieve()
        self.broker.audit.tell_kept_back()
        for connection in list(self.connections):
            connection.sweep(self.tick, self.partial_frame_seconds, self.idle_seconds)

    def drain(self, seconds: float) -> Deferred[None]:
        """IManagedFactory: answer what was taken, close all connections, fire when they are gone."""
        done: Deferred[None] = Deferred()
        self._drained = done
        self._deadline = self.broker.reactor.callLater(seconds, self._abort_all)
        for connection in list(self.connections):
            connection.finish()
        if not self.connections:
            self._finish_draining()
        return done

    def _abort_all(self) -> None:
        for connection in list(self.connections):
            connection.abort("the broker is stopping")

    def _finish_draining(self) -> None:
        done, self._drained = self._drained, None
        if self._deadline.active():
            self._deadline.cancel()
        if self._sweeping is not None and self._sweeping.running:
            self._sweeping.stop()
        if done is not None:
            done.callback(None)
