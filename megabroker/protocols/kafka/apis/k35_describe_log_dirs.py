"""DescribeLogDirs (35): the size of partitions on disk.

**Behaviour.** The directories are those of the broker's configuration, and each is answered even when it has
nothing of what was asked for. Null topics ask for all partitions that this node leads; those it does not
lead, and unknown ones, are left out. Nothing moves between directories, so no partition lags.

**Version notes.** 3 adds an error for the whole answer, 4 the size of the volume; -1 where there is none. 5
says whether new replicas are kept away; they are not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable

from megabroker.config.schema import Config
from megabroker.errors import BrokerError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import describe_log_dirs

__all__ = ["data_directories", "handle", "place_of"]

_Dir = describe_log_dirs.Response.LogDir
_Topic = describe_log_dirs.Response.LogDir.Topic
_Partition = describe_log_dirs.Response.LogDir.Topic.Partition

_FIRST_WITH_VOLUME = 4


def handle(context: Context, request: describe_log_dirs.Request) -> describe_log_dirs.Response:
    """Answer at once."""
    wanted: dict[str, Iterable[int]] = {}
    if request.topics is None:
        wanted = {topic.name: range(topic.partitions) for topic in context.broker.topics.all()}
    else:
        for one in request.topics:
            wanted[one.topic] = dict.fromkeys((*wanted.get(one.topic, ()), *one.partitions))
    found = {place: _Dir(log_dir=place) for place in data_directories(context.broker.settings)}
    for name, which in wanted.items():
        for place, rows in _partitions(context, name, which).items():
            found[place].topics.append(_Topic(name=name, partitions=rows))
    if context.version >= _FIRST_WITH_VOLUME:
        for row in found.values():
            row.total_bytes, row.usable_bytes = _volume(row.log_dir)
    return describe_log_dirs.Response(results=list(found.values()))


def data_directories(settings: Config) -> list[str]:
    """Return the directories of this node as absolute paths, the main one first."""
    return [os.path.abspath(path) for path in (settings.data_dir, *settings.more_data_dirs)]


def place_of(context: Context, topic: str, index: int) -> tuple[str, int]:
    """Return where a partition is and how many bytes it has. Raises BrokerError."""
    log = context.broker.topics.partition(topic, index).log
    return log.place or data_directories(context.broker.settings)[0], log.size_bytes


def _partitions(context: Context, topic: str, indexes: Iterable[int]) -> dict[str, list[_Partition]]:
    rows: dict[str, list[_Partition]] = {}
    for index in indexes:
        try:
            place, size_bytes = place_of(context, topic, index)
        except BrokerError:
            continue
        rows.setdefault(place, []).append(_Partition(partition_index=index, partition_size=size_bytes))
    return rows


def _volume(place: str) -> tuple[int, int]:
    try:
        usage = shutil.disk_usage(place)
    except OSError:
        return -1, -1
    return usage.total, usage.free
