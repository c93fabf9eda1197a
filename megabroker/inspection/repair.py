"""A directory made right as far as that can be: by opening every log as a start does, and reading all of it.

Owns the order of the steps and nothing of what a repair is: journals are replayed, tails cut, damage set
aside and derived files made anew by the code that does it when a broker starts. Before that, derived files
that were found to be wrong are removed. Nothing else is ever removed.
Afterwards everything is on the disk, and the directories are marked as closed in order.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from megabroker.core.producers import ProducerTable
from megabroker.core.topic_configs import TopicConfigs
from megabroker.errors import BrokerError, ErrorCode, StorageError
from megabroker.inspection.directories import Report
from megabroker.inspection.findings import Kind
from megabroker.interfaces import ILogListener
from megabroker.model import Durability, Topic, TopicPartition
from megabroker.storage.files import Files
from megabroker.storage.metadata.database import METADATA_FILE, set_aside
from megabroker.storage.segment import Damage
from megabroker.storage.store import LocalLogStore

__all__ = ["repair", "settle"]


@implementer(ILogListener)
class _Nobody:
    def progressed(self, written_offset: int, durable_offset: int) -> None:
        """Nothing waits for it."""

    def failed(self, from_offset: int, error: BrokerError) -> None:
        """Nothing was appended."""


class _Clock:
    """The time; nothing that is planned comes to pass."""

    def seconds(self) -> float:
        return time.time()

    def callLater(self, delay: float, call: Callable[[], None]) -> Any:
        return _Planned()


class _Planned:
    def cancel(self) -> None:
        """It would not have been called anyway."""


def repair(report: Report, told: Callable[[str], None]) -> None:
    """Repair what a check of our own directories has found. Blocking.

    Args:
        told: hears in words about each log that is opened.

    Raises:
        StorageError: something has to be decided by people first, or a file cannot be written; what was done
            until then is as a start would have done it.
        DataDirectoryLocked: a broker has one of the directories.
    """
    if report.metadata is None:
        raise _refused(
            f"{report.paths[0]} is not a directory of megabroker: only those are repaired; Apache Kafka "
            "repairs its own when it starts"
        )
    refused = [one for one in report.faults if one.kind is Kind.REFUSED]
    if not report.metadata.is_sound:
        refused += [one for one in report.metadata.findings if one.kind is Kind.LOST]
    if refused:
        raise _refused(f"nothing was repaired: {refused[0].path}: {refused[0].what}; {refused[0].right}")
    store = _store(report.paths, thorough=True)
    store.open()
    if report.metadata.damaged_rows:
        set_aside(report.paths[0] / METADATA_FILE, report.metadata.damaged_rows)
    _remove(report)
    # When that fails the store is left as a kill would leave it: a close would mark it as in order.
    _open_all(store, report.metadata.topics, told)
    _close(store)


def settle(
    path: pathlib.Path, topics: Mapping[str, Topic], told: Callable[[str], None]
) -> list[tuple[TopicPartition, Damage]]:
    """Open every log of our own directory as a start does after a kill, and close it in order. Blocking.

    Returns:
        What of them is damaged.

    Raises:
        StorageError: a file cannot be read or written.
        DataDirectoryLocked: a broker has the directory.
    """
    store = _store([path], thorough=False)
    store.open()
    damaged = _open_all(store, topics, told)
    _close(store)
    return damaged


def _store(paths: Sequence[pathlib.Path], *, thorough: bool) -> LocalLogStore:
    return LocalLogStore(
        str(paths[0]),
        _Clock(),
        lambda call: call(),
        Durability.FSYNC,
        more_dirs=[str(path) for path in paths[1:]],
        threaded=False,
        thorough=thorough,
    )


def _remove(report: Report) -> None:
    files = Files()
    try:
        for path in {path for one in report.findings for path in one.remove}:
            files.unlink(path)
    except OSError as error:
        raise _refused(f"cannot remove {error.filename}: {error.strerror}") from error


def _open_all(
    store: LocalLogStore,
    topics: Mapping[str, Topic],
    told: Callable[[str], None],
) -> list[tuple[TopicPartition, Damage]]:
    damaged: list[tuple[TopicPartition, Damage]] = []
    configs = TopicConfigs()
    for name, topic in sorted(topics.items()):
        settings = configs.policy(topic.configs).log
        for partition in range(topic.partitions):
            log = store.log(topic, partition, settings, _Nobody(), ProducerTable())
            told(f"{name}-{partition}: offsets {log.start_offset} to {log.next_offset}")
            damaged += [(log.topic_partition, one) for one in log.damaged]
    return damaged


def _close(store: LocalLogStore) -> None:
    closed: Deferred[None] = store.close()
    store.disk.pump()
    outcome: list[object] = []
    closed.addBoth(outcome.append)
    if not outcome:
        raise _refused("the logs could not be closed in order")
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()


def _refused(message: str) -> StorageError:
    return StorageError(ErrorCode.STORAGE, message, retriable=False)
