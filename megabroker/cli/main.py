"""The list of commands, and how a command ends: what it says when it failed, and with which exit code.

Owns these two. A command's module is imported when it is the one that runs, so that help and completion are
there at once.

    0    done
    1    refused, or failed
    2    the command line is wrong
    3    no broker could be reached, or the one that was is gone
    130  interrupted (Ctrl-C)
    141  nobody reads the output any more (``| head``)
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any, Final, NoReturn

import click

from megabroker import __version__
from megabroker.cli.command_groups import LazyGroup, Unread
from megabroker.errors import BrokerError, ConfigError, DataDirectoryLocked, ErrorCode

__all__ = ["EXIT_CODES", "commands", "main"]

EXIT_CODES: Final = {
    "failed": 1,
    "usage": 2,
    "unreachable": 3,
    "interrupted": 130,
    "unread": 141,
}
_DEBUG: Final = "MEGABROKER_DEBUG"

_SECTIONS: Final = {
    "Run": {
        "start": ("start", "Run a broker in the foreground."),
        "config": ("config_command", "Configuration files: check, show, write one."),
        "plugin": ("plugin_command", "Protocols: list installed ones, add, remove or write one."),
    },
    "Use": {
        "status": ("status", "Show the brokers of a cluster and whether they answer."),
        "topic": ("topic", "Topics: create, list, describe, alter, delete."),
        "produce": ("produce", "Write messages from arguments, standard input or files."),
        "consume": ("consume", "Read messages and print them."),
        "group": ("group", "Groups: list, describe with lag, reset, delete."),
        "bench": ("bench", "Measure a running broker."),
        "user": ("user", "Users and their passwords: add, list, delete."),
        "acl": ("acl", "Access rules: add, list, remove."),
    },
    "Files": {
        "backup": ("backup", "Copy the data of a broker, even while it is running."),
        "dump-log": ("dump_log", "Print the contents of log segments and their indexes."),
        "fsck": ("fsck", "Check and repair the data of a stopped broker."),
        "import-kafka": ("import_kafka", "Copy the data of a stopped Apache Kafka broker."),
    },
    "Shell": {"completion": ("completion", "Print a completion script for bash, zsh or fish.")},
}


@click.group(cls=LazyGroup, sections=_SECTIONS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="megabroker")
def commands() -> None:
    """Run a message broker, use it, and check its files.

    Commands that use a broker speak Kafka's protocol, so they also work with Apache Kafka. The broker is the
    one that --brokers or MEGABROKER_BROKERS names, otherwise localhost:9092.
    """


def main() -> NoReturn:
    """Run the command that the command line names, and exit."""
    _open_streams()
    sys.exit(run(sys.argv[1:]))


def _open_streams() -> None:
    """Have all three standard streams, for Python has none where the shell has closed one (``<&-``)."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - until the process ends


def run(arguments: list[str]) -> int:
    """Run a command; return the exit code. What went wrong is one line on standard error."""
    try:
        ended: Any = commands.main(arguments, prog_name="megabroker", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_CODES["usage"]
    except click.UsageError as error:
        return _say(EXIT_CODES["usage"], _of_usage(error))
    except click.ClickException as error:
        return _say(EXIT_CODES["failed"], error.format_message())
    except (click.Abort, KeyboardInterrupt):
        return EXIT_CODES["interrupted"]
    except BrokerError as error:
        unreachable = error.code is ErrorCode.UNREACHABLE
        return _say(EXIT_CODES["unreachable" if unreachable else "failed"], str(error))
    except (ConfigError, DataDirectoryLocked) as error:
        return _say(EXIT_CODES["failed"], str(error))
    except (Unread, BrokenPipeError):
        # What is still in the buffer would raise once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_CODES["unread"]
    except OSError as error:
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return _say(EXIT_CODES["failed"], f"{where}{error.strerror or error}")
    except Exception as error:  # noqa: BLE001 - whoever types a command is not to read a traceback
        if os.environ.get(_DEBUG):
            traceback.print_exc()
        return _say(
            EXIT_CODES["failed"],
            f"a fault of the command itself: {type(error).__name__}: {error} ({_DEBUG}=1 shows where)",
        )
    return ended if isinstance(ended, int) else 0


def _of_usage(error: click.UsageError) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    message = message.replace("is not a valid integer range", "is not a whole number")
    if error.ctx is None:
        return message
    path = error.ctx.command_path.partition(" ")[2]
    return f"{path}{': ' if path else ''}{message} ({error.ctx.command_path} --help says more)"


def _say(code: int, text: str) -> int:
    click.echo(f"megabroker: {text}", err=True)
    return code
