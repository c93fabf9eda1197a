"""ListOffsets (2): offsets by time, and the ends of a log.

**Behaviour.** -1 is the end as the client sees it (high watermark, or last stable offset for
read_committed), -2 and -4 the start, -3 the record with the latest timestamp, -5 the end of tiered data and
-6 the first that waits to be tiered, of which there is none. A time gives the first record at or after it.
What lies beyond the end as the client sees it is not found; not found is offset -1 without an error. A
partition asked for twice is INVALID_REQUEST. What has to be read from the disk is waited for, by this request
alone.

**Version notes.** 0 answers with a list of at most ``max_num_offsets`` offsets, descending: the log's end
or the record found, then the log's start. 2 adds the isolation level, 4 leader epochs. -3 needs 7, -4 needs
8, -5 needs 9, -6 needs 11, other negative times are UNSUPPORTED_VERSION. The timeout of 10 is not needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from functools import partial
from typing import Final

from twisted.internet.defer import Deferred

from megabroker.errors import BrokerError, Cold, ErrorCode, RequestError
from megabroker.interfaces import IPartition
from megabroker.model import NO_LEADER_EPOCH, NO_TIMESTAMP, TimestampedOffset
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import kafka_error
from megabroker.protocols.kafka.leaders import check_leader_epoch
from megabroker.protocols.kafka.schema import list_offsets
from megabroker.protocols.kafka.topics import first_seen

__all__ = ["handle"]

_LATEST, _EARLIEST, _MAX_TIMESTAMP, _EARLIEST_LOCAL = -1, -2, -3, -4
_LATEST_TIERED, _EARLIEST_PENDING_UPLOAD = -5, -6

_SINCE: Final = {
    _LATEST: 0,
    _EARLIEST: 0,
    _MAX_TIMESTAMP: 7,
    _EARLIEST_LOCAL: 8,
    _LATEST_TIERED: 9,
    _EARLIEST_PENDING_UPLOAD: 11,
}

_READ_COMMITTED = 1
_NOT_FOUND: Final = TimestampedOffset(-1, NO_TIMESTAMP)

_Topic = list_offsets.Response.Topic
_Partition = list_offsets.Response.Topic.Partition
_Wanted = list_offsets.Request.Topic.Partition


def handle(
    context: Context, request: list_offsets.Request
) -> list_offsets.Response | Awaitable[list_offsets.Response]:
    """Answer at once if all that must be looked at is in memory."""
    response = list_offsets.Response()
    readings = _answer(context, request, response)
    cold = next(readings, None)
    return response if cold is None else _answer_later(cold, readings, response)


async def _answer_later(
    cold: Cold, readings: Iterator[Cold], response: list_offsets.Response
) -> list_offsets.Response:
    await _over(cold)
    for another in readings:
        await _over(another)
    return response


def _over(cold: Cold) -> Deferred[None]:
    over: Deferred[None] = Deferred()
    cold.when_room(partial(over.callback, None))
    return over


def _answer(
    context: Context, request: list_offsets.Request, response: list_offsets.Response
) -> Iterator[Cold]:
    """Fill in the response; yield what has to be read before it can go on."""
    topics = context.broker.topics
    committed = request.isolation_level == _READ_COMMITTED
    _, again = first_seen(
        (topic.name, wanted.partition_index) for topic in request.topics for wanted in topic.partitions
    )
    for topic in request.topics:
        rows: list[_Partition] = []
        response.topics.append(_Topic(name=topic.name, partitions=rows))
        for wanted in topic.partitions:
            row = _Partition(partition_index=wanted.partition_index)
            rows.append(row)
            is_open = True
            while is_open:
                is_open = False
                try:
                    if again and (topic.name, wanted.partition_index) in again:
                        raise RequestError(ErrorCode.INVALID_REQUEST, "the partition is asked for twice")
                    partition = topics.partition(topic.name, wanted.partition_index)
                    check_leader_epoch(partition, wanted.current_leader_epoch)
                    if context.version == 0:
                        row.old_style_offsets = _several(partition, wanted)
                    else:
                        found = _find(partition, wanted.timestamp, context.version, committed)
                        row.offset, row.timestamp, row.leader_epoch = found
                except Cold as cold:
                    is_open = True
                    yield cold
                except BrokerError as error:
                    row.error_code = kafka_error(error)


def _find(partition: IPartition, timestamp: int, version: int, committed: bool) -> TimestampedOffset:
    """Return what a timestamp stands for. Raises BrokerError."""
    if timestamp < 0 and version < _SINCE.get(timestamp, version + 1):
        raise RequestError(ErrorCode.UNSUPPORTED, f"timestamp {timestamp} in version {version}")
    end = partition.last_stable_offset if committed else partition.high_watermark
    if timestamp == _LATEST:
        return TimestampedOffset(end, NO_TIMESTAMP, partition.leader_epoch)
    if timestamp in (_EARLIEST, _EARLIEST_LOCAL):
        return TimestampedOffset(partition.start_offset, NO_TIMESTAMP, _first_epoch(partition))
    if timestamp in (_LATEST_TIERED, _EARLIEST_PENDING_UPLOAD):
        return _NOT_FOUND
    if timestamp == _MAX_TIMESTAMP:
        found = partition.log.latest_timestamp(cached_only=True)
    else:
        found = partition.log.offset_for_time(timestamp, cached_only=True)
    return _NOT_FOUND if found is None or found.offset >= end else found


def _first_epoch(partition: IPartition) -> int:
    """Return the epoch at the log's start where it is certain: a log in its first epoch has no other."""
    return NO_LEADER_EPOCH if partition.leader_epoch > 0 else partition.leader_epoch


def _several(partition: IPartition, wanted: _Wanted) -> list[int]:
    start = partition.start_offset
    if wanted.timestamp == _EARLIEST:
        offsets = [start]
    else:
        found = _find(partition, wanted.timestamp, 0, False)
        first = partition.high_watermark if found is _NOT_FOUND else found.offset
        offsets = [first] if first == start else [first, start]
    return offsets[: max(0, wanted.max_num_offsets)]
