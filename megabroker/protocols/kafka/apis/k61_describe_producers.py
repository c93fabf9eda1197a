"""DescribeProducers (61): the idempotent producers that partitions remember.

**Behaviour.** What each partition knows, open transactions included; a producer without a batch has a last
sequence of -1. A partition that cannot be asked is answered with its error.

**Version notes.** There is one version.
"""

from __future__ import annotations

from megabroker.errors import BrokerError
from megabroker.interfaces import IBroker
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import kafka_error
from megabroker.protocols.kafka.schema import describe_producers
from megabroker.protocols.kafka.topics import first_seen

__all__ = ["handle"]

_Topic = describe_producers.Response.Topic
_Partition = describe_producers.Response.Topic.Partition
_Producer = describe_producers.Response.Topic.Partition.ActiveProducer


def handle(context: Context, request: describe_producers.Request) -> describe_producers.Response:
    """Answer at once; a partition named twice is described once."""
    wanted: dict[str, list[int]] = {}
    for topic in request.topics:
        wanted.setdefault(topic.name, []).extend(topic.partition_indexes)
    return describe_producers.Response(
        topics=[
            _Topic(
                name=name,
                partitions=[_describe(context.broker, name, index) for index in first_seen(indexes)[0]],
            )
            for name, indexes in wanted.items()
        ]
    )


def _describe(broker: IBroker, topic: str, index: int) -> _Partition:
    row = _Partition(partition_index=index)
    try:
        producers = broker.topics.partition(topic, index).describe_producers()
    except BrokerError as error:
        row.error_code = kafka_error(error)
        row.error_message = error.message
        return row
    row.active_producers = [
        _Producer(
            producer_id=one.producer_id,
            producer_epoch=one.producer_epoch,
            last_sequence=one.last_sequence,
            last_timestamp=one.last_timestamp_ms,
            coordinator_epoch=one.coordinator_epoch,
            current_txn_start_offset=one.transaction_first_offset,
        )
        for one in producers
    ]
    return row
