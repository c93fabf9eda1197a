"""The list of commands, and how a command that fails ends: one sentence, exit code 1."""

from __future__ import annotations

import sys

import click

from megabroker import __version__
from megabroker.cli.acl import acl
from megabroker.cli.dump_log import dump_log
from megabroker.cli.fsck import fsck
from megabroker.cli.import_kafka import import_kafka
from megabroker.cli.user import user
from megabroker.errors import BrokerError, ConfigError, DataDirectoryLocked

__all__ = ["commands", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="megabroker")
def commands() -> None:
    """Work on megabroker's files; twistd megabroker runs the broker."""


commands.add_command(acl)
commands.add_command(dump_log)
commands.add_command(fsck)
commands.add_command(import_kafka)
commands.add_command(user)


def main() -> None:
    """Run the command that the command line names."""
    try:
        commands(prog_name="megabroker")
    except (BrokerError, ConfigError, DataDirectoryLocked) as error:
        click.echo(f"megabroker: {error}", err=True)
        sys.exit(1)
