"""Topics: which there are, what is set on them, and the partitions this node leads.

Owns the metadata table ``topics`` (name -> id, partitions, configs) and one ``PartitionService`` per
partition led here. The row is the truth and comes first: a topic exists when its row is committed, logs are
made to follow it, and a crash in between heals at the next ``load``, which creates what is missing and, by
the table ``deleted_topics``, removes what was left over. Directories in the store that no row explains are
left alone, and no topic is created over them.

Of several processes one, the controller, changes topics; the others have it do so, and *follow* the rows:
they open and remove the logs that they lead. A deletion is remembered until all have removed theirs.

Changes to one topic happen one after the other, in the order of asking. Never blocks the reactor for long:
many logs are opened through the injected runner, retention is enforced in slices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any, Final
from uuid import uuid4

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred, execute
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from megabroker.core.backlog import Backlog
from megabroker.core.partitions import PartitionService, PartitionSettings
from megabroker.core.producer_room import ProducerRoom
from megabroker.core.topic_configs import TopicConfigs
from megabroker.core.topics.deletions import Deletions
from megabroker.core.topics.logs import Runner, TopicLogs, shutting_down
from megabroker.core.topics.retention import RetentionSweeps
from megabroker.core.topics.rows import TOPICS_TABLE, is_topic_name, topic_from_row, topic_row
from megabroker.core.topics.table import TopicTable, may_reopen, unknown_topic
from megabroker.core.topics.turns import TopicTurns
from megabroker.errors import ErrorCode, RequestError, StateError, StorageError
from megabroker.interfaces import ILogStore, IMetadataStore, IPlacement, ITopicService
from megabroker.model import Change, Topic, TopicChange, TopicPartition

__all__ = ["TopicLimits", "TopicService"]

_log = Logger()

_OF_KAFKA: Final = frozenset(
    {"__cluster_metadata", "__consumer_offsets", "__transaction_state", "__share_group_state"}
)
"""What Apache Kafka keeps beside the topics in a directory that was its own; left alone."""

_FOLLOWED_AT_ONCE: Final = 4
_REOPENING_SECONDS: Final = 10.0

Controller = Callable[[TopicChange, str, int, Mapping[str, str | None]], Deferred[None]]
"""Has another process change a topic: how, its name, how many partitions, its configurations."""


@attrs.frozen
class TopicLimits:
    """Bounds on what clients may create, and how often retention is enforced.

    Attributes:
        max_topics: topics on this broker.
        max_partitions: partitions on this broker, of all topics together.
    """

    max_topics: int = 10_000
    max_partitions: int = 20_000
    retention_check_interval_ms: int = 300_000


@implementer(ITopicService)
class TopicService(TopicTable, Service):
    """All topics.

    Args:
        configs: the configuration table with this broker's defaults.
        partition_settings: what holds for every partition.
        now_ms: the time in epoch milliseconds.
        run: calls a function in a thread and fires with its result; the default calls it in place.

    Attributes:
        limits_met: how often each of the limits was, by its key in the configuration.
        strays: partitions found in the store that no topic explains.
        controller: what has the changes made, if another process makes them; may be assigned later.
        followed: fires when all other processes follow the rows, if there are any; may be assigned later.
    """

    name = "topics"

    def __init__(
        self,
        *,
        store: ILogStore,
        metadata: IMetadataStore,
        placement: IPlacement,
        configs: TopicConfigs,
        limits: TopicLimits,
        partition_settings: PartitionSettings,
        reactor: Any,
        now_ms: Callable[[], int],
        run: Runner = execute,
    ) -> None:
        super().__init__(configs)
        self._logs = TopicLogs(store, metadata, placement, configs, partition_settings, reactor, now_ms, run)
        self.limits = limits
        self.strays = self._logs.strays
        self.limits_met: Counter[str] = Counter()
        self.controller: Controller | None = None
        self.followed: Callable[[], Deferred[None]] | None = None
        self._store = store
        self._metadata = metadata
        self._placement = placement
        self._reactor = reactor
        self._coming: dict[str, int] = {}
        self._deletions = Deletions(metadata, reactor.seconds)
        self._turns = TopicTurns()
        self._deleted_callbacks: list[Callable[[str], None]] = []
        self._sweeps = RetentionSweeps(self._serving, reactor, now_ms)
        self._reopening: Any = None

    # --- life ---------------------------------------------------------------------------------------

    def load(self, told: Callable[[int, int], None] | None = None) -> None:
        """Read the topics and open their logs. Blocking, before the service starts.

        A partition whose log cannot be opened answers StorageError; the others serve. Where that may pass, as
        of a full disk, opening is tried again every 10 seconds once the service runs.

        Args:
            told: called with how many logs are open and how many there are to be at most.

        Raises:
            StorageError: the metadata cannot be read.
        """
        self._deletions.load()
        topics = [topic_from_row(name, row) for name, row in self._metadata.rows(TOPICS_TABLE).items()]
        total = sum(topic.partitions for topic in topics)
        if told is not None:
            opened = count()
            self._logs.opening = lambda: told(next(opened), total)
        for topic in topics:
            self._publish(topic, self._logs.open(topic, 0, topic.partitions))
        self._logs.opening = None
        leftovers = self._deletions.leftovers()
        for topic_partition, topic_id in self._store.partitions():
            known = self._topics.get(topic_partition.topic)
            if known is not None and topic_partition.partition < known.partitions:
                continue
            if (topic_partition, topic_id) not in leftovers:
                self.strays.add(topic_partition)
        unexplained = sorted(one for one in self.strays if one.topic not in _OF_KAFKA)
        if unexplained:
            _log.warn(
                "stray-partitions",
                count=len(unexplained),
                some=", ".join(str(one) for one in unexplained[:10]),
            )

    def startService(self) -> None:
        """Finish deletions that a crash cut short, and begin to enforce retention."""
        super().startService()  # type: ignore[no-untyped-call]
        for key, name, partitions in self._deletions.unfinished():
            known = self._topics.get(name)
            first = 0 if known is None else known.partitions
            all_gone = [TopicPartition(name, index) for index in range(first, partitions)]
            gone = [one for one in all_gone if self._placement.leader(one).id == self._placement.me.id]
            self._turns.run(name, partial(self._remove_logs, key, gone)).addErrback(_log_failure)
        interval_s = self.limits.retention_check_interval_ms / 1000
        self._sweeps.start(interval_s).addErrback(_log_failure)
        self._reopen_later()

    def stopService(self) -> Deferred[None]:
        """Refuse new batches, let accepted ones reach the disk, answer everybody; fire when done."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._sweeps.stop()
        if self._reopening is not None and self._reopening.active():
            self._reopening.cancel()
        serving = self._serving()
        for partition in serving:
            partition.refuse(shutting_down)
        flushed = DeferredList([partition.log.flush() for partition in serving], consumeErrors=True)

        def close(results: list[tuple[bool, Any]]) -> None:
            for (good, result), partition in zip(results, serving, strict=True):
                if good:
                    partition.settle()
                else:
                    _log.failure("flush-failed", failure=result, partition=str(partition.topic_partition))
                partition.close(shutting_down)

        return flushed.addCallback(close)

    # --- asking -------------------------------------------------------------------------------------

    @property
    def backlog(self) -> Backlog:
        """What all partitions together have queued."""
        return self._logs.settings.backlog

    @property
    def producer_room(self) -> ProducerRoom:
        """How many idempotent producers all partitions together remember."""
        return self._logs.settings.producer_room

    def deleted_lately(self, name: str) -> bool:
        """See ``ITopicService.deleted_lately``."""
        return self._deletions.lately(name)

    def on_deleted(self, callback: Callable[[str], None]) -> None:
        """Have ``callback(name)`` called after every deletion of a topic."""
        self._deleted_callbacks.append(callback)

    # --- changing -----------------------------------------------------------------------------------

    def validate(self, name: str, partitions: int, configs: Mapping[str, str | None]) -> None:
        """Raise RequestError or StateError if ``create`` would refuse."""
        if not is_topic_name(name):
            raise RequestError(
                ErrorCode.INVALID_TOPIC,
                f"topic name {name[:260]!r}: expected 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', "
                "and neither '.' nor '..'",
            )
        if name in self._topics:
            raise StateError(ErrorCode.TOPIC_EXISTS, f"topic {name} exists")
        alike = self._name_like(name)
        if alike is not None:
            raise RequestError(
                ErrorCode.INVALID_TOPIC,
                f"topic name {name!r} differs from {alike!r} in '.' and '_' only, which Kafka forbids",
            )
        if partitions < 1:
            raise RequestError(ErrorCode.INVALID_PARTITIONS, f"{partitions} partitions: expected at least 1")
        self.configs.validate(configs)
        if len(self._topics) + len(self._coming) >= self.limits.max_topics:
            self.limits_met["topics.max_topics"] += 1
            raise StateError(ErrorCode.TOPIC_LIMIT, f"max_topics is {self.limits.max_topics}")
        self._check_partition_limit(partitions)

    def create(
        self, name: str, partitions: int, configs: Mapping[str, str | None] | None = None
    ) -> Deferred[Topic]:
        """Create a topic; fire when it is stored and its partitions serve. Fails as ``ITopicService``."""
        if self.controller is not None:
            return self._ask(TopicChange.CREATE, name, partitions, configs or {})
        return self._turns.run(name, lambda: self._create(name, partitions, configs or {}))

    def check_truncation(self, name: str) -> None:
        """See ``ITopicService.check_truncation``."""
        if self._known(name).internal:
            raise RequestError(ErrorCode.INVALID_TOPIC, f"topic {name} is internal to the broker")
        policy = self.config(name, "cleanup.policy")
        if "compact" in policy and "delete" not in policy:
            raise RequestError(
                ErrorCode.POLICY_VIOLATION,
                f"topic {name} has the cleanup.policy {policy}: expected one with delete in it",
            )

    def check_growth(self, name: str, total: int) -> int:
        """See ``ITopicService.check_growth``."""
        topic = self._known(name)
        more = total - topic.partitions
        if more <= 0:
            raise RequestError(
                ErrorCode.INVALID_PARTITIONS,
                f"topic {name} has {topic.partitions} partitions; {total} would be no increase",
            )
        self._check_partition_limit(more)
        return more

    def create_partitions(self, name: str, total: int) -> Deferred[Topic]:
        """Grow a topic to ``total`` partitions; fails with INVALID_PARTITIONS when that is no growth."""
        if self.controller is not None:
            return self._ask(TopicChange.GROW, name, total, {})
        return self._turns.run(name, lambda: self._create_partitions(name, total))

    def delete(self, name: str) -> Deferred[None]:
        """Delete a topic and its data; fails with UNKNOWN_TOPIC.

        Data that cannot be removed is logged and tried again at the next start: the topic is gone.
        """
        if self.controller is not None:
            return self._ask(TopicChange.DELETE, name, 0, {}).addCallback(lambda _: None)
        return self._turns.run(name, lambda: self._delete(name))

    def set_configs(self, name: str, configs: Mapping[str, str]) -> Deferred[Topic]:
        """Replace what is set on a topic; fails with UNKNOWN_TOPIC or INVALID_CONFIG."""
        return self._turns.run(name, lambda: self._set_configs(name, configs))

    def _ask(
        self, kind: TopicChange, name: str, partitions: int, configs: Mapping[str, str | None]
    ) -> Deferred[Any]:
        """Have the controller change a topic; fires with the topic when that is so here, too."""
        assert self.controller is not None
        asked: Deferred[Any] = self.controller(kind, name, partitions, configs)
        asked.addCallback(lambda _: self.catch_up([name]))
        return asked.addCallback(lambda _: None if kind is TopicChange.DELETE else self._known(name))

    # --- following ----------------------------------------------------------------------------------

    def catch_up(self, names: Collection[str] | None = None) -> Deferred[None]:
        """Go by what the rows of topics say now, all of them for None; fires when it is so.

        Fails with StorageError when the rows cannot be read.
        """
        return ensureDeferred(self._catch_up(names))

    async def _catch_up(self, names: Collection[str] | None) -> None:
        rows = self._metadata.rows(TOPICS_TABLE, names)
        concerned = {*self._topics, *rows} if names is None else set(names)
        changed = {
            name
            for name in concerned
            if (known := self._topics.get(name)) is None
            or name not in rows
            or topic_from_row(name, rows[name]) != known
        }
        if names is None:  # what a crash has left to be removed is being removed
            changed.update(name for _, name, _ in self._deletions.unfinished())
        aside = len(changed) > _FOLLOWED_AT_ONCE
        following = [
            self._turns.run(name, partial(self._follow_row, name, aside)) for name in sorted(changed)
        ]
        for good, result in await DeferredList(following, consumeErrors=True):
            if not good:
                result.raiseException()

    async def _follow_row(self, name: str, aside: bool) -> None:
        row = self._metadata.rows(TOPICS_TABLE, [name]).get(name)
        topic = None if row is None else topic_from_row(name, row)
        former = self._topics.get(name)
        if former is not None and (topic is None or topic.id != former.id):
            await self._retire(former)
            former = None
        if topic is None:
            return
        first = 0 if former is None else former.partitions
        kept = [] if former is None else self._partitions[name]
        opened = await self._logs.opened(topic, first, topic.partitions, aside=aside)
        self._publish(topic, [*kept, *opened])
        if any(map(may_reopen, opened)):
            self._reopen_later()

    async def _create(self, name: str, partitions: int, configs: Mapping[str, str | None]) -> Topic:
        self.validate(name, partitions, configs)
        self._refuse_leaving(name)
        topic = Topic(
            name, uuid4(), partitions, {key: value for key, value in configs.items() if value is not None}
        )
        self._refuse_strays(topic, 0)
        self._coming[name] = partitions
        try:
            await self._metadata.write([Change(TOPICS_TABLE, name, topic_row(topic))])
            opened = await self._logs.make(topic, 0, partitions, Change(TOPICS_TABLE, name, None))
            self._publish(topic, opened)
        finally:
            del self._coming[name]
        return topic

    async def _create_partitions(self, name: str, total: int) -> Topic:
        former = self._known(name)
        self.check_growth(name, total)
        topic = attrs.evolve(former, partitions=total)
        self._refuse_strays(topic, former.partitions)
        self._coming[name] = total - former.partitions
        try:
            await self._metadata.write([Change(TOPICS_TABLE, name, topic_row(topic))])
            undo = Change(TOPICS_TABLE, name, topic_row(former))
            opened = await self._logs.make(topic, former.partitions, total, undo)
            self._publish(topic, [*self._partitions[name], *opened])
        finally:
            del self._coming[name]
        return topic

    async def _set_configs(self, name: str, configs: Mapping[str, str]) -> Topic:
        topic = attrs.evolve(self._known(name), configs=dict(configs))
        self.configs.validate(configs)
        await self._metadata.write([Change(TOPICS_TABLE, name, topic_row(topic))])
        self._publish(topic, self._partitions[name])
        return topic

    async def _delete(self, name: str) -> None:
        topic = self._known(name)
        await self._metadata.write([Change(TOPICS_TABLE, name, None), self._deletions.begun(topic)])
        await self._retire(topic)

    async def _retire(self, topic: Topic) -> None:
        """Let go of a topic whose row is gone, and remove its logs."""
        name = topic.name
        partitions = self._withdraw(topic)
        self._deletions.add(topic)
        for partition in partitions:
            if isinstance(partition, PartitionService):
                partition.close(lambda: unknown_topic(name))
        for callback in self._deleted_callbacks:
            try:
                callback(name)
            except Exception:  # noqa: BLE001 - the deletion is committed and must be finished
                _log.failure("deleted-callback-failed", topic=name)
        gone = [TopicPartition(name, i) for i, one in enumerate(partitions) if one is not None]
        await self._remove_logs(topic.id.hex, gone)

    async def _remove_logs(self, key: str, gone: Sequence[TopicPartition]) -> None:
        failed = await self._logs.remove(gone)
        if failed:
            some = ", ".join(str(one) for one, _ in failed[:10])
            _log.failure("delete-failed", failure=failed[0][1], partitions=some)
            return
        if self.controller is not None:
            self._deletions.forget(key)
            return
        if self.followed is not None:
            followed = self.followed()
            if not followed.called:
                followed.addCallback(lambda _: ensureDeferred(self._deletions.finish(key)))
                return
        await self._deletions.finish(key)

    # --- logs ---------------------------------------------------------------------------------------

    def _reopen_later(self) -> None:
        if self._reopening is not None and self._reopening.active():
            return
        names = [name for name, slots in self._partitions.items() if any(map(may_reopen, slots))]
        if names:
            self._reopening = self._reactor.callLater(_REOPENING_SECONDS, self._reopen_all, names)

    def _reopen_all(self, names: Sequence[str]) -> None:
        done = DeferredList(
            [self._turns.run(name, partial(self._reopen, name)).addErrback(_log_failure) for name in names]
        )
        done.addCallback(lambda _: self._reopen_later() if self.running else None)

    async def _reopen(self, name: str) -> None:
        """Open what could not be opened: the disk may have room again, or the process descriptors."""
        topic = self._topics.get(name)
        if topic is None:
            return
        slots = list(self._partitions[name])
        for index, slot in enumerate(slots):
            if not (self.running and may_reopen(slot)):
                continue
            (opened,) = await self._logs.opened(topic, index, index + 1, aside=True, failed=slot)
            if isinstance(opened, PartitionService):
                if not self.running:  # stopped meanwhile; the log belongs to the store, which closes it
                    opened.close(shutting_down)
                    return
                _log.info("partition-available", partition=str(opened.topic_partition))
            slots[index] = opened
        if slots != self._partitions[name]:
            self._publish(attrs.evolve(topic), slots)

    def follow(self, configs: TopicConfigs, partition_settings: PartitionSettings) -> None:
        """Go on with other defaults and other settings of partitions, which every topic obeys from now on."""
        changed = configs.defaults != self.configs.defaults
        self.configs = self._logs.configs = configs
        # What all partitions share stays one account.
        settings = attrs.evolve(partition_settings, backlog=self.backlog, producer_room=self.producer_room)
        self._logs.settings = settings
        for partition in self._serving():
            partition.settings = settings
        if changed:
            for name, topic in list(self._topics.items()):
                # A new object, so that whoever remembers how the topic was configured looks again.
                self._publish(attrs.evolve(topic), self._partitions[name])

    # --- small things -------------------------------------------------------------------------------

    def _check_partition_limit(self, more: int) -> None:
        there = self._partition_count() + sum(self._coming.values())
        if there + more > self.limits.max_partitions:
            self.limits_met["topics.max_partitions"] += 1
            raise StateError(
                ErrorCode.TOPIC_LIMIT,
                f"{more} more partitions: max_partitions is {self.limits.max_partitions}, {there} are in use",
            )

    def _refuse_leaving(self, name: str) -> None:
        """Refuse a name whose former topic another process has still to remove."""
        if self.followed is not None and self._deletions.is_unfinished(name):
            raise StorageError(
                ErrorCode.STORAGE,
                f"topic {name} is still being deleted by a process that was away",
                retriable=True,
            )

    def _refuse_strays(self, topic: Topic, first: int) -> None:
        for one in self.strays:
            if one.topic == topic.name and first <= one.partition < topic.partitions:
                raise StorageError(
                    ErrorCode.STORAGE,
                    f"the store holds a partition {one} that belongs to no topic: move it away first",
                    retriable=False,
                )


def _log_failure(failure: Failure) -> None:
    _log.failure("topic-service-failed", failure=failure)
