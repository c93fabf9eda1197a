"""ReadPartition (1014, between processes): records of a partition led here, for readers of other processes.

**Behaviour.** Whole batches from the one that holds the offset; what lies on the disk is waited for. How far
the partition is, is told with an error too: an offset out of range is one that the asker may know no better.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from megabroker.errors import BrokerError, Cold
from megabroker.interfaces import IPartition
from megabroker.protocols.kafka.apis.k1010_look_at_partitions import find, standing
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import read_partition
from megabroker.protocols.kafka.schema.told_error import told

__all__ = ["handle"]

_Aborted = read_partition.Response.Aborted


async def handle(context: Context, request: read_partition.Request) -> read_partition.Response:
    """Answer when what is wanted is in memory."""
    try:
        partition = find(context.broker, request.topic, request.topic_id, request.index)
    except BrokerError as error:
        return read_partition.Response(standing=standing(error), error=told(error))
    while request.offset >= 0:
        try:
            return _read(partition, request)
        except BrokerError as error:
            return read_partition.Response(standing=standing(partition), error=told(error))
        except Cold as cold:
            warm: Deferred[None] = Deferred()
            cold.when_room(lambda warm=warm: warm.callback(None))  # type: ignore[misc]
            await warm
    return read_partition.Response(standing=standing(partition))


def _read(partition: IPartition, request: read_partition.Request) -> read_partition.Response:
    found = partition.read(request.offset, request.max_bytes, committed=request.committed, cached_only=True)
    response = read_partition.Response(standing=standing(partition))
    if found.length:
        response.records = found.data
        if request.committed:
            end_offset = partition.log.end_of(found, cached_only=True)
            response.aborted = [
                _Aborted(
                    producer_id=one.producer_id,
                    first_offset=one.first_offset,
                    last_offset=one.last_offset,
                    last_stable_offset=one.last_stable_offset,
                )
                for one in partition.aborted_transactions(request.offset, end_offset)
            ]
    return response
