"""What commands print: tables for people, JSON for programs, and how far long work has come.

Owns the form of both. On a terminal tables are rich's; into a pipe they are plain text in columns. What other
people chose (names of topics, of groups) cannot control a terminal. Progress goes to standard error, and only
if that is a terminal, or as a line every few seconds for work that is long.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

import click

__all__ = [
    "Progress",
    "agreed",
    "human_bytes",
    "json_option",
    "print_json",
    "print_table",
    "printable",
    "progress",
]

_LINES_SECONDS: Final = 2.0
_DRAWN_SECONDS: Final = 0.1

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def print_json(value: object) -> None:
    """Print a value as one line of JSON."""
    click.echo(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def printable(text: object) -> str:
    """Return a text with whatever could control a terminal shown as an escape."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(text)
    )


def human_bytes(count: float) -> str:
    """Return a size as people read it, in powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[str] = (), title: str = ""
) -> None:
    """Print rows under the names of their columns.

    Args:
        right: columns that are flush right, as numbers are.
        title: a line above the table.
    """
    texts = [["-" if cell is None or cell == "" else printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, texts, right, title)
        return
    if title:
        click.echo(title)
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    for row in [[name.upper() for name in columns], *texts]:
        cells = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(columns, row, widths, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def _print_rich(
    columns: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[str], title: str
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for name in columns:
        justify: Any = "right" if name in right else "left"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=name in right)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


class Progress(Protocol):
    """How far some work has come."""

    def __call__(self, done: float, text: str = "") -> None:
        """Say how much is done in all, and what there is to say about it."""


@contextlib.contextmanager
def progress(
    what: str, total: float | None, *, wanted: bool = True, lines: str | None = None
) -> Iterator[Progress]:
    """Show a bar, or without a total that there is life, if standard error is a terminal.

    Args:
        lines: elsewhere a line every few seconds, which begins so; None for nothing.
    """
    if not (wanted and sys.stderr.isatty()):
        yield _in_lines(lines) if wanted and lines is not None else lambda done, text="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    shown: list[Any] = [SpinnerColumn(), TextColumn("{task.description}")]
    shown += [BarColumn(), TextColumn("{task.percentage:>3.0f}%")] if total else []
    shown += [TextColumn("{task.fields[text]}", markup=False), TimeElapsedColumn()]
    with Bar(*shown, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, text="")
        drawn = 0.0

        def tell(done: float, text: str = "") -> None:
            nonlocal drawn
            now = time.monotonic()
            if now - drawn >= _DRAWN_SECONDS:
                drawn = now
                bar.update(task, completed=done, text=text)

        yield tell


def _in_lines(begin: str) -> Progress:
    told = time.monotonic()

    def tell(done: float, text: str = "") -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= _LINES_SECONDS:
            told = now
            click.echo(f"{begin}{text}", err=True)

    return tell


def agreed(question: str, or_else: str = "--yes") -> None:
    """Ask on the terminal, and end the command unless the answer is yes. Raises UsageError without one."""
    if not sys.stdin.isatty():
        raise click.UsageError(f"expected {or_else}, because there is no terminal to ask on")
    click.confirm(question, abort=True, err=True)
