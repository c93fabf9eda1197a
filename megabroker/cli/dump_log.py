"""``megabroker dump-log``: print the batches and records of a segment, or what the files beside it hold.

Owns the command line and what it prints; what a file holds is read in ``megabroker.inspection``.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import click

from megabroker.cli.output import json_option, progress
from megabroker.inspection.dumping import Options, dump

__all__ = ["dump_log"]

_FAULTS = frozenset({"damage", "tail", "fault"})


@click.command("dump-log")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=pathlib.Path))
@click.option("--deep", is_flag=True, help="Print the records of each batch.")
@click.option("--contents", is_flag=True, help="Also print keys, values and headers.")
@click.option("--from-offset", type=click.IntRange(0), default=0, help="Skip batches below this offset.")
@click.option(
    "--limit", type=click.IntRange(0), help="Print at most this number of batches or entries of each file."
)
@json_option
def dump_log(
    files: tuple[pathlib.Path, ...],
    deep: bool,
    contents: bool,
    from_offset: int,
    limit: int | None,
    as_json: bool,
) -> None:
    """Print what is in a .log, .index, .timeindex, .txnindex or .snapshot file.

    The files are only read, and may be those of a running broker or of Apache Kafka. The exit code is 1 if
    a batch is damaged.
    """
    options = Options(deep or contents, contents, from_offset, limit)
    faults = 0
    for path in files:
        # What is printed to a terminal shows by itself how far it has come.
        with progress(path.name, _size(path), wanted=not sys.stdout.isatty()) as tell:
            for row in dump(path, options):
                faults += row["kind"] in _FAULTS or row.get("valid") is False
                click.echo(json.dumps(row) if as_json else _line(row))
                if row["kind"] == "batch":
                    tell(row["position"])
    if faults:
        sys.exit(1)


def _size(path: pathlib.Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None  # `dump` says what is wrong with it


def _line(row: dict[str, Any]) -> str:
    kind = row["kind"]
    fields = " ".join(
        f"{name}={_shown(value)}" for name, value in row.items() if name != "kind" and value is not None
    )
    return f"{'  ' if kind == 'record' else ''}{kind} {fields}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    return json.dumps(value, ensure_ascii=False)
