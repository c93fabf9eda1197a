"""``megabroker status``: what a cluster is, at a glance, and whether it answers."""

from __future__ import annotations

from typing import Any

import click

from megabroker.cli.cluster import Cluster
from megabroker.cli.connecting import cluster_options
from megabroker.cli.group_reading import list_all
from megabroker.cli.output import json_option, print_json, print_table
from megabroker.errors import StateError

__all__ = ["status"]


@click.command()
@json_option
@cluster_options
def status(cluster: Cluster, as_json: bool) -> None:
    """Show the brokers of a cluster, and the numbers of its topics, partitions and groups.

    The exit code is 1 if a partition has no leader or a broker does not answer, and 3 if no broker answers.
    """
    answer = cluster.metadata()
    partitions = [row for one in answer.topics for row in one.partitions]
    leaderless = sum(row.leader_id < 0 for row in partitions)
    brokers = [_broker(cluster, one, answer, partitions) for one in answer.brokers]
    away = [one["id"] for one in brokers if one["away"]]
    told = {
        "cluster_id": answer.cluster_id,
        "brokers": brokers,
        "topics": sum(not one.is_internal for one in answer.topics),
        "partitions": len(partitions),
        "partitions_without_leader": leaderless,
        "groups": None if away else len(list_all(cluster)),
    }
    if as_json:
        print_json(told)
    else:
        groups = "groups unknown" if told["groups"] is None else f"{told['groups']} groups"
        lost = f" ({leaderless} without a leader)" if leaderless else ""
        click.echo(
            f"cluster {told['cluster_id']}: {told['topics']} topics, "
            f"{told['partitions']} partitions{lost}, {groups}"
        )
        rows = [
            (one["id"], one["address"], one["leads"], "controller" if one["controller"] else "", one["away"])
            for one in brokers
        ]
        print_table(["broker", "address", "leads", "role", "trouble"], rows, ["broker", "leads"])
    if leaderless or away:
        raise click.exceptions.Exit(1)


def _broker(cluster: Cluster, one: Any, answer: Any, partitions: list[Any]) -> dict[str, Any]:
    away = None
    try:
        cluster.node(one.node_id)
    except StateError as error:
        away = str(error)
    return {
        "id": one.node_id,
        "address": f"{one.host}:{one.port}",
        "rack": one.rack,
        "controller": one.node_id == answer.controller_id,
        "leads": sum(row.leader_id == one.node_id for row in partitions),
        "away": away,
    }
