"""Topics that were deleted: those whose logs may not all be gone, and those of the last moments.

Owns the metadata table ``deleted_topics``: a row is written with the deletion, and removed when all logs are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final
from uuid import UUID

from twisted.logger import Logger

from megabroker.core.topics.rows import DELETED_TABLE
from megabroker.errors import StorageError
from megabroker.interfaces import IMetadataStore
from megabroker.model import Change, Topic, TopicPartition

__all__ = ["Deletions"]

_log = Logger()

_LATELY_SECONDS: Final = 3.0


class Deletions:
    """See the module. A topic is known by its id here, as another of the same name may come.

    Args:
        seconds: the time, that never goes back.
    """

    def __init__(self, metadata: IMetadataStore, seconds: Callable[[], float]) -> None:
        self._metadata = metadata
        self._seconds = seconds
        self._unfinished: dict[str, tuple[str, int]] = {}
        self._at: dict[str, float] = {}

    def load(self) -> None:
        """Read which were not finished. Blocking. Raises StorageError."""
        self._unfinished = {
            key: (str(row["name"]), int(row["partitions"]))
            for key, row in self._metadata.rows(DELETED_TABLE).items()
        }

    def unfinished(self) -> Iterator[tuple[str, str, int]]:
        """Yield id, name and number of partitions of those whose logs are not all gone."""
        for key, (name, partitions) in list(self._unfinished.items()):
            yield key, name, partitions

    def leftovers(self) -> set[tuple[TopicPartition, UUID]]:
        """Return the logs that may be left of these, with the ids of their topics."""
        return {
            (TopicPartition(name, index), UUID(hex=key))
            for key, (name, partitions) in self._unfinished.items()
            for index in range(partitions)
        }

    def is_unfinished(self, name: str) -> bool:
        """Whether logs of a topic of this name may be left."""
        return any(name == one for one, _ in self._unfinished.values())

    def begun(self, topic: Topic) -> Change:
        """Return the row that remembers a deletion, to be written with it."""
        return Change(DELETED_TABLE, topic.id.hex, {"name": topic.name, "partitions": topic.partitions})

    def add(self, topic: Topic) -> None:
        """Take note that a topic is gone, and its logs are not yet."""
        self._unfinished[topic.id.hex] = (topic.name, topic.partitions)
        now = self._seconds()
        self._at.pop(topic.name, None)
        self._at[topic.name] = now
        for other, at in list(islice(self._at.items(), 2)):
            if now - at >= _LATELY_SECONDS:
                del self._at[other]

    def lately(self, name: str) -> bool:
        """See ``ITopicService.deleted_lately``."""
        at = self._at.get(name)
        return at is not None and self._seconds() - at < _LATELY_SECONDS

    def forget(self, key: str) -> None:
        """Take note that all logs are gone that were here; the row is another process's."""
        del self._unfinished[key]

    async def finish(self, key: str) -> None:
        """Take note that all logs are gone, and remove the row."""
        del self._unfinished[key]
        try:
            await self._metadata.write([Change(DELETED_TABLE, key, None)])
        except StorageError as error:
            _log.error("delete-unfinished", error=error.message)
