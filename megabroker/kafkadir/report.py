"""What a takeover comes to, for people and for programs."""

from __future__ import annotations

from typing import Any

from megabroker.kafkadir.takeover import Kind, Takeover

__all__ = ["lines", "summary"]


def summary(takeover: Takeover, size_bytes: int) -> dict[str, Any]:
    """Return it as JSON-like values."""
    return {
        "cluster_id": takeover.cluster_id,
        "node_id": takeover.node_id,
        "topics": [
            {
                "name": topic.name,
                "id": str(topic.id),
                "partitions": topic.partitions,
                "configs": dict(topic.configs),
            }
            for topic in takeover.topics
        ],
        "partitions": sum(topic.partitions for topic in takeover.topics),
        "partitions_with_data": len(takeover.replicas),
        "bytes": size_bytes,
        "groups": sorted({*takeover.groups, *takeover.offsets}),
        "group_offsets": sum(map(len, takeover.offsets.values())),
        "transactional_ids": len(takeover.transactions),
        "aborted_transactions": takeover.aborted,
        "next_producer_id": takeover.next_producer_id,
        "findings": [{"kind": one.kind.value, "text": one.text} for one in takeover.findings],
    }


def lines(takeover: Takeover, size_bytes: int) -> list[str]:
    """Return it as lines of text."""
    found = summary(takeover, size_bytes)
    plain = sum("retention.ms" not in topic.configs for topic in takeover.topics)
    partitions, offsets = found["partitions"], found["group_offsets"]
    rows = {
        "cluster": f"{takeover.cluster_id}, node {takeover.node_id}",
        "topics": f"{len(takeover.topics)} with {partitions} partitions, {size_bytes / (1 << 20):,.1f} MiB",
        "groups": f"{len(found['groups'])} with {offsets} committed offsets",
        "transactional ids": f"{len(takeover.transactions)}, open ones aborted: {len(takeover.aborted)}",
        "producer ids": f"go on at {takeover.next_producer_id}",
    }
    told = [f"{name:18} {text}" for name, text in rows.items()]
    told += [
        f"{kind.value + ':':18} {one.text}" for kind in Kind for one in takeover.findings if one.kind is kind
    ]
    if plain:
        told.append(
            f"{'note:':18} {plain} topics have no retention.ms of their own and follow topics.retention_ms"
        )
    return told
