"""Where HTTP is listened for: connections admitted, counted and closed in order.

Owns the set of connections. It is made at every start and stands for a server that perhaps nobody ever asks:
twisted.web and all that answers is imported when the first connection comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from megabroker.config.http import HttpSettings
from megabroker.http.caller import Inside

if TYPE_CHECKING:
    from megabroker.http.channel import Channel
    from megabroker.http.site import Site
    from megabroker.net.tls import ListenerTls

__all__ = ["HttpFactory"]

_log = Logger()

_PROTOCOL: Final = "http"


class HttpFactory(Factory):
    """Makes the connections of HTTP.

    Args:
        inside: what is administered.
        settings: of the configuration; assign others to put them in force.
        authenticates: whether clients must say who they are.
        serves_all: whether there is the API; else how this process does only.

    Attributes:
        tls: what is under the connections, if that is TLS.
        connections: those that there are.
        answers: how many there were, by method, path as its route has it, and status.
        held_bytes: of the bodies of all requests that are being taken or answered.
    """

    noisy = False
    tls: ListenerTls | None = None

    def __init__(
        self,
        inside: Inside,
        settings: HttpSettings,
        *,
        authenticates: bool,
        serves_all: bool,
    ) -> None:
        self.inside = inside
        self.settings = settings
        self.authenticates = authenticates
        self.serves_all = serves_all
        self.connections: dict[Channel, None] = {}
        self.bound = ""
        self.held_bytes = 0
        self.answers: Counter[tuple[str, str, int]] = Counter()
        self._make: Callable[[HttpFactory, Site], Channel] | None = None
        self._site: Site | None = None
        self._working = 0
        self._drained: Deferred[None] | None = None
        self._deadline: Any = None
        self._refusals = 0

    def listens(self, port: IListeningPort) -> None:
        """Take note of where that is; who may be asked for depends on it."""
        self.bound = str(getattr(port.getHost(), "host", "local"))

    def buildProtocol(self, addr: IAddress | None) -> Channel | None:
        """Factory: admit a connection, or refuse it by closing."""
        host = getattr(addr, "host", None) or "local"
        admission = self.inside.broker.admission
        refusal: str | None = "the broker is stopping"
        if self._drained is None:
            refusal = f"at most {self.settings.max_connections} connections are taken"
            if len(self.connections) < self.settings.max_connections:
                refusal = admission.admit(host)
        if refusal is not None:
            self._refused(host, refusal)
            return None
        if self._make is None or self._site is None:
            from megabroker.http.channel import Channel
            from megabroker.http.site import make_site

            self._site, self._make = make_site(self), Channel
        connection = self._make(self, self._site)
        connection.peer_host = host
        connection.peer = f"{host}:{getattr(addr, 'port', '-')}"
        self.connections[connection] = None
        return connection

    def _refused(self, host: str, refusal: str) -> None:
        """Log a refused connection, ever more rarely."""
        self._refusals += 1
        if self._refusals & (self._refusals - 1) == 0:
            _log.warn(
                "{protocol} connection from {host} refused ({count} so far): {refusal}",
                protocol=_PROTOCOL,
                host=host,
                count=self._refusals,
                refusal=refusal,
            )

    def work_began(self, work: Deferred[None]) -> None:
        """Have the end wait for what is being done, though who asked for it may be gone."""
        self._working += 1
        work.addBoth(self._work_ended)

    def _work_ended(self, result: object) -> None:
        self._working -= 1
        self._end_if_idle()

    def connection_gone(self, connection: Channel) -> None:
        """Count a connection out."""
        if connection in self.connections:
            del self.connections[connection]
            self.inside.broker.admission.dismiss(connection.peer_host)
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._drained is not None and not (self.connections or self._working):
            self._finish_draining()

    def drain(self, seconds: float) -> Deferred[None]:
        """Answer what was asked, close all connections; fires when that is done, or the time is up."""
        done: Deferred[None] = Deferred()
        self._drained = done
        self._deadline = self.inside.broker.reactor.callLater(seconds, self._abort_all)
        for connection in list(self.connections):
            connection.finish()
        self._end_if_idle()
        return done

    def _abort_all(self) -> None:
        for connection in list(self.connections):
            connection.abort("the broker is stopping")
        self._finish_draining()

    def _finish_draining(self) -> None:
        done, self._drained = self._drained, None
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        if done is not None:
            done.callback(None)
