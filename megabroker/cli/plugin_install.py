"""``megabroker plugin install``, ``remove`` and ``restore``: plugins in the environment that a package
brings."""

from __future__ import annotations

import pathlib
import sys

import click

from megabroker.cli.bundle import Bundle
from megabroker.cli.output import json_option, print_json

__all__ = ["install", "remove", "restore"]


@click.command()
@click.argument("wheel", type=click.Path(path_type=pathlib.Path, exists=True, dir_okay=False))
@json_option
def install(wheel: pathlib.Path, as_json: bool) -> None:
    """Install the plugin in WHEEL into the environment of the system's package.

    pip installs its dependencies if they are compatible with the installed libraries. Upgrades of the package
    keep the plugin. A broker uses it after its next start, if its configuration names the protocol.
    """
    done = Bundle.of_this_process().install(wheel)
    if as_json:
        print_json({"name": done.name, "version": done.version, "wheels": [one.name for one in done.wheels]})
        return
    others = f", with {', '.join(one.name for one in done.wheels[1:])}" if done.wheels[1:] else ""
    click.echo(f"installed {done.name} {done.version}{others}; restart a running broker")


@click.command()
@click.argument("name")
@json_option
def remove(name: str, as_json: bool) -> None:
    """Remove the plugin NAME, and the dependencies that only it needed."""
    removed = Bundle.of_this_process().remove(name).name
    if as_json:
        print_json({"removed": removed})
    else:
        click.echo(f"removed {removed}")


@click.command(hidden=True)
def restore() -> None:
    """Install all plugins once more; the package does so when it was upgraded."""
    if not Bundle.of_this_process().restore(click.echo):
        sys.exit(1)
