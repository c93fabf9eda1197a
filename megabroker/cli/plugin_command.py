"""``megabroker plugin``: the protocols that are installed, and how to begin another."""

from __future__ import annotations

import click

from megabroker.cli.command_groups import CommandGroup
from megabroker.cli.new_plugin import new
from megabroker.cli.output import json_option, print_json, print_table
from megabroker.plugin import discover

__all__ = ["plugin"]


@click.group(cls=CommandGroup)
def plugin() -> None:
    """Protocols that are plugged in."""


@plugin.command("list")
@json_option
def show(as_json: bool) -> None:
    """List the protocols there are, and where each is served if a file names no endpoint."""
    rows = []
    for name, one in sorted(discover().items()):
        trouble = None
        try:
            settings = f"{one.settings_class().__module__}.{one.settings_class().__name__}"
        except Exception as error:  # noqa: BLE001 - a plugin's import raises whatever it likes
            settings, trouble = "", f"{type(error).__name__}: {error}"
        rows.append(
            {"name": name, "endpoint": one.default_endpoint, "settings": settings, "trouble": trouble}
        )
    if as_json:
        print_json(rows)
    else:
        print_table(["name", "endpoint", "settings", "trouble"], [tuple(row.values()) for row in rows])


plugin.add_command(new)
