"""Where one process listens: every listener of every enabled protocol, and HTTP.

Owns binding, TLS around it, and the factories and ports that come of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from megabroker.config.protocol import ListenerSettings
from megabroker.config.schema import Config
from megabroker.errors import ErrorCode, StateError
from megabroker.interfaces import IBroker, IManagedFactory, IProtocolPlugin
from megabroker.model import HTTP, HostPort, Listener, Worker
from megabroker.net.factory import BrokerFactory
from megabroker.net.listening import Inherited, advertised
from megabroker.ops.request_log import RequestLog

if TYPE_CHECKING:
    from megabroker.config.security import TlsSettings
    from megabroker.http.caller import Inside
    from megabroker.http.listening import HttpFactory
    from megabroker.net.tls import ListenerTls

__all__ = ["Listeners"]

_log = Logger()

_LATE_SECONDS: Final = 5


class Listeners:
    """See the module.

    Args:
        plugins: the installed protocols by name.
        direct: what listens in the reactor's place for the broker's own connections.
        worker: which of several processes this is; None for one that is alone.

    Attributes:
        factories: those that drain their connections, in the order they were bound.
        http: has the connections over HTTP, if there may be any.
    """

    def __init__(
        self, plugins: Mapping[str, IProtocolPlugin], reactor: Any, direct: Any, worker: Worker | None
    ) -> None:
        self.factories: list[Any] = []
        self.http: HttpFactory | None = None
        self._plugins = plugins
        self._reactor = reactor
        self._direct = direct
        self._worker = worker
        self._ports: list[IListeningPort] = []
        self._tls: list[ListenerTls] = []
        self._http_port: IListeningPort | None = None

    @property
    def counting(self) -> list[BrokerFactory]:
        """The factories that count what they do; those of plugins need not."""
        return [factory for factory in self.factories if isinstance(factory, BrokerFactory)]

    # --- binding ------------------------------------------------------------------------------------

    def listen_http(self, config: Config, inside: Callable[[], Inside]) -> None:
        """Bind where the broker is administered over HTTP; the first of several workers has all of it.

        Args:
            inside: returns what there is to administer.

        Raises:
            StateError: the address is taken or not ours.
        """
        settings, worker = config.http, self._worker
        if not settings.enabled:
            return
        from megabroker.http.listening import HttpFactory

        self.http = factory = HttpFactory(
            inside(),
            settings,
            authenticates=config.http_authenticates,
            serves_all=worker is None or worker.index == 0,
        )
        served: Any = factory
        if settings.tls is not None:
            from megabroker.net.tls import ListenerTls

            factory.tls = ListenerTls("http", settings.tls)
            self._tls.append(factory.tls)
            served = factory.tls.wrapped(factory, self._reactor)
        reactor = self._reactor
        if worker is not None:
            reactor = Inherited(reactor, reactor, worker.descriptors[HTTP])
        endpoint = _endpoint(reactor, settings.endpoint, "http")
        try:
            self._http_port = port = _result_of(endpoint.listen(served))
        except CannotListenError as error:
            raise StateError(
                ErrorCode.INVALID_CONFIG, f"http: endpoint {settings.endpoint}: {error}"
            ) from error
        self._ports.append(port)
        factory.listens(port)

    def told_http(self) -> Sequence[Listener]:
        """Return where HTTP is served, as the log tells it."""
        if self._http_port is None:
            return []
        bound = self._http_port.getHost()
        address = getattr(bound, "host", "localhost"), int(getattr(bound, "port", 0))
        return [Listener("http", "", HostPort(*address))]

    def listen(self, config: Config, broker: IBroker) -> Sequence[Listener]:
        """Bind every listener of every enabled protocol; return where they are.

        Raises:
            StateError: an address is taken or not ours, or a plugin is broken.
        """
        listeners: list[Listener] = []
        for name, settings in config.protocols.items():
            if not settings.enabled:
                continue
            for wanted in settings.listeners:
                placeholder = Listener(name, wanted.name, HostPort(wanted.advertised_host or "", 0))
                factory = self._make_factory(name, broker, settings, placeholder)
                managed = IManagedFactory.providedBy(factory)
                served: Any = factory
                if wanted.tls is not None:
                    served = self._with_tls(f"{name}/{wanted.name}", wanted.tls, factory)
                reactor = self._direct if served is factory and managed else self._reactor
                if self._worker is not None:
                    descriptor = self._worker.descriptors[name, wanted.name]
                    reactor = Inherited(self._reactor, reactor, descriptor)
                endpoint = _endpoint(reactor, wanted.endpoint, f"protocols.{name}")
                try:
                    port = _result_of(endpoint.listen(served))
                except CannotListenError as error:
                    raise StateError(
                        ErrorCode.INVALID_CONFIG,
                        f"protocols.{name}: endpoint {wanted.endpoint}: {error}",
                    ) from error
                self._ports.append(port)
                if managed:
                    self.factories.append(factory)
                listeners.append(Listener(name, wanted.name, _advertised(wanted, port)))
        return listeners

    def _with_tls(self, name: str, settings: TlsSettings, factory: Any) -> Any:
        """Return what is served in place of a factory where its listener has TLS. Raises StateError."""
        from megabroker.net.tls import ListenerTls

        tls = ListenerTls(name, settings)
        self._tls.append(tls)
        if isinstance(factory, BrokerFactory):
            factory.tls = tls
        return tls.wrapped(factory, self._reactor)

    def _make_factory(self, name: str, broker: IBroker, settings: Any, listener: Listener) -> Any:
        try:
            return self._plugins[name].factory(broker, settings, listener)
        except Exception as error:
            _log.failure("plugin {name} cannot make a factory", name=name)
            raise StateError(
                ErrorCode.INTERNAL,
                f"the plugin of protocol {name} is broken: {type(error).__name__}: {error}",
            ) from error

    # --- while running, and the end -----------------------------------------------------------------

    def note(self, requests: RequestLog | None) -> None:
        """Have single requests noted, or with None no more."""
        for factory in self.counting:
            factory.counts.notes = requests

    def follow(self, fresh: Config, internal: Any | None) -> None:
        """Give factories their settings out of another configuration, of which nothing needs a restart.

        Args:
            internal: the factory of the other processes' connections, if there are any.
        """
        for factory in (*self.factories, *(() if internal is None else (internal,))):
            listener = getattr(factory, "listener", None)  # those of plugins need have none
            settings = None if listener is None else fresh.protocols.get(listener.protocol)
            if settings is not None and hasattr(factory, "settings"):
                factory.settings = settings
        if self.http is not None:
            self.http.settings = fresh.http
        for tls in self._tls:
            tls.renew()

    def close(self) -> list[Deferred[Any]]:
        """Listen no more; each fires when a port is closed."""
        ports, self._ports = self._ports, []
        return [maybeDeferred(port.stopListening) for port in ports]

    def drain(self, seconds: float) -> list[Deferred[Any]]:
        """Have what was taken answered and take no more; each fires when connections are gone."""
        # A plugin's that fails at it, or is never done, must not keep the broker from its end.
        draining = [
            maybeDeferred(methodcaller("drain", seconds), factory).addTimeout(
                seconds + _LATE_SECONDS, self._reactor
            )
            for factory in self.factories
        ]
        if self.http is not None:
            draining.append(self.http.drain(seconds))
        return draining


def _endpoint(reactor: Any, text: str, where: str) -> Any:
    """Return what listens at an endpoint. Raises StateError for a socket that systemd has not handed over."""
    try:
        return serverFromString(reactor, text)  # type: ignore[no-untyped-call]
    except LookupError:
        raise StateError(
            ErrorCode.INVALID_CONFIG,
            f"{where}: endpoint {text}: no such socket was handed over: expected a unit of type socket with "
            "that FileDescriptorName, or that many ListenStream, by which this process was started",
        ) from None


def _result_of(listening: Deferred[IListeningPort]) -> IListeningPort:
    """Return the port an endpoint gave at once, or raise why it could not."""
    results: list[Any] = []
    listening.addBoth(results.append)
    if not results:
        raise RuntimeError("an endpoint that does not listen at once cannot be served")
    if not IListeningPort.providedBy(results[0]):
        results[0].raiseException()
    port: IListeningPort = results[0]
    return port


def _advertised(wanted: ListenerSettings, port: IListeningPort) -> HostPort:
    bound = port.getHost()
    address = getattr(bound, "host", "localhost"), int(getattr(bound, "port", 0))
    return advertised(wanted.advertised_host, wanted.advertised_port, address)
