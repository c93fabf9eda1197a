"""``megabroker plugin``: protocols that are installed, by which distribution, and how to begin another."""

from __future__ import annotations

import importlib.metadata
import re

import click

from megabroker.cli.command_groups import CommandGroup
from megabroker.cli.new_plugin import new
from megabroker.cli.output import json_option, print_json, print_table
from megabroker.cli.plugin_install import install, remove, restore
from megabroker.plugin import discover

__all__ = ["plugin"]


@click.group(cls=CommandGroup)
def plugin() -> None:
    """Protocols: list installed ones, add, remove or write one."""


@plugin.command("list")
@json_option
def show(as_json: bool) -> None:
    """List the installed protocols and their default endpoints."""
    origins = _origins()
    rows = []
    for name, one in sorted(discover().items()):
        trouble = None
        try:
            settings = f"{one.settings_class().__module__}.{one.settings_class().__name__}"
        except Exception as error:  # noqa: BLE001 - a plugin's import raises whatever it likes
            settings, trouble = "", f"{type(error).__name__}: {error}"
        rows.append(
            {
                "name": name,
                "distribution": origins.get(name),
                "endpoint": one.default_endpoint,
                "settings": settings,
                "trouble": trouble,
            }
        )
    if as_json:
        print_json(rows)
    else:
        print_table(list(rows[0]), [tuple(row.values()) for row in rows])


def _origins() -> dict[str, str]:
    """Return by name of a protocol the distribution that brought it; one that is only on the path has none.

    By the convention that the module of the protocol NAME is ``NAME_plugin``.
    """
    found: dict[str, str] = {}
    for one in importlib.metadata.distributions():
        for path in one.files or ():
            match = re.fullmatch(r"megabroker/plugins/(\w+)_plugin\.py", str(path))
            if match is not None:
                found.setdefault(match[1], f"{one.metadata['Name']} {one.version}")
    return found


for _command in (new, install, remove, restore):
    plugin.add_command(_command)
