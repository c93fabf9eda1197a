"""DeleteRecords (21): move the start of partitions forward.

**Behaviour.** Everything below the offset becomes unreadable at once, its files go with the next sweep. -1
means the high watermark; an offset beyond it, and any other negative one, is OFFSET_OUT_OF_RANGE; one
below the start changes nothing. The first offset still readable is answered. A topic that is only compacted
keeps its records: POLICY_VIOLATION. ``timeout_ms`` is not needed: there is nobody to wait for.

**Version notes.** All versions say the same; 2 is flexible.
"""

from __future__ import annotations

from typing import Final

from megabroker.errors import BrokerError
from megabroker.interfaces import IBroker
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import kafka_error
from megabroker.protocols.kafka.schema import delete_records

__all__ = ["handle"]

_HIGH_WATERMARK: Final = -1
_UNKNOWN: Final = -1

_Topic = delete_records.Response.Topic
_Row = delete_records.Response.Topic.Partition


def handle(context: Context, request: delete_records.Request) -> delete_records.Response:
    """Answer at once."""
    broker = context.broker
    return delete_records.Response(
        topics=[
            _Topic(
                name=topic.name,
                partitions=[
                    _delete(broker, topic.name, one.partition_index, one.offset) for one in topic.partitions
                ],
            )
            for topic in request.topics
            if topic.partitions
        ]
    )


def _delete(broker: IBroker, name: str, index: int, offset: int) -> _Row:
    row = _Row(partition_index=index, low_watermark=_UNKNOWN)
    try:
        partition = broker.topics.partition(name, index)
        broker.topics.check_truncation(name)
        before = partition.high_watermark if offset == _HIGH_WATERMARK else offset
        row.low_watermark = partition.delete_records(before)
    except BrokerError as error:
        row.error_code = kafka_error(error)
    return row
