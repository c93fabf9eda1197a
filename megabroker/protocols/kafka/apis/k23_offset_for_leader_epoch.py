"""OffsetForLeaderEpoch (23): where a leader's time ended, for clients that look for truncation (KIP-320).

**Behaviour.** Answers the greatest epoch not after the one asked for, and the offset after its last record;
for the current epoch that is the high watermark, below which nothing is taken back. An epoch that is not
known has -1 for both.

**Version notes.** All served versions say the same; 3 adds the replica id, which makes no difference.
"""

from __future__ import annotations

from megabroker.errors import BrokerError
from megabroker.interfaces import IPartition
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import kafka_error
from megabroker.protocols.kafka.leaders import check_leader_epoch
from megabroker.protocols.kafka.schema import offset_for_leader_epoch

__all__ = ["handle"]

_UNKNOWN = -1, -1

_Topic = offset_for_leader_epoch.Response.Topic
_Partition = offset_for_leader_epoch.Response.Topic.Partition


def handle(context: Context, request: offset_for_leader_epoch.Request) -> offset_for_leader_epoch.Response:
    """Answer at once."""
    response = offset_for_leader_epoch.Response()
    for topic in request.topics:
        rows: list[_Partition] = []
        response.topics.append(_Topic(topic=topic.topic, partitions=rows))
        for wanted in topic.partitions:
            row = _Partition(partition=wanted.partition)
            rows.append(row)
            try:
                partition = context.broker.topics.partition(topic.topic, wanted.partition)
                check_leader_epoch(partition, wanted.current_leader_epoch)
                row.leader_epoch, row.end_offset = _end_of(partition, wanted.leader_epoch)
            except BrokerError as error:
                row.error_code = kafka_error(error)
    return response


def _end_of(partition: IPartition, leader_epoch: int) -> tuple[int, int]:
    if leader_epoch < 0 or leader_epoch > partition.leader_epoch:
        return _UNKNOWN
    if leader_epoch == partition.leader_epoch:
        return leader_epoch, partition.high_watermark
    epoch, end_offset = partition.log.epoch_end_offset(leader_epoch)
    return _UNKNOWN if epoch < 0 else (epoch, min(end_offset, partition.high_watermark))
