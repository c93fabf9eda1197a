"""Groups of commands: one that suggests the word that was meant, and one that imports only what runs."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

__all__ = ["CommandGroup", "LazyGroup", "Unread"]


class Unread(Exception):
    """Nobody reads our output any more."""


class CommandGroup(click.Group):
    """A group whose help keeps the order of its commands, and whose refusal names what is near."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands as they were added."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command. Raises UsageError that says which commands there are."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            known = self.list_commands(ctx)
            near = difflib.get_close_matches(args[0], known, n=1)
            expected = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
            raise click.UsageError(f"no command {args[0]!r}: {expected}", ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(CommandGroup):
    """A group that knows its commands by a table, and imports the module of the one that is run.

    Args:
        sections: by heading of the help, the commands: by name, the module of this package that has it, and
            a sentence. In the module it has the name of the command.
    """

    def __init__(
        self, *args: Any, sections: Mapping[str, Mapping[str, tuple[str, str]]], **more: Any
    ) -> None:
        super().__init__(*args, **more)
        self._sections = sections
        self._rows = {name: row for rows in sections.values() for name, row in rows.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, section by section."""
        return list(self._rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; None if there is no such one."""
        if cmd_name not in self._rows:
            return None
        module = importlib.import_module(f"megabroker.cli.{self._rows[cmd_name][0]}")
        found: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises Unread, where click itself would end the process as if something failed."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise Unread from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help of all commands from the table."""
        width = max(map(len, self._rows))
        for title, rows in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), sentence) for name, (_, sentence) in rows.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of commands from the table; options as any group does."""
        found = [
            CompletionItem(name, help=sentence)
            for name, (_, sentence) in self._rows.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)
