"""``megabroker backup``: copy the data of a broker, which may be running.

Owns the command line and what it prints; how the copy comes to be whole is decided in ``megabroker.backup``.
"""

from __future__ import annotations

import pathlib
import sys
import time
from typing import Final

import click

from megabroker.backup import copying
from megabroker.cli.output import human_bytes, json_option, print_json, progress

__all__ = ["backup"]

_TO_SOURCE: Final = click.Path(path_type=pathlib.Path, exists=True, file_okay=False)
_TO_TARGET: Final = click.Path(path_type=pathlib.Path)


@click.command()
@click.argument("directory", metavar="DIR", type=_TO_SOURCE)
@click.argument("target", metavar="TARGET", type=_TO_TARGET)
@click.option("--link", is_flag=True, help="Share closed segments by hard links, if possible.")
@json_option
@click.option("--quiet", is_flag=True, help="Do not print progress.")
def backup(directory: pathlib.Path, target: pathlib.Path, link: bool, as_json: bool, quiet: bool) -> None:
    """Copy the data directory of a broker, even while it is running.

    DIR is the broker's data_dir; directories of more_data_dirs are found automatically. TARGET becomes a
    consistent snapshot, in the state of a stopped broker, with everything that was acknowledged before the
    command started. A broker can start from it. Run the command as the system user of the broker.

    With --link, closed segments need no additional space and no time, but TARGET is on the same disk: copy it
    elsewhere afterwards.
    """
    started = time.monotonic()
    with progress("copying", None, wanted=not quiet, lines="") as bar:

        def tell(what: str, done_bytes: int, size_bytes: int) -> None:
            of = f", {human_bytes(done_bytes)} of {human_bytes(size_bytes)}" if size_bytes else ""
            bar(done_bytes, what + of)

        found = copying.backup(directory, target, link=link, progress=tell)
    seconds = time.monotonic() - started
    if as_json:
        print_json({**found.summary(), "seconds": round(seconds, 2)})
    else:
        shared = f", {human_bytes(found.linked_bytes)} shared" if found.linked_bytes else ""
        while_it = f"; commits waited for {found.held_ms:.0f} ms" if found.running else ""
        click.echo(
            f"{target}: {found.topics} topics, {found.partitions} partitions, "
            f"{human_bytes(found.copied_bytes)} copied{shared} in {seconds:.1f} s{while_it}"
        )
        for one in found.damaged:
            click.echo(f"damaged: {one}")
    if found.damaged:
        sys.exit(1)
