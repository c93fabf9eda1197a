"""What is stored of a topology, and the topology that was stored.

A topology is ``{"epoch": int, "subtopologies": [...]}`` with the fields of ``Subtopology`` under their names;
an internal topic is ``[name, partitions, replication factor, {configuration}]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from megabroker.model.streams_groups import InternalTopic, Subtopology, Topology

__all__ = ["topology_from_row", "topology_to_row"]


def topology_to_row(topology: Topology) -> dict[str, Any]:
    """Return what is stored of a topology."""
    return {
        "epoch": topology.epoch,
        "subtopologies": [
            {
                "id": part.id,
                "sources": list(part.sources),
                "sinks": list(part.sinks),
                "repartitions": [_internal_to_row(topic) for topic in part.repartitions],
                "changelogs": [_internal_to_row(topic) for topic in part.changelogs],
                "copartitioned": [sorted(names) for names in part.copartitioned],
            }
            for part in topology.subtopologies
        ],
    }


def topology_from_row(row: Mapping[str, Any]) -> Topology:
    """Return the topology that was stored. Raises ValueError, TypeError, KeyError or AttributeError."""
    return Topology(
        int(row["epoch"]),
        tuple(
            Subtopology(
                str(part["id"]),
                tuple(map(str, part["sources"])),
                tuple(map(str, part["sinks"])),
                tuple(map(_internal_from_row, part["repartitions"])),
                tuple(map(_internal_from_row, part["changelogs"])),
                tuple(frozenset(map(str, names)) for names in part["copartitioned"]),
            )
            for part in row["subtopologies"]
        ),
    )


def _internal_to_row(topic: InternalTopic) -> list[Any]:
    return [topic.name, topic.partitions, topic.replication_factor, dict(topic.configs)]


def _internal_from_row(row: Any) -> InternalTopic:
    name, partitions, replication_factor, configs = row
    return InternalTopic(
        str(name),
        int(partitions),
        int(replication_factor),
        {str(key): str(value) for key, value in configs.items()},
    )
