"""DescribeLogDirs (35): the size of partitions on disk.

**Behaviour.** There is one directory, that of the broker's configuration, and it is answered even when it
has nothing of what was asked for. Null topics ask for all partitions that this node leads; those it does
not lead, and unknown ones, are left out. Nothing moves between directories, so no partition lags.

**Version notes.** 3 adds an error for the whole answer, 4 the size of the volume; -1 where there is none. 5
says whether new replicas are kept away; they are not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable

from megabroker.errors import BrokerError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import describe_log_dirs

__all__ = ["handle"]

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
    rows = (_Topic(name=name, partitions=_partitions(context, name, which)) for name, which in wanted.items())
    place = os.path.abspath(context.broker.settings.data_dir)
    found = _Dir(log_dir=place, topics=[row for row in rows if row.partitions])
    if context.version >= _FIRST_WITH_VOLUME:
        found.total_bytes, found.usable_bytes = _volume(place)
    return describe_log_dirs.Response(results=[found])


def _partitions(context: Context, topic: str, indexes: Iterable[int]) -> list[_Partition]:
    rows = []
    for index in indexes:
        try:
            partition = context.broker.topics.partition(topic, index)
        except BrokerError:
            continue
        rows.append(_Partition(partition_index=index, partition_size=partition.log.size_bytes))
    return rows


def _volume(place: str) -> tuple[int, int]:
    try:
        usage = shutil.disk_usage(place)
    except OSError:
        return -1, -1
    return usage.total, usage.free
