"""``megabroker import-kafka``: copy what a Kafka broker left into a data directory of ours.

Owns the command line and what it prints; what is taken over is decided in ``megabroker.kafkadir``.
"""

from __future__ import annotations

import json
import pathlib
import sys
import time
from collections.abc import Callable

import click

from megabroker.cli.output import Progress, json_option, progress
from megabroker.config.load import load
from megabroker.config.schema import Config
from megabroker.core.topic_configs import TopicConfigs
from megabroker.errors import ErrorCode, RequestError
from megabroker.kafkadir import copying, report
from megabroker.kafkadir.directory import KafkaDirectories
from megabroker.kafkadir.takeover import Takeover, plan
from megabroker.plugin import discover

__all__ = ["import_kafka"]

_PATH = click.Path(path_type=pathlib.Path)


@click.command("import-kafka")
@click.argument("directories", metavar="DIR...", nargs=-1, required=True, type=_PATH)
@click.option("-c", "--config", type=_PATH, help="Configuration whose data_dir is created.")
@click.option("--data-dir", type=_PATH, help="Data directory to create, instead of --config.")
@click.option("--partial", is_flag=True, help="Continue without partitions that are missing or not in sync.")
@click.option("--dry-run", is_flag=True, help="Only report what would be done.")
@json_option
def import_kafka(
    directories: tuple[pathlib.Path, ...],
    config: pathlib.Path | None,
    data_dir: pathlib.Path | None,
    partial: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Copy the data of a stopped Apache Kafka broker.

    DIR... are all directories of its log.dirs (and metadata.log.dir). They are only read. Topics keep their
    ids, records their offsets, groups their committed offsets, producers their ids and epochs.
    """
    if (config is None) == (data_dir is None):
        raise click.UsageError("expected one of --config and --data-dir")
    settings = Config() if config is None else load(config, discover())
    target = settings.data_dir if data_dir is None else data_dir
    source = KafkaDirectories.read(directories)
    with source.held():
        _check_node(config, settings, source)
        now_ms = time.time_ns() // 1_000_000
        takeover = plan(source, TopicConfigs(settings.topics.topic_configs()), now_ms)
        size_bytes = copying.size_bytes(takeover)
        refused = takeover.refusals(partial=partial)
        if not refused and not dry_run:
            with progress("copying", size_bytes, lines="copied ") as bar:
                told = _telling(takeover, size_bytes, bar)
                copying.copy_into(takeover, target, clean=source.was_clean, progress=told)
    if as_json:
        outcome = {"imported": not refused and not dry_run, "data_dir": str(target)}
        click.echo(json.dumps({**outcome, **report.summary(takeover, size_bytes)}))
    else:
        for line in report.lines(takeover, size_bytes):
            click.echo(line)
    if refused:
        waived = "" if any(one.kind.value == "refused" for one in refused) else "; --partial goes on without"
        click.echo(f"megabroker: nothing was imported, {len(refused)} findings forbid it{waived}", err=True)
        sys.exit(1)
    if not as_json:
        click.echo(
            "nothing was written" if dry_run else f"imported into {target}, for node.id {source.node_id}"
        )


def _check_node(config: pathlib.Path | None, settings: Config, source: KafkaDirectories) -> None:
    if config is not None and settings.node.id != source.node_id:
        raise RequestError(
            ErrorCode.INVALID_CONFIG,
            f"{config}: node.id is {settings.node.id}, the directories are of node {source.node_id}: "
            f"expected node.id {source.node_id}",
        )


def _telling(takeover: Takeover, size_bytes: int, bar: Progress) -> Callable[[int, int], None]:
    def tell(partitions: int, copied_bytes: int) -> None:
        bar(
            copied_bytes,
            f"{partitions} of {len(takeover.replicas)} partitions, "
            f"{copied_bytes / (1 << 20):,.0f} of {size_bytes / (1 << 20):,.0f} MiB",
        )

    return tell
