"""KeepSharePartitions (1017, between processes): the coordinator's word on share partitions kept here.

**Behaviour.** Changes are answered when they are stored. The coordinator has seen to it that the group has no
members. A change that lay unread while a later one was made is not carried out: the group may be another by
now.
"""

from __future__ import annotations

from uuid import UUID

from megabroker.errors import BrokerError
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.schema import keep_share_partitions
from megabroker.protocols.kafka.schema.keep_share_partitions import BEGIN, DESCRIBE
from megabroker.protocols.kafka.schema.told_error import told

__all__ = ["handle"]

_Partition = keep_share_partitions.Response.Partition


async def handle(context: Context, request: keep_share_partitions.Request) -> keep_share_partitions.Response:
    """Answer when it is done."""
    shares = context.broker.shares
    keeper = shares.partitions
    group_id, named = request.group_id, request.partitions
    if named is None:
        places = keeper.places(group_id)
    else:
        places = [(UUID(bytes=bytes(one.topic_id)), one.index) for one in named]
    try:
        if request.action == DESCRIBE:
            found = {place: keeper.offset(group_id, place) for place in places}
            return keep_share_partitions.Response(
                partitions=[
                    _Partition(
                        topic_id=topic_id.bytes,
                        index=index,
                        start_offset=one.start_offset,
                        leader_epoch=one.leader_epoch,
                        lag=one.lag,
                    )
                    for (topic_id, index), one in found.items()
                ]
            )
        known = shares.number(group_id, request.number)
        if known > request.number:
            return keep_share_partitions.Response(number=known)
        if request.action == BEGIN:
            offsets = [one.start_offset for one in named or ()]
            await keeper.begin_at(group_id, dict(zip(places, offsets, strict=True)))
        else:
            if named is None:
                shares.gone(group_id)
            await keeper.forget(group_id, places)
    except BrokerError as error:
        return keep_share_partitions.Response(error=told(error))
    return keep_share_partitions.Response()
