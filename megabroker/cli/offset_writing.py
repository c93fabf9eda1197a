"""Writing offsets of groups: committed ones for readers, the start of what share groups work on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from megabroker.cli.cluster import Cluster, Partition
from megabroker.cli.refusals import check
from megabroker.protocols.kafka.schema import alter_share_group_offsets, offset_commit

__all__ = ["commit", "write_offsets"]

_BY_NAME: Final = 9


def commit(
    cluster: Cluster,
    group: str,
    offsets: Mapping[Partition, int],
    member_id: str = "",
    epoch: int = -1,
) -> int:
    """Commit offsets, as a member or, without one, of a group that has none.

    Returns:
        0, or the first code that refuses it.

    Raises:
        StateError: unreachable.
    """
    row = offset_commit.Request.Topic.Partition
    topics = [
        offset_commit.Request.Topic(
            name=topic,
            partitions=[
                row(partition_index=number, committed_offset=offset, committed_metadata=None)
                for number, offset in some
            ],
        )
        for topic, some in _by_topic(offsets).items()
    ]
    request = offset_commit.Request(
        group_id=group, generation_id_or_member_epoch=epoch, member_id=member_id, topics=topics
    )
    answer = cluster.ask_coordinator(group, request, _worst, _BY_NAME)
    return _worst(answer)


def write_offsets(
    cluster: Cluster, group: str, offsets: Mapping[Partition, int], *, of_share_group: bool
) -> None:
    """Have a group without members go on at offsets. Raises RequestError, StateError."""
    if not of_share_group:
        check(commit(cluster, group, offsets), None, f"group {group}")
        return
    row = alter_share_group_offsets.Request.Topic.Partition
    topics = [
        alter_share_group_offsets.Request.Topic(
            topic_name=topic,
            partitions=[row(partition_index=number, start_offset=offset) for number, offset in some],
        )
        for topic, some in _by_topic(offsets).items()
    ]
    request = alter_share_group_offsets.Request(group_id=group, topics=topics)
    answer = cluster.ask_coordinator(group, request, lambda answer: int(answer.error_code))
    check(answer.error_code, answer.error_message, f"group {group}")
    for told in answer.responses:
        for one in told.partitions:
            check(one.error_code, one.error_message, f"{told.topic_name}/{one.partition_index}")


def _by_topic(offsets: Mapping[Partition, int]) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    for (topic, number), offset in sorted(offsets.items()):
        found.setdefault(topic, []).append((number, offset))
    return found


def _worst(answer: Any) -> int:
    codes = (int(one.error_code) for topic in answer.topics for one in topic.partitions)
    return next((code for code in codes if code), 0)
