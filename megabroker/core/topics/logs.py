"""Opening the logs of topics, and taking back those of a topic that could not be made whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure

from megabroker.core.partitions import PartitionService, PartitionSettings
from megabroker.core.topic_configs import TopicConfigs
from megabroker.core.topics.table import Slot
from megabroker.errors import BrokerError, ErrorCode, StateError, StorageError
from megabroker.interfaces import ILogStore, IMetadataStore, IPlacement
from megabroker.model import Change, Topic, TopicPartition

__all__ = ["Runner", "TopicLogs", "shutting_down"]

_log = Logger()

_AT_ONCE: Final = 16

Runner = Callable[..., Deferred[Any]]
"""Calls a function in a thread and fires with its result."""


class TopicLogs:
    """The logs in the store, as topics need them.

    Args:
        configs: what topics are like by default; assigned anew when that changes.
        settings: what holds for every partition; assigned anew, too.
        now_ms: the time in epoch milliseconds.

    Attributes:
        opening: called before each log is opened, if anything is.
        strays: partitions found in the store that no topic explains.
    """

    def __init__(
        self,
        store: ILogStore,
        metadata: IMetadataStore,
        placement: IPlacement,
        configs: TopicConfigs,
        settings: PartitionSettings,
        reactor: Any,
        now_ms: Callable[[], int],
        run: Runner,
    ) -> None:
        self.configs = configs
        self.settings = settings
        self.opening: Callable[[], None] | None = None
        self.strays: set[TopicPartition] = set()
        self._store = store
        self._metadata = metadata
        self._placement = placement
        self._reactor = reactor
        self._now_ms = now_ms
        self._run = run
        self._turn = DeferredLock()

    def open(self, topic: Topic, first: int, end: int, failed: StorageError | None = None) -> list[Slot]:
        """Open logs, in any thread; ``failed`` is what it came to before, and is not told again."""
        opened: list[Slot] = []
        policy = self.configs.policy(topic.configs)
        me = self._placement.me.id
        for index in range(first, end):
            topic_partition = TopicPartition(topic.name, index)
            if self._placement.leader(topic_partition).id != me:
                opened.append(None)
                continue
            partition = PartitionService(topic, index, policy, self.settings, self._reactor, self._now_ms)
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

    async def opened(
        self, topic: Topic, first: int, end: int, *, aside: bool = False, failed: StorageError | None = None
    ) -> list[Slot]:
        """Open logs, in another thread if they are many or ``aside`` says that others come with them."""
        if end - first <= _AT_ONCE and not (aside or self._turn.locked):
            return self.open(topic, first, end, failed)
        opened: list[Slot] = await self._turn.run(self._run, self.open, topic, first, end, failed)
        return opened

    async def make(self, topic: Topic, first: int, end: int, undo: Change) -> list[Slot]:
        """Make the logs of a committed row; if one fails, remove the others and take the row back."""
        opened = await self.opened(topic, first, end)
        error = next((one for one in opened if isinstance(one, StorageError)), None)
        if error is None:
            return opened
        await self._unmake(topic, first, opened)
        try:
            await self._metadata.write([undo])
        except StorageError as second:
            _log.error("create-not-undone", topic=topic.name, error=second.message)
        raise StorageError(error.code, error.message, retriable=error.retriable)

    async def _unmake(self, topic: Topic, first: int, opened: Sequence[Slot]) -> None:
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
                one.close(shutting_down)
                ours.append(which)
            elif one is not None and ids.get(which) == topic.id:
                ours.append(which)
        await self.remove(ours)

    async def remove(self, gone: Sequence[TopicPartition]) -> list[tuple[TopicPartition, Failure]]:
        """Remove logs; return those that could not be, which are strays from now on, and why."""
        removing = [self._store.delete(one) for one in gone]
        results: list[tuple[bool, Any]] = await DeferredList(removing, consumeErrors=True)
        failed = [(one, why) for (good, why), one in zip(results, gone, strict=True) if not good]
        self.strays.update(one for one, _ in failed)
        return failed


def shutting_down() -> BrokerError:
    """Return the refusal of what is asked while the broker stops."""
    return StateError(ErrorCode.SHUTTING_DOWN, "the broker is shutting down", retriable=True)
