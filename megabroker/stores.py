"""The stores of a broker, as its configuration asks for them.

Owns their choice, and what several workers need done for all of them together: one process, which starts
them, locks the data directories, checks what is in them, and deals out to each worker what it goes by.
Imports what it makes when it makes it: whoever only supervises needs little of it.
"""

from __future__ import annotations

import base64
import os
import pathlib
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple
from uuid import uuid4

from megabroker.config.schema import Config, Storage
from megabroker.core.placement import leader_index
from megabroker.errors import ErrorCode, StateError
from megabroker.interfaces import IWindowStore
from megabroker.model import TopicPartition, Worker
from megabroker.net.turns import Turns
from megabroker.ops.descriptors import spare_descriptors

__all__ = ["SharedDirectories", "Stores", "cleaner_settings", "make_stores", "new_cluster_id"]

_DEDUP_DIRECTORY = "dedup"
_KAFKA_METADATA = "__cluster_metadata-0"
_LONGEST_SOCKET_BYTES = 107


class Stores(NamedTuple):
    """What one process keeps things in; not open yet.

    Attributes:
        logs: an ``ILogStore``.
        metadata: an ``IMetadataStore``.
        journal: of the deduplication window; None keeps it in memory.
    """

    logs: Any
    metadata: Any
    journal: IWindowStore | None


def make_stores(config: Config, reactor: Any, turns: Turns, worker: Worker | None) -> Stores:
    """Make the stores of a process. Raises StateError."""
    if config.storage is Storage.MEMORY:
        return _in_memory(config, reactor, turns)
    from megabroker.storage.metadata.database import METADATA_FILE
    from megabroker.storage.metadata.sqlite import SqliteMetadataStore
    from megabroker.storage.shares import Share
    from megabroker.storage.store import LocalLogStore

    share = None
    if worker is not None:
        share = Share(str(worker.me.id), partial(_leads, worker.index, len(worker.nodes)))
    logs = LocalLogStore(
        str(config.data_dir),
        reactor,
        partial(reactor.callFromThread, turns.run),
        config.durability,
        cluster_id=_cluster_id(config),
        new_cluster_id=new_cluster_id,
        node_id=config.node.id if worker is None else None,
        more_dirs=[str(path) for path in config.more_data_dirs],
        max_open_files=spare_descriptors(config.limits.max_connections),
        call_soon=turns.write_at_end,
        cleaner=cleaner_settings(config),
        share=share,
        scrub_bytes_per_second=config.scrub_bytes_per_second,
    )
    path = config.data_dir / METADATA_FILE
    metadata = SqliteMetadataStore(path, config.durability, reactor, shared=worker is not None)
    _refuse_unread_kafka(config)
    return Stores(logs, metadata, _journal(config, worker))


def _journal(config: Config, worker: Worker | None) -> IWindowStore:
    """Return the journal of this process, which knows those of the others, or of more there once were."""
    from megabroker.storage.window import FileWindowStore

    place = config.data_dir / _DEDUP_DIRECTORY
    mine = place if worker is None else place / str(worker.me.id)

    def beside() -> list[pathlib.Path]:
        return [path for path in (place, *place.glob("*/")) if path != mine and path.is_dir()]

    return FileWindowStore(mine, config.dedup.window_ms, beside)


def _in_memory(config: Config, reactor: Any, turns: Turns) -> Stores:
    from megabroker.storage.memory import MemoryLogStore
    from megabroker.storage.metadata.memory import MemoryMetadataStore

    logs = MemoryLogStore(
        turns.write_at_end, reactor.seconds, reactor.callFromThread, cleaner_settings(config)
    )
    return Stores(logs, MemoryMetadataStore(reactor), None)


def _leads(index: int, workers: int, partition: TopicPartition) -> bool:
    return leader_index(partition, workers) == index


class SharedDirectories:
    """The data directories of several workers, held by the process that starts them.

    Args:
        node_ids: of the workers.

    Attributes:
        sockets: where each worker takes the requests of the others, known when open.
    """

    sockets: tuple[str, ...]

    def __init__(self, config: Config, node_ids: Sequence[int], reactor: Any) -> None:
        from megabroker.storage.directories import DataDirectories
        from megabroker.storage.files import Files

        self._config = config
        self._reactor = reactor
        self._names = [str(node_id) for node_id in node_ids]
        paths = [config.data_dir, *config.more_data_dirs]
        self._directories = DataDirectories(
            Files(), [str(path) for path in paths], _cluster_id(config), config.node.id, new_cluster_id
        )

    @property
    def descriptors(self) -> list[int]:
        """What holds the locks; the workers have them too, so that none is outlived by another broker."""
        return self._directories.descriptors

    def open(self) -> None:
        """Lock, check and deal out all there is. Blocking.

        Raises:
            DataDirectoryLocked: another broker, or what is left of one, has them.
            StorageError, StateError: they cannot be used.
        """
        from megabroker.storage.files import storage_error
        from megabroker.storage.metadata.database import METADATA_FILE
        from megabroker.storage.metadata.sqlite import SqliteMetadataStore

        config, directories = self._config, self._directories
        self.sockets = self._socket_paths()
        refused = directories.release
        try:
            directories.take(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
            _refuse_unread_kafka(config)
            known = directories.prepare()
            refused = self._give_back
            directories.deal(known, self._names, self._owner)
            os.chmod(os.path.dirname(self.sockets[0]), 0o700)
            SqliteMetadataStore(config.data_dir / METADATA_FILE, config.durability, self._reactor).prepare()
        except OSError as caught:
            refused()
            raise storage_error("cannot use data directory", str(config.data_dir), caught) from caught
        except BaseException:
            refused()
            raise

    def keep_room(self, *, sparing: bool = True) -> None:
        """Keep room on the disks for the next start, if there is plenty, or not ``sparing``."""
        from megabroker.storage.files import Files
        from megabroker.storage.shares import keep_room

        keep_room(Files(), self._directories.paths, len(self._names), sparing=sparing)

    def _give_back(self) -> None:
        self.keep_room(sparing=False)
        self._directories.release()

    def _socket_paths(self) -> tuple[str, ...]:
        from megabroker.storage.shares import WORKERS

        place = os.path.join(os.path.abspath(self._config.data_dir), WORKERS)
        found = tuple(f"{place}/{name}.sock" for name in self._names)
        longest = max(len(os.fsencode(one)) for one in found)
        if longest > _LONGEST_SOCKET_BYTES:
            raise StateError(
                ErrorCode.INVALID_CONFIG,
                f"data_dir {self._config.data_dir}: workers meet at Unix sockets in it, whose path is "
                f"{longest} bytes long: expected at most {_LONGEST_SOCKET_BYTES}, so a shorter data_dir, "
                "or workers: 1",
            )
        return found

    def _owner(self, partition: TopicPartition) -> str:
        return self._names[leader_index(partition, len(self._names))]

    def close(self) -> None:
        """Gather what the workers, which have ended, have left, and unlock. Raises OSError."""
        try:
            self._directories.collect()
        finally:
            self._give_back()


def _refuse_unread_kafka(config: Config) -> None:
    """Serve nothing out of Kafka's directory as if it were empty."""
    from megabroker.storage.metadata.database import METADATA_FILE

    place = config.data_dir
    if (place / _KAFKA_METADATA).exists() and not (place / METADATA_FILE).exists():
        raise StateError(
            ErrorCode.INVALID_CONFIG,
            f"data_dir {place} is a directory of Apache Kafka: expected --kafka-properties with its "
            "server.properties, or a new data_dir filled by megabroker import-kafka",
        )


def cleaner_settings(config: Config) -> Any:
    """Return how logs with keys are compacted, as the log stores take it."""
    from megabroker.storage.cleaner import CleanerSettings

    cleaner = config.cleaner
    return CleanerSettings(
        enabled=cleaner.enabled,
        interval_ms=cleaner.interval_ms,
        max_bytes_per_second=cleaner.max_bytes_per_second,
        dedupe_buffer_bytes=cleaner.dedupe_buffer_bytes,
    )


def _cluster_id(config: Config) -> str | None:
    return None if config.node.cluster_id == "auto" else config.node.cluster_id


def new_cluster_id() -> str:
    """Return the identity of a cluster that there has not been."""
    return base64.urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")
