"""The broker put together: the one place that names concrete classes of more than one floor.

Owns the order of starting and stopping, and nothing else.

*Start*, all of it before the reactor serves anybody, so that nothing is answered by half a broker: data
directory and metadata, then the core and its logs (recovery), then HTTP, then the listeners. A fault at any
step undoes the steps before it and is raised.

*Stop*, in order and awaited: stop listening; answer what waits for members, transactions or data, and begin
nothing new for them; let requests that were taken be answered and sent; refuse new ones; write and sync;
close the stores. Of several processes each serves the others until none of them serves clients. SIGTERM loses
nothing that was acknowledged.

``MultiService`` stops all children at once and its endpoint services swallow errors of binding; therefore
both are done here.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from megabroker import __version__
from megabroker.config.diff import changes
from megabroker.config.overlay import overlaid
from megabroker.config.protocol import ListenerSettings
from megabroker.config.rereading import described, reread
from megabroker.config.schema import Config, Storage
from megabroker.core.acls import ACLS_TABLE, Acls, GroupPermissions
from megabroker.core.audit import Audit
from megabroker.core.broker import Broker
from megabroker.core.broker_configs import BROKER_CONFIGS_TABLE, BrokerConfigs
from megabroker.core.client_metrics import CLIENT_METRICS_TABLE, ClientMetrics
from megabroker.core.credentials import SCRAM_TABLE, Credentials
from megabroker.core.dedup import DeduplicationService
from megabroker.core.following import Following
from megabroker.core.groups.configs import GROUP_CONFIGS_TABLE, GroupConfigs
from megabroker.core.groups.service import GroupService
from megabroker.core.placement import SinglePlacement, WorkerPlacement
from megabroker.core.producer_ids import ProducerIds
from megabroker.core.quotas.service import QUOTAS_TABLE, Quotas
from megabroker.core.shares import ShareService
from megabroker.core.topic_configs import TopicConfigs
from megabroker.core.topics import TOPICS_TABLE, TopicService
from megabroker.core.transactions import TransactionService
from megabroker.errors import BrokerError, ErrorCode, StateError
from megabroker.interfaces import (
    IAuthentication,
    ILogStore,
    IManagedFactory,
    IMetadataStore,
    IPartitions,
    IPeers,
    IPlacement,
    IProtocolPlugin,
    IPublishers,
    IWindowStore,
)
from megabroker.model import HTTP, NAMED_PRODUCERS, HostPort, Listener, Node, TopicPartition, Worker
from megabroker.net import quick
from megabroker.net.admission import Admission
from megabroker.net.factory import BrokerFactory
from megabroker.net.listening import Inherited, advertised
from megabroker.net.transport import DirectReactor
from megabroker.net.turns import Turns
from megabroker.net.unread import Unread
from megabroker.ops.logs import LogThreshold
from megabroker.ops.memory import keep_freed_memory
from megabroker.ops.metrics.service import Metrics, Sources
from megabroker.ops.pauses import Pauses
from megabroker.ops.request_log import RequestLog
from megabroker.service_settings import (
    acl_settings,
    dedup_settings,
    group_settings,
    partition_settings,
    share_settings,
    token_rules,
    topic_limits,
    transaction_settings,
)
from megabroker.stores import Stores, cleaner_settings, make_stores, new_cluster_id

if TYPE_CHECKING:
    from megabroker.config.security import TlsSettings
    from megabroker.core.authentication.tokens import Tokens
    from megabroker.core.transactions.elsewhere import RemoteTransactions
    from megabroker.http.listening import HttpFactory
    from megabroker.net.tls import ListenerTls
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
        broker: the core; set while running.
        placement: who this node is and where it listens.
        turns: what is done once for all that comes in a turn of the reactor.
        metrics: the numbers of this process; set while running.
        opening: told how many logs are open, and of how many, while it starts; may be assigned.
    """

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
        self._direct = transports(reactor, self.turns)
        self._ports: list[IListeningPort] = []
        self._factories: list[Any] = []
        self._tls: list[ListenerTls] = []
        self._http: HttpFactory | None = None
        self._http_port: IListeningPort | None = None
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
            self._load()
            self._listen_http()
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
                for listener in (*self.placement.me.listeners, *self._http_listeners())
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
        config = self.config
        reactor = self._reactor
        store: ILogStore = self._store
        metadata: IMetadataStore = self._metadata
        self._client_metrics = ClientMetrics(metadata)
        self._credentials = Credentials(metadata)
        self._quotas = Quotas(metadata, lambda: int(reactor.seconds() * 1000))
        self._audit = Audit(reactor.seconds)
        self._acls = Acls(metadata, acl_settings(config), self._audit, self._quotas.renew)
        self._configs = BrokerConfigs(metadata, config.node.id, config, self._threshold)
        self.topics = TopicService(
            store=store,
            metadata=metadata,
            placement=self.placement,
            configs=TopicConfigs(config.topics.topic_configs()),
            limits=topic_limits(config),
            partition_settings=partition_settings(config),
            reactor=reactor,
            now_ms=self._now_ms,
            run=self._in_thread,
        )
        self.dedup = DeduplicationService(
            dedup_settings(config),
            self._journal,
            self._topic_id,
            reactor,
            self._now_ms,
        )
        self.groups = GroupService(
            reactor,
            metadata,
            group_settings(config),
            self._partition_exists,
            topics=self.topics.all,
            create_topic=self.topics.create,
        )
        self.topics.on_deleted(self.groups.topic_deleted)
        self.group_configs = GroupConfigs(metadata, config.group_configs())
        self.shares = self._make_shares(metadata)
        self.groups.is_share = self.shares.__contains__
        self.groups.configure(self.group_configs)
        if self._acls.enabled:
            permits = GroupPermissions(self._acls)
            self.groups.restrict(permits.sees, permits.may_not_create, lambda: self._quotas.generation)
        self.topics.on_deleted(self.shares.topic_deleted)
        self._producer_ids = ProducerIds(metadata, config.producers.id_block_size)
        self.transactions = self._make_transactions(metadata)
        peers: IPeers | None = None
        partitions: IPartitions = self.topics
        publishers: IPublishers | None = None
        if self._peering is not None:
            self._peering.share_topics(self.topics)
            peers = self._peering.peers
            partitions = self._peering.partitions(self.topics, self.placement)
            publishers = self._peering.publishers(self.placement, dedup_settings(config))
        self.broker = Broker(
            cluster_id=self._cluster_id(),
            topics=self.topics,
            groups=self.groups,
            shares=self.shares,
            transactions=self.transactions,
            dedup=self.dedup,
            placement=self.placement,
            configs=self._configs,
            client_metrics=self._client_metrics,
            credentials=self._credentials,
            authentication=self._authentication(),
            authorizer=self._acls,
            audit=self._audit,
            quotas=self._quotas,
            partitions=partitions,
            publishers=publishers,
            peers=peers,
            following=self._following(),
            producer_ids=self._producer_ids,
            settings=config,
            reactor=reactor,
            turns=self.turns,
            admission=Admission(
                config.limits.max_connections,
                config.limits.max_connections_per_address,
                config.limits.in_flight_bytes,
                Unread(config.limits.unread_answer_bytes, reactor.seconds),
            ),
            now_ms=self._now_ms,
        )
        self.metrics = Metrics(
            Sources(
                broker=self.broker,
                logs=self._store,
                metadata=metadata,
                factories=self._counting,
                http=lambda: self._http,
                pauses=self._pauses,
                settings=lambda: self.config.metrics,
                compiled=quick.compiled() is not None,
            ),
            reactor,
            self._in_thread,
        )
        self.topics.setServiceParent(self)  # type: ignore[no-untyped-call]
        self.dedup.setServiceParent(self)  # type: ignore[no-untyped-call]

    def _counting(self) -> list[Any]:
        """Return the factories that count what they do; those of plugins need not."""
        return [factory for factory in self._factories if isinstance(factory, BrokerFactory)]

    def _authentication(self) -> IAuthentication | None:
        """Return who clients are, if some listener asks for it."""
        config = self.config
        if not config.authenticates:
            return None
        from megabroker.core.authentication import Authentication

        return Authentication(
            self._credentials,
            lambda: int(self.config.security.refusal_delay_ms),
            self._reactor,
            self._in_thread,
            self._tokens() if config.takes_tokens else None,
        )

    def _tokens(self) -> Tokens:
        from megabroker.core.authentication.tokens import KeySet, Tokens, read_keys

        wanted = self.config.security.tokens
        assert wanted.keys is not None
        keys = KeySet(
            partial(read_keys, wanted.keys), wanted.refresh_ms / 1000, self._in_thread, self._reactor.seconds
        )
        return Tokens(keys, lambda: token_rules(self.config), self._now_ms)

    def _make_shares(self, metadata: IMetadataStore) -> ShareService:
        peering = self._peering
        peers = None if peering is None else peering.shares(self.topics, self.placement)
        return ShareService(
            self._reactor,
            metadata,
            share_settings(self.config),
            self.topics,
            self.group_configs,
            self.groups.__contains__,
            peers,
            coordinates=peering is None or peering.coordinates,
        )

    def _make_transactions(self, metadata: IMetadataStore) -> TransactionService | RemoteTransactions:
        peering, ids = self._peering, self._producer_ids
        if peering is not None and not peering.coordinates:
            return peering.led_here(metadata, self.topics, ids, self.placement)
        return TransactionService(
            self._reactor,
            metadata,
            transaction_settings(self.config),
            self.topics,
            self.groups.transactional,
            ids,
            None if peering is None else peering.transactions(self.placement),
        )

    def _following(self) -> Following:
        """Return what this process does when another has changed rows."""

        def anew(load: Callable[[], None], applied: Callable[[], None] | None = None) -> Any:
            def follow(keys: Any) -> None:
                load()
                if applied is not None:
                    applied()

            return follow

        return Following(
            {
                BROKER_CONFIGS_TABLE: anew(self._configs.load, self._apply),
                TOPICS_TABLE: self.topics.catch_up,
                QUOTAS_TABLE: anew(self._quotas.load),
                SCRAM_TABLE: anew(self._credentials.load),
                ACLS_TABLE: anew(self._acls.load),
                CLIENT_METRICS_TABLE: anew(self._client_metrics.load),
                GROUP_CONFIGS_TABLE: anew(self.group_configs.load),
            }
        )

    def _cluster_id(self) -> str:
        """Return what the data directory says, or for a broker in memory something new."""
        known: str | None = getattr(self._store, "cluster_id", None)
        return known or new_cluster_id()

    def _load(self) -> None:
        self._client_metrics.load()
        self._credentials.load()
        self._acls.load()
        self._quotas.load()
        self._configs.load()
        self._configs.changed = self._apply
        self._apply()
        if not self._acls.has_administrator and (self._worker is None or self._worker.index == 0):
            _log.warn("nobody can make access rules: {warning}", warning=self.config.security.warning)
        self._producer_ids.load()
        self.topics.load(self.opening)
        self.dedup.load(self._decides())
        self.group_configs.load()
        if self._peering is None or self._peering.coordinates:
            self.groups.load()
        self.shares.load()
        self.transactions.load()
        if not getattr(self._store, "was_clean", True):
            epochs = self.topics.producer_epochs()
            self._producer_ids.heed(max((one for one in epochs if one < NAMED_PRODUCERS), default=-1))
            if isinstance(self.transactions, TransactionService):
                self.transactions.heed(epochs)

    def _decides(self) -> Callable[[int, int], bool] | None:
        """Return what tells whether this process decides about a message's id; None where it always does."""
        publishers = self.broker.publishers
        if publishers is None:
            return None
        names = self.dedup.scope_names(topic.name for topic in self.topics.all())

        def is_mine(scope: int, message_id: int) -> bool:
            name = names.get(scope)
            return name is not None and publishers.elsewhere(name) is None

        return is_mine

    def _topic_id(self, name: str) -> Any:
        topic = self.topics.get(name)
        return None if topic is None else topic.id

    def _partition_exists(self, partition: TopicPartition) -> bool:
        topic = self.topics.get(partition.topic)
        return topic is not None and 0 <= partition.partition < topic.partitions

    def _in_thread(self, function: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args, **kwargs)

    def _listen_http(self) -> None:
        """Bind where the broker is administered over HTTP; the first of several workers has all of it."""
        settings, worker = self.config.http, self._worker
        if not settings.enabled:
            return
        from megabroker.http.caller import Inside
        from megabroker.http.listening import HttpFactory

        inside = Inside(
            self.broker, lambda: self._factories, self._plugins, lambda: self._stopping, self.metrics
        )
        self._http = factory = HttpFactory(
            inside,
            settings,
            authenticates=self.config.http_authenticates,
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

    def _http_listeners(self) -> list[Listener]:
        """Return where HTTP is served, as the log tells it."""
        if self._http_port is None:
            return []
        bound = self._http_port.getHost()
        address = getattr(bound, "host", "localhost"), int(getattr(bound, "port", 0))
        return [Listener("http", "", HostPort(*address))]

    def _listen(self) -> None:
        """Bind every listener of every enabled protocol, then advertise where they are."""
        listeners: list[Listener] = []
        for name, settings in self.config.protocols.items():
            if not settings.enabled:
                continue
            for wanted in settings.listeners:
                placeholder = Listener(name, wanted.name, HostPort(wanted.advertised_host or "", 0))
                factory = self._make_factory(name, settings, placeholder)
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
                    self._factories.append(factory)
                listeners.append(Listener(name, wanted.name, _advertised(wanted, port)))
        self._note_requests()
        if isinstance(self.placement, SinglePlacement):
            self.placement.advertise(listeners)
        if self._peering is not None:
            self._peering.listen(self.broker, self.config)

    def _with_tls(self, name: str, settings: TlsSettings, factory: Any) -> Any:
        """Return what is served in place of a factory where its listener has TLS. Raises StateError."""
        from megabroker.net.tls import ListenerTls

        tls = ListenerTls(name, settings)
        self._tls.append(tls)
        if isinstance(factory, BrokerFactory):
            factory.tls = tls
        return tls.wrapped(factory, self._reactor)

    def _make_factory(self, name: str, settings: Any, listener: Listener) -> Any:
        try:
            return self._plugins[name].factory(self.broker, settings, listener)
        except Exception as error:
            _log.failure("plugin {name} cannot make a factory", name=name)
            raise StateError(
                ErrorCode.INTERNAL,
                f"the plugin of protocol {name} is broken: {type(error).__name__}: {error}",
            ) from error

    def _undo(self) -> None:
        """Give back what a start that failed had taken; nothing was acknowledged yet.

        The stores close in threads that report to the reactor, and a process whose start failed never runs
        it: without turning it here the end of the process would wait for those threads for ever.
        """
        ports, self._ports = self._ports, []
        waiting = [maybeDeferred(port.stopListening) for port in ports]
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
        self.config = self._configs.file = fresh
        self._apply()
        factories = list(self._factories)
        if self._peering is not None:
            factories.append(self._peering.factory)
        for factory in factories:
            settings = fresh.protocols.get(factory.listener.protocol)
            if settings is not None and hasattr(factory, "settings"):
                factory.settings = settings
        if self._http is not None:
            self._http.settings = fresh.http
        for tls in self._tls:
            tls.renew()
        _log.info("configuration reloaded: {keys}", keys=described(found))

    def _apply(self) -> None:
        """Put in force what the file says and, stronger, what administrators have set."""
        defaults = self._configs.topic_defaults()
        config = overlaid(self.config, defaults, self._configs.keys())
        self.broker.settings = config
        self._acls.configure(acl_settings(config))
        self.topics.follow(
            TopicConfigs({**config.topics.topic_configs(), **defaults}), partition_settings(config)
        )
        self.topics.limits = topic_limits(config)
        self._store.cleaner.settings = cleaner_settings(config)
        self._note_requests()
        admission = self.broker.admission
        admission.max_connections = config.limits.max_connections
        admission.max_connections_per_address = config.limits.max_connections_per_address

    def _note_requests(self) -> None:
        """Have single requests noted, if the log is to tell of them."""
        logging = self.config.logging
        self._requests.configure(logging.requests, logging.slow_request_ms)
        for factory in self._counting():
            factory.counts.notes = self._requests if self._requests.is_wanted else None
        self.broker.turns.are_noted = self._requests.is_wanted

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
        ports, self._ports = self._ports, []
        await _all([maybeDeferred(port.stopListening) for port in ports])
        self.groups.stop()
        self.transactions.stop()
        draining = [factory.drain(_DRAIN_SECONDS) for factory in self._factories]
        if self._http is not None:
            draining.append(self._http.drain(_DRAIN_SECONDS))
        await _all(draining)
        self._factories = []
        if self._peering is not None:
            await _all([self.drained()])
            await _all([self._peering.drain(_DRAIN_SECONDS)])
            self._peering.stop()
        self.shares.stop()
        await _all([maybeDeferred(self.topics.stopService)])
        await _all([maybeDeferred(self.dedup.stopService)])
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
