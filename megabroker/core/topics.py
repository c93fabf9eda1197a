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

import re
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from itertools import count, islice
from typing import Any, TypeGuard
from uuid import UUID, uuid4

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, DeferredLock, ensureDeferred, execute
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from megabroker.core.backlog import Backlog
from megabroker.core.partitions import PartitionService, PartitionSettings
from megabroker.core.topic_configs import TopicConfigs
from megabroker.errors import BrokerError, ErrorCode, RequestError, StateError, StorageError
from megabroker.interfaces import ILogStore, IMetadataStore, IPlacement, ITopicService
from megabroker.model import Change, Topic, TopicChange, TopicPartition

__all__ = ["TOPICS_TABLE", "TopicLimits", "TopicService", "is_topic_name", "topic_from_row", "topic_row"]

_log = Logger()

TOPICS_TABLE = "topics"
_DELETED = "deleted_topics"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)
_OF_KAFKA = frozenset(
    {"__cluster_metadata", "__consumer_offsets", "__transaction_state", "__share_group_state"}
)
"""What Apache Kafka keeps beside the topics in a directory that was its own; left alone."""
_LATELY_SECONDS = 3.0
_OPENED_AT_ONCE = 16
_FOLLOWED_AT_ONCE = 4
_RETENTION_SLICE = 32
_REOPENING_SECONDS = 10.0

Runner = Callable[..., Deferred[Any]]

Controller = Callable[[TopicChange, str, int, Mapping[str, str | None]], Deferred[None]]
"""Has another process change a topic: how, its name, how many partitions, its configurations."""

_Slot = PartitionService | StorageError | None
"""A partition's place: served here, out of order, or led by another node."""


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
class TopicService(Service):
    """All topics.

    Args:
        configs: the configuration table with this broker's defaults.
        partition_settings: what holds for every partition.
        now_ms: the time in epoch milliseconds.
        run: calls a function in a thread and fires with its result; the default calls it in place.

    Attributes:
        opening: called before each log is opened while all are loaded, if anything is.
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
        self.configs = configs
        self.limits = limits
        self.strays: set[TopicPartition] = set()
        self.opening: Callable[[], None] | None = None
        self.limits_met: Counter[str] = Counter()
        self.controller: Controller | None = None
        self.followed: Callable[[], Deferred[None]] | None = None
        self._store = store
        self._metadata = metadata
        self._placement = placement
        self._partition_settings = partition_settings
        self._reactor = reactor
        self._now_ms = now_ms
        self._run = run
        self._topics: dict[str, Topic] = {}
        self._by_id: dict[UUID, Topic] = {}
        self._alike: dict[str, set[str]] = {}  # names by what is left of them in the names of metrics
        self._partitions: dict[str, list[_Slot]] = {}
        self._led: dict[str, list[PartitionService | None]] = {}  # of topics that were asked for
        self._coming: dict[str, int] = {}
        self._to_remove: dict[str, tuple[str, int]] = {}
        self._locks: dict[str, DeferredLock] = {}
        self._opening = DeferredLock()
        self._deleted_at: dict[str, float] = {}
        self._deleted_callbacks: list[Callable[[str], None]] = []
        self._retention = LoopingCall(self._start_sweep)
        self._retention.clock = reactor
        self._slice: Any = None
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
        self._to_remove = {
            key: (str(row["name"]), int(row["partitions"]))
            for key, row in self._metadata.rows(_DELETED).items()
        }
        topics = [topic_from_row(name, row) for name, row in self._metadata.rows(TOPICS_TABLE).items()]
        total = sum(topic.partitions for topic in topics)
        if told is not None:
            opened = count()
            self.opening = lambda: told(next(opened), total)
        for topic in topics:
            self._publish(topic, self._open_logs(topic, 0, topic.partitions))
        self.opening = None
        leftovers = {
            (TopicPartition(name, index), UUID(hex=key))
            for key, (name, partitions) in self._to_remove.items()
            for index in range(partitions)
        }
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
        for key, (name, partitions) in list(self._to_remove.items()):
            known = self._topics.get(name)
            first = 0 if known is None else known.partitions
            all_gone = [TopicPartition(name, index) for index in range(first, partitions)]
            gone = [one for one in all_gone if self._placement.leader(one).id == self._placement.me.id]
            self._serialised(name, partial(self._remove_logs, key, gone)).addErrback(_log_failure)
        interval_s = self.limits.retention_check_interval_ms / 1000
        self._retention.start(interval_s, now=False).addErrback(_log_failure)
        self._reopen_later()

    def stopService(self) -> Deferred[None]:
        """Refuse new batches, let accepted ones reach the disk, answer everybody; fire when done."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._retention.running:
            self._retention.stop()
        if self._slice is not None and self._slice.active():
            self._slice.cancel()
        if self._reopening is not None and self._reopening.active():
            self._reopening.cancel()
        serving = self._serving()
        for partition in serving:
            partition.refuse(_shutting_down)
        flushed = DeferredList([partition.log.flush() for partition in serving], consumeErrors=True)

        def close(results: list[tuple[bool, Any]]) -> None:
            for (good, result), partition in zip(results, serving, strict=True):
                if good:
                    partition.settle()
                else:
                    _log.failure("flush-failed", failure=result, partition=str(partition.topic_partition))
                partition.close(_shutting_down)

        return flushed.addCallback(close)

    # --- asking -------------------------------------------------------------------------------------

    def get(self, name: str) -> Topic | None:
        """Return a topic by name."""
        return self._topics.get(name)

    def get_by_id(self, topic_id: UUID) -> Topic | None:
        """Return a topic by id."""
        return self._by_id.get(topic_id)

    def all(self) -> Sequence[Topic]:
        """Return every topic, by name."""
        return [self._topics[name] for name in sorted(self._topics)]

    @property
    def all_names(self) -> Collection[str]:
        """The names of all topics, as they are now and will be; not to be kept."""
        return self._topics.keys()

    @property
    def backlog(self) -> Backlog:
        """What all partitions together have queued."""
        return self._partition_settings.backlog

    def out_of_order(self, name: str) -> int:
        """Return how many partitions of a topic there are here whose logs cannot be used."""
        slots = self._partitions.get(name, ())
        return sum(isinstance(one, StorageError) or _is_broken(one) for one in slots)

    def partition(self, topic: str, index: int) -> PartitionService:
        """Return a partition that this node leads.

        Raises:
            RequestError: UNKNOWN_TOPIC or UNKNOWN_PARTITION.
            StateError: NOT_LEADER.
            StorageError: its log is out of order.
        """
        partitions = self._partitions.get(topic)
        if partitions is None:
            raise _unknown_topic(topic)
        if not 0 <= index < len(partitions):
            raise RequestError(
                ErrorCode.UNKNOWN_PARTITION,
                f"topic {topic} has partitions 0 to {len(partitions) - 1}, not {index}",
                retriable=True,
            )
        found = partitions[index]
        if isinstance(found, PartitionService):
            return found
        if found is None:
            raise StateError(
                ErrorCode.NOT_LEADER, f"another node leads partition {index} of {topic}", retriable=True
            )
        raise StorageError(found.code, found.message, retriable=found.retriable)

    def led(self, topic: str) -> Sequence[PartitionService | None]:
        """Return the partitions of a topic by number, those that serve here; see ``ITopicService``."""
        found = self._led.get(topic)
        if found is None:
            slots = self._partitions.get(topic, ())
            found = [one if isinstance(one, PartitionService) else None for one in slots]
            if slots:
                self._led[topic] = found
        return found

    def config(self, name: str, key: str) -> str:
        """Return one effective topic configuration value by Kafka's name, defaults included."""
        return self.configs.effective(self._known(name).configs, key)

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
        alike = self._alike.get(_plain(name))
        if alike:
            raise RequestError(
                ErrorCode.INVALID_TOPIC,
                f"topic name {name!r} differs from {min(alike)!r} in '.' and '_' only, which Kafka forbids",
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
        return self._serialised(name, lambda: self._create(name, partitions, configs or {}))

    def check_truncation(self, name: str) -> None:
        """See ``ITopicService.check_truncation``."""
        if self._known(name).internal:
            raise RequestError(ErrorCode.INVALID_TOPIC, f"topic {name} is the broker's own")
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
        return self._serialised(name, lambda: self._create_partitions(name, total))

    def delete(self, name: str) -> Deferred[None]:
        """Delete a topic and its data; fails with UNKNOWN_TOPIC.

        Data that cannot be removed is logged and tried again at the next start: the topic is gone.
        """
        if self.controller is not None:
            return self._ask(TopicChange.DELETE, name, 0, {}).addCallback(lambda _: None)
        return self._serialised(name, lambda: self._delete(name))

    def set_configs(self, name: str, configs: Mapping[str, str]) -> Deferred[Topic]:
        """Replace what is set on a topic; fails with UNKNOWN_TOPIC or INVALID_CONFIG."""
        return self._serialised(name, lambda: self._set_configs(name, configs))

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
            changed.update(name for name, _ in self._to_remove.values())
        aside = len(changed) > _FOLLOWED_AT_ONCE
        following = [
            self._serialised(name, partial(self._follow_row, name, aside)) for name in sorted(changed)
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
        opened = await self._opened(topic, first, topic.partitions, aside=aside)
        self._publish(topic, [*kept, *opened])
        if any(map(_may_reopen, opened)):
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
            opened = await self._open_new(topic, 0, partitions, Change(TOPICS_TABLE, name, None))
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
            opened = await self._open_new(topic, former.partitions, total, undo)
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
        key = topic.id.hex
        tombstone = {"name": name, "partitions": topic.partitions}
        await self._metadata.write([Change(TOPICS_TABLE, name, None), Change(_DELETED, key, tombstone)])
        await self._retire(topic)

    async def _retire(self, topic: Topic) -> None:
        """Let go of a topic whose row is gone, and remove its logs."""
        name, key = topic.name, topic.id.hex
        partitions = self._partitions.pop(name)
        self._forget_led(name)
        del self._topics[name], self._by_id[topic.id]
        self._alike[_plain(name)].discard(name)
        if not self._alike[_plain(name)]:
            del self._alike[_plain(name)]
        self._remember_deletion(name)
        for partition in partitions:
            if isinstance(partition, PartitionService):
                partition.close(lambda: _unknown_topic(name))
        for callback in self._deleted_callbacks:
            try:
                callback(name)
            except Exception:  # noqa: BLE001 - the deletion is committed and must be finished
                _log.failure("deleted-callback-failed", topic=name)
        self._to_remove[key] = (name, topic.partitions)
        gone = [TopicPartition(name, i) for i, one in enumerate(partitions) if one is not None]
        await self._remove_logs(key, gone)

    def deleted_lately(self, name: str) -> bool:
        """See ``ITopicService.deleted_lately``."""
        at = self._deleted_at.get(name)
        return at is not None and self._reactor.seconds() - at < _LATELY_SECONDS

    def _remember_deletion(self, name: str) -> None:
        now = self._reactor.seconds()
        self._deleted_at.pop(name, None)
        self._deleted_at[name] = now
        for other, at in list(islice(self._deleted_at.items(), 2)):
            if now - at >= _LATELY_SECONDS:
                del self._deleted_at[other]

    async def _remove_logs(self, key: str, gone: Sequence[TopicPartition]) -> None:
        results = await DeferredList([self._store.delete(one) for one in gone], consumeErrors=True)
        failed = [one for (good, _), one in zip(results, gone, strict=True) if not good]
        if failed:
            self.strays.update(failed)
            first = next(result for good, result in results if not good)
            _log.failure("delete-failed", failure=first, partitions=", ".join(map(str, failed[:10])))
            return
        if self.controller is not None:
            del self._to_remove[key]
            return
        if self.followed is not None:
            followed = self.followed()
            if not followed.called:
                followed.addCallback(lambda _: ensureDeferred(self._forget_removed(key)))
                return
        await self._forget_removed(key)

    async def _forget_removed(self, key: str) -> None:
        del self._to_remove[key]
        try:
            await self._metadata.write([Change(_DELETED, key, None)])
        except StorageError as error:
            _log.error("delete-unfinished", error=error.message)

    # --- logs ---------------------------------------------------------------------------------------

    def _reopen_later(self) -> None:
        if self._reopening is not None and self._reopening.active():
            return
        names = [name for name, slots in self._partitions.items() if any(map(_may_reopen, slots))]
        if names:
            self._reopening = self._reactor.callLater(_REOPENING_SECONDS, self._reopen_all, names)

    def _reopen_all(self, names: Sequence[str]) -> None:
        done = DeferredList(
            [self._serialised(name, partial(self._reopen, name)).addErrback(_log_failure) for name in names]
        )
        done.addCallback(lambda _: self._reopen_later() if self.running else None)

    async def _reopen(self, name: str) -> None:
        """Open what could not be opened: the disk may have room again, or the process descriptors."""
        topic = self._topics.get(name)
        if topic is None:
            return
        slots = list(self._partitions[name])
        for index, slot in enumerate(slots):
            if not (self.running and _may_reopen(slot)):
                continue
            (opened,) = await self._opened(topic, index, index + 1, aside=True, failed=slot)
            if isinstance(opened, PartitionService):
                if not self.running:  # stopped meanwhile; the log belongs to the store, which closes it
                    opened.close(_shutting_down)
                    return
                _log.info("partition-available", partition=str(opened.topic_partition))
            slots[index] = opened
        if slots != self._partitions[name]:
            self._publish(attrs.evolve(topic), slots)

    def _open_logs(
        self, topic: Topic, first: int, end: int, failed: StorageError | None = None
    ) -> list[_Slot]:
        """Open logs, in any thread; ``failed`` is what it came to before, and is not told again."""
        opened: list[_Slot] = []
        policy = self.configs.policy(topic.configs)
        me = self._placement.me.id
        for index in range(first, end):
            topic_partition = TopicPartition(topic.name, index)
            if self._placement.leader(topic_partition).id != me:
                opened.append(None)
                continue
            partition = PartitionService(
                topic, index, policy, self._partition_settings, self._reactor, self._now_ms
            )
            if self.opening is not None:
                self.opening()
            try:
                partition.open(self._store)
            except StorageError as error:
                if failed is None or failed.message != error.message:
                    _log.error("partition-unavailable", partition=str(topic_partition), error=error.message)
                opened.append(error)
            else:
                opened.append(partition)
        return opened

    async def _opened(
        self, topic: Topic, first: int, end: int, *, aside: bool = False, failed: StorageError | None = None
    ) -> list[_Slot]:
        """Open logs, in another thread if they are many or ``aside`` says that others come with them."""
        if end - first <= _OPENED_AT_ONCE and not (aside or self._opening.locked):
            return self._open_logs(topic, first, end, failed)
        opened: list[_Slot] = await self._opening.run(self._run, self._open_logs, topic, first, end, failed)
        return opened

    async def _open_new(self, topic: Topic, first: int, end: int, undo: Change) -> list[_Slot]:
        """Make the logs of a committed row; if one fails, remove the others and take the row back."""
        opened = await self._opened(topic, first, end)
        error = next((one for one in opened if isinstance(one, StorageError)), None)
        if error is None:
            return opened
        await self._unmake(topic, first, opened)
        try:
            await self._metadata.write([undo])
        except StorageError as second:
            _log.error("create-not-undone", topic=topic.name, error=second.message)
        raise StorageError(error.code, error.message, retriable=error.retriable)

    async def _unmake(self, topic: Topic, first: int, opened: Sequence[_Slot]) -> None:
        """Remove what was made for ``topic``, and nothing that belongs to another."""
        try:
            ids = dict(self._store.partitions())
        except StorageError as error:
            _log.error("create-not-undone", topic=topic.name, error=error.message)
            ids = {}
        ours: list[TopicPartition] = []
        for index, one in enumerate(opened, first):
            which = TopicPartition(topic.name, index)
            if isinstance(one, PartitionService):
                one.close(_shutting_down)
                ours.append(which)
            elif one is not None and ids.get(which) == topic.id:
                ours.append(which)
        removed = await DeferredList([self._store.delete(which) for which in ours], consumeErrors=True)
        self.strays.update(which for (good, _), which in zip(removed, ours, strict=True) if not good)

    def follow(self, configs: TopicConfigs, partition_settings: PartitionSettings) -> None:
        """Go on with other defaults and other settings of partitions, which every topic obeys from now on."""
        changed = configs.defaults != self.configs.defaults
        self.configs = configs
        self._partition_settings = partition_settings
        for partition in self._serving():
            partition.settings = partition_settings
        if changed:
            for name, topic in list(self._topics.items()):
                # A new object, so that whoever remembers how the topic was configured looks again.
                self._publish(attrs.evolve(topic), self._partitions[name])

    def _publish(self, topic: Topic, partitions: list[_Slot]) -> None:
        policy = self.configs.policy(topic.configs)
        for partition in partitions:
            if isinstance(partition, PartitionService):
                partition.configure(topic, policy)
        self._topics[topic.name] = topic
        self._by_id[topic.id] = topic
        self._alike.setdefault(_plain(topic.name), set()).add(topic.name)
        self._partitions[topic.name] = partitions
        self._forget_led(topic.name)

    def _forget_led(self, name: str) -> None:
        led = self._led.pop(name, None)
        if led is not None:
            led.clear()

    def _serving(self) -> list[PartitionService]:
        return [
            one
            for partitions in self._partitions.values()
            for one in partitions
            if isinstance(one, PartitionService)
        ]

    def producer_epochs(self) -> dict[int, int]:
        """Return every producer that a log here knows, with its highest epoch."""
        found: dict[int, int] = {}
        for partition in self._serving():
            for producer in partition.describe_producers():
                known = found.get(producer.producer_id, -1)
                found[producer.producer_id] = max(known, producer.producer_epoch)
        return found

    # --- retention ----------------------------------------------------------------------------------

    def _start_sweep(self) -> None:
        if self._slice is None or not self._slice.active():
            self._sweep(iter(self._serving()))

    def _sweep(self, partitions: Iterator[PartitionService]) -> None:
        now_ms = self._now_ms()
        batch = list(islice(partitions, _RETENTION_SLICE))
        for partition in batch:
            try:
                partition.sweep(now_ms)
            except Exception:  # noqa: BLE001 - one bad log must not end retention for the others
                _log.failure("retention-failed", partition=str(partition.topic_partition))
        if len(batch) == _RETENTION_SLICE:
            self._slice = self._reactor.callLater(0, self._sweep, partitions)

    # --- small things -------------------------------------------------------------------------------

    def _known(self, name: str) -> Topic:
        topic = self._topics.get(name)
        if topic is None:
            raise _unknown_topic(name)
        return topic

    def _check_partition_limit(self, more: int) -> None:
        there = sum(map(len, self._partitions.values())) + sum(self._coming.values())
        if there + more > self.limits.max_partitions:
            self.limits_met["topics.max_partitions"] += 1
            raise StateError(
                ErrorCode.TOPIC_LIMIT,
                f"{more} more partitions: max_partitions is {self.limits.max_partitions}, {there} are in use",
            )

    def _refuse_leaving(self, name: str) -> None:
        """Refuse a name whose former topic another process has still to remove."""
        if self.followed is not None and any(name == one for one, _ in self._to_remove.values()):
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

    def _serialised(self, name: str, change: Callable[[], Coroutine[Any, Any, Any]]) -> Deferred[Any]:
        name = _plain(name)
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = DeferredLock()

        def forget(result: Any) -> Any:
            if not lock.locked and self._locks.get(name) is lock:
                del self._locks[name]
            return result

        return lock.run(lambda: ensureDeferred(change())).addBoth(forget)


def is_topic_name(name: str) -> bool:
    """Whether a topic may have this name."""
    return _NAME.fullmatch(name) is not None and name not in (".", "..")


def topic_row(topic: Topic) -> dict[str, Any]:
    """Return the value to be stored."""
    row: dict[str, Any] = {"id": topic.id.hex, "partitions": topic.partitions, "configs": dict(topic.configs)}
    if topic.internal:
        row["internal"] = True
    if topic.leader_epoch:
        row["leader_epoch"] = topic.leader_epoch
    return row


def topic_from_row(name: str, row: Any) -> Topic:
    """Return the topic that a row of the table tells of. Raises StorageError: it is no such row."""
    try:
        return Topic(
            name,
            UUID(hex=row["id"]),
            int(row["partitions"]),
            dict(row["configs"]),
            bool(row.get("internal")),
            int(row.get("leader_epoch", 0)),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StorageError(
            ErrorCode.STORAGE, f"metadata row {TOPICS_TABLE}/{name} is damaged: {error!r}", retriable=False
        ) from error


def _unknown_topic(name: str) -> BrokerError:
    return RequestError(ErrorCode.UNKNOWN_TOPIC, f"there is no topic {name[:249]!r}", retriable=True)


def _shutting_down() -> BrokerError:
    return StateError(ErrorCode.SHUTTING_DOWN, "the broker is shutting down", retriable=True)


def _log_failure(failure: Failure) -> None:
    _log.failure("topic-service-failed", failure=failure)


def _is_broken(slot: _Slot) -> bool:
    return isinstance(slot, PartitionService) and getattr(slot.log, "refusal", None) is not None


def _may_reopen(slot: _Slot) -> TypeGuard[StorageError]:
    return isinstance(slot, StorageError) and slot.retriable


def _plain(name: str) -> str:
    """Return what Kafka makes of a topic's name in names of metrics, where two must not be the same."""
    return name.replace(".", "_")
