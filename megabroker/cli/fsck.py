"""``megabroker fsck``: check the data of a broker that does not run, and repair it when told to.

Owns the command line and what it prints; what is right and wrong is decided in ``megabroker.inspection``.
"""

from __future__ import annotations

import json
import pathlib
import sys
from contextlib import ExitStack

import click

from megabroker.cli.output import json_option, progress
from megabroker.inspection.directories import Report, check, directories_of, log_bytes
from megabroker.inspection.findings import Kind
from megabroker.inspection.repair import repair
from megabroker.kafkadir.directory import held

__all__ = ["fsck"]

_PATH = click.Path(path_type=pathlib.Path, exists=True, file_okay=False)


@click.command()
@click.argument("directory", metavar="DIR", type=_PATH)
@click.argument("further", metavar="[MORE]...", nargs=-1, type=_PATH)
@click.option("--repair", "with_repair", is_flag=True, help="Repair what can be repaired.")
@click.option("--deep", is_flag=True, help="Also decode every record.")
@json_option
@click.option("--quiet", is_flag=True, help="Do not print progress.")
def fsck(
    directory: pathlib.Path,
    further: tuple[pathlib.Path, ...],
    with_repair: bool,
    deep: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Check the data directory of a stopped broker.

    DIR is the broker's data_dir; directories of more_data_dirs that contain partitions are found
    automatically. Logs of Apache Kafka can be checked too. Nothing is changed without --repair. The exit
    code is 0 if nothing was wrong, or if everything was repaired without loss.
    """
    paths = directories_of(directory, further)
    report = _checked(paths, deep, quiet)
    repaired = False
    after = None
    if with_repair and report.faults:
        if not as_json:
            _print(report)
        repair(report, lambda line: None if quiet else click.echo(f"opened {line}", err=True))
        repaired = True
        after = _checked(paths, deep, quiet)
    if as_json:
        outcome = {**report.summary(), "repaired": repaired}
        if after is not None:
            outcome["after"] = after.summary()
        click.echo(json.dumps(outcome))
    elif after is not None:
        click.echo("repaired; now:")
        _print(after)
    else:
        _print(report)
    lost = any(one.kind is Kind.LOST for one in report.faults)
    if (report.faults if after is None else after.faults) or (after is not None and lost):
        sys.exit(1)


def _checked(paths: list[pathlib.Path], deep: bool, quiet: bool) -> Report:
    with ExitStack() as stack:
        for path in paths:
            stack.enter_context(held(path))
        size_bytes = log_bytes(paths)
        bar = stack.enter_context(progress("reading logs", size_bytes, wanted=not quiet, lines="read "))

        def tell(logs: int, read_bytes: int) -> None:
            bar(
                read_bytes, f"{logs} logs, {read_bytes / (1 << 20):,.0f} of {size_bytes / (1 << 20):,.0f} MiB"
            )

        return check(paths, deep=deep, progress=None if quiet else tell)


def _print(report: Report) -> None:
    for one in report.findings:
        click.echo(one.line())
    found = report.summary()
    faults = len(report.faults)
    click.echo(
        f"{found['logs']} logs, {found['segments']} segments, {found['batches']} batches, "
        f"{found['bytes'] / (1 << 20):,.1f} MiB, "
        f"{'closed in order' if report.clean else 'not closed in order'}: "
        f"{'nothing is wrong' if not faults else '1 fault' if faults == 1 else f'{faults} faults'}"
    )
