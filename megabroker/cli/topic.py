"""``megabroker topic``: what topics there are, and their partitions and configurations.

Owns the commands and the form of what they print.
"""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click

from megabroker.cli.cluster import EARLIEST, LATEST, Cluster, Partition
from megabroker.cli.command_groups import CommandGroup
from megabroker.cli.connecting import cluster_options
from megabroker.cli.output import agreed, human_bytes, json_option, print_json, print_table, printable
from megabroker.cli.refusals import check, check_all
from megabroker.cli.topic_names import complete_topics, matching, matching_any
from megabroker.errors import ErrorCode, RequestError
from megabroker.protocols.kafka.errors import KafkaError
from megabroker.protocols.kafka.schema import (
    create_partitions,
    create_topics,
    delete_topics,
    describe_configs,
    describe_log_dirs,
    incremental_alter_configs,
)

__all__ = ["topic"]

_TIMEOUT_MS: Final = 30_000
_TOPIC_RESOURCE: Final = 2
_SET, _DELETE = 0, 1
_OF_TOPIC: Final = 1
"""The source of a configuration that was set for the topic itself."""


@click.group(cls=CommandGroup)
def topic() -> None:
    """Topics, their partitions and their configurations."""


def _configs(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{one}: expected NAME=VALUE, for example retention.ms=3600000")
        found[name.strip()] = value
    return found


@topic.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "-p", "--partitions", type=click.IntRange(1), help="Number of partitions; otherwise the broker's default."
)
@click.option(
    "-r",
    "--replicas",
    type=click.IntRange(1),
    help="Replicas of each partition; otherwise the broker's default.",
)
@click.option("-c", "--config", "configs", multiple=True, metavar="NAME=VALUE", help="Of the topic.")
@click.option("--if-not-exists", is_flag=True, help="Ignore topics that exist already.")
@click.option("--dry-run", is_flag=True, help="Only check whether the broker would do it.")
@json_option
@cluster_options
def create(
    cluster: Cluster,
    names: Sequence[str],
    partitions: int | None,
    replicas: int | None,
    configs: Sequence[str],
    if_not_exists: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Create topics."""
    config = create_topics.Request.Topic.Config
    rows = [config(name=key, value=text) for key, text in _configs(configs).items()]
    made = [
        create_topics.Request.Topic(
            name=name, num_partitions=partitions or -1, replication_factor=replicas or -1, configs=rows
        )
        for name in dict.fromkeys(names)
    ]
    request = create_topics.Request(topics=made, timeout_ms=_TIMEOUT_MS, validate_only=dry_run)
    outcome, refused = [], []
    for row in cluster.ask(request).topics:
        exists = row.error_code == KafkaError.TOPIC_ALREADY_EXISTS and if_not_exists
        if row.error_code and not exists:
            refused.append((row.error_code, row.error_message, f"topic {row.name}"))
            continue
        outcome.append(
            {"topic": row.name, "created": not exists and not dry_run, "partitions": row.num_partitions}
        )
        if not as_json:
            did = "exists already" if exists else "would be created" if dry_run else "created"
            number = row.num_partitions
            of = f" with {number} partition{'s' if number > 1 else ''}" if number > 0 else ""
            click.echo(f"topic {row.name} {did}{of}")
    if as_json:
        print_json(outcome)
    check_all(refused)


@topic.command("list")
@click.argument("pattern", required=False)
@click.option("--internal", is_flag=True, help="Include internal topics.")
@json_option
@cluster_options
def show(cluster: Cluster, pattern: str | None, internal: bool, as_json: bool) -> None:
    """List all topics, or those whose whole name matches a regular expression."""
    found = [one for one in matching(cluster.metadata(), pattern) if internal or not one.is_internal]
    if as_json:
        print_json([{"topic": one.name, "partitions": len(one.partitions)} for one in found])
    else:
        print_table(
            ["topic", "partitions"], [(one.name, len(one.partitions)) for one in found], ["partitions"]
        )


@topic.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_topics)
@click.option("--all-configs", is_flag=True, help="Include configurations with default values.")
@json_option
@cluster_options
def describe(cluster: Cluster, names: Sequence[str], all_configs: bool, as_json: bool) -> None:
    """Show the partitions, offsets, size and configurations of topics."""
    answer = cluster.metadata(dict.fromkeys(names))
    for one in answer.topics:
        check(one.error_code, None, f"topic {one.name}")
    sizes = _sizes(cluster, [one.name for one in answer.topics])
    told = [_described(cluster, one, sizes, all_configs) for one in answer.topics]
    if as_json:
        print_json(told)
        return
    for number, one in enumerate(told):
        if number:
            click.echo()
        click.echo(
            f"{one['topic']}: {len(one['partitions'])} partitions, {one['messages']:,} offsets, "
            f"{human_bytes(one['bytes']) if one['bytes'] is not None else 'size unknown'}, id {one['id']}"
        )
        columns = ["partition", "leader", "replicas", "in sync", "start", "end", "bytes"]
        rows = [
            (
                *(row["partition"], row["leader"], _list(row["replicas"]), _list(row["in_sync"])),
                *(row["start_offset"], row["end_offset"], row["bytes"]),
            )
            for row in one["partitions"]
        ]
        print_table(columns, rows, columns)
        for name, config in one["configs"].items():
            click.echo(f"{name}={printable(config['value'])}{'' if config['set_here'] else '  (default)'}")


def _described(cluster: Cluster, one: Any, sizes: dict[Partition, int], all_configs: bool) -> dict[str, Any]:
    partitions = [Partition(one.name, row.partition_index) for row in one.partitions]
    led = [Partition(one.name, row.partition_index) for row in one.partitions if row.leader_id >= 0]
    starts = cluster.offsets(dict.fromkeys(led, EARLIEST))
    ends = cluster.offsets(dict.fromkeys(led, LATEST))
    rows = [
        {
            "partition": row.partition_index,
            "leader": row.leader_id if row.leader_id >= 0 else None,
            "replicas": row.replica_nodes,
            "in_sync": row.isr_nodes,
            "start_offset": starts.get(partition),
            "end_offset": ends.get(partition),
            "bytes": sizes.get(partition),
        }
        for partition, row in sorted(zip(partitions, one.partitions, strict=True), key=lambda pair: pair[0])
    ]
    known = [row["bytes"] for row in rows if row["bytes"] is not None]
    return {
        "topic": one.name,
        "id": str(uuid.UUID(bytes=one.topic_id)),
        "internal": one.is_internal,
        "messages": sum((ends[one] or 0) - (starts[one] or 0) for one in led),
        "bytes": sum(known) if known else None,
        "partitions": rows,
        "configs": _read_configs(cluster, one.name, all_configs),
    }


def _read_configs(cluster: Cluster, name: str, everything: bool) -> dict[str, Any]:
    resource = describe_configs.Request.Resource(
        resource_type=_TOPIC_RESOURCE, resource_name=name, configuration_keys=None
    )
    (result,) = cluster.ask(describe_configs.Request(resources=[resource])).results
    if result.error_code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return {}
    check(result.error_code, result.error_message, f"topic {name}")
    return {
        row.name: {"value": row.value, "set_here": row.config_source == _OF_TOPIC}
        for row in sorted(result.configs, key=lambda row: row.name)
        if everything or row.config_source == _OF_TOPIC
    }


def _sizes(cluster: Cluster, names: Iterable[str]) -> dict[Partition, int]:
    """Return the size of each partition's largest replica; nothing where one may not ask for it."""
    wanted = set(names)
    found: dict[Partition, int] = {}
    for node_id in cluster.node_ids:
        answer = cluster.node(node_id).ask(describe_log_dirs.Request(topics=None))
        for place in answer.results:
            for one in place.topics:
                for row in one.partitions if one.name in wanted else ():
                    partition = Partition(one.name, row.partition_index)
                    found[partition] = max(found.get(partition, 0), row.partition_size)
    return found


def _list(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers))


@topic.command()
@click.argument("name", shell_complete=complete_topics)
@click.option("-c", "--config", "configs", multiple=True, metavar="NAME=VALUE", help="To set.")
@click.option("--reset", multiple=True, metavar="NAME", help="Reset a configuration to its default.")
@click.option(
    "-p", "--partitions", type=click.IntRange(1), help="New number of partitions, above the current one."
)
@click.option("--dry-run", is_flag=True, help="Only check whether the broker would do it.")
@json_option
@cluster_options
def alter(
    cluster: Cluster,
    name: str,
    configs: Sequence[str],
    reset: Sequence[str],
    partitions: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Change a topic's configurations, or give it more partitions."""
    changed = _configs(configs)
    if not (changed or reset or partitions):
        raise click.UsageError("expected --config, --reset or --partitions")
    if reset:
        _check_names(cluster, name, reset)
    if changed or reset:
        _alter_configs(cluster, name, changed, reset, dry_run)
    if partitions:
        row = create_partitions.Request.Topic(name=name, count=partitions, assignments=None)
        request = create_partitions.Request(topics=[row], timeout_ms=_TIMEOUT_MS, validate_only=dry_run)
        for result in cluster.ask(request).results:
            check(result.error_code, result.error_message, f"topic {name}")
    if as_json:
        outcome = {"topic": name, "altered": not dry_run, "configs": changed, "reset": list(reset)}
        print_json({**outcome, "partitions": partitions})
    else:
        click.echo(f"topic {name} {'would be' if dry_run else 'is'} altered")


def _check_names(cluster: Cluster, name: str, configs: Sequence[str]) -> None:
    """Raise RequestError unless there are such configurations: brokers say nothing of others."""
    known = _read_configs(cluster, name, everything=True)
    for one in configs if known else ():
        if one not in known:
            near = difflib.get_close_matches(one, known, n=1)
            hint = f": did you mean {near[0]}?" if near else ": topic describe --all-configs lists them"
            raise RequestError(ErrorCode.INVALID_CONFIG, f"there is no topic configuration {one}{hint}")


def _alter_configs(
    cluster: Cluster, name: str, changed: dict[str, str], reset: Sequence[str], dry_run: bool
) -> None:
    row = incremental_alter_configs.Request.Resource.Config
    rows = [row(name=key, config_operation=_SET, value=value) for key, value in changed.items()]
    rows += [row(name=key, config_operation=_DELETE, value=None) for key in reset]
    resource = incremental_alter_configs.Request.Resource(
        resource_type=_TOPIC_RESOURCE, resource_name=name, configs=rows
    )
    request = incremental_alter_configs.Request(resources=[resource], validate_only=dry_run)
    for result in cluster.ask(request).responses:
        check(result.error_code, result.error_message, f"topic {name}")


@topic.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_topics)
@click.option("--regex", is_flag=True, help="Names are regular expressions that match whole names.")
@click.option("--if-exists", is_flag=True, help="Ignore topics that do not exist.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@cluster_options
def delete(
    cluster: Cluster, names: Sequence[str], regex: bool, if_exists: bool, yes: bool, as_json: bool
) -> None:
    """Delete topics, and all messages in them."""
    wanted = list(dict.fromkeys(names))
    if regex:
        wanted = matching_any(cluster.metadata(), names, required=not if_exists)
    if wanted and not yes:
        agreed(f"delete {', '.join(map(printable, wanted))} and all messages in them?")
    deleted, refused = [], []
    for row in _delete(cluster, wanted) if wanted else ():
        absent = row.error_code == KafkaError.UNKNOWN_TOPIC_OR_PARTITION and if_exists
        if row.error_code and not absent:
            refused.append((row.error_code, row.error_message, f"topic {row.name}"))
            continue
        if not absent:
            deleted.append(row.name)
        if not as_json:
            click.echo(f"there is no topic {row.name}" if absent else f"topic {row.name} deleted")
    if as_json:
        print_json({"deleted": deleted})
    check_all(refused)


def _delete(cluster: Cluster, names: Sequence[str]) -> Any:
    rows = [delete_topics.Request.Topic(name=name) for name in names]
    request = delete_topics.Request(topics=rows, topic_names=list(names), timeout_ms=_TIMEOUT_MS)
    return cluster.ask(request).responses
