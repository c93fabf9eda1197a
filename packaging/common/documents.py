"""Write what the broker's own code says of itself: documents.py ROOT, run by the environment that has it.

Man pages are made of the commands as click knows them and of the schema of the configuration, completion of
the commands; so none of them is written twice, and none is of another version.
"""

from __future__ import annotations

import datetime
import gzip
import os
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Final

import click
from click.testing import CliRunner

from megabroker import __version__
from megabroker.cli.main import EXIT_CODES, commands
from megabroker.config.schema import Config
from megabroker.config.structure import Key, keys
from megabroker.plugin import discover
from megabroker.tap import Options

_COMPLETION: Final = {
    "bash": "usr/share/bash-completion/completions/megabroker",
    "zsh": "usr/share/zsh/vendor-completions/_megabroker",
    "fish": "usr/share/fish/vendor_completions.d/megabroker.fish",
}
_STATUS: Final = {
    "failed": "refused, or failed",
    "usage": "the command line is wrong",
    "unreachable": "no broker could be reached, or the one that was is gone",
    "interrupted": "interrupted (Ctrl-C)",
    "unread": "nobody reads the output any more",
}
_FILES: Final = {
    "/etc/megabroker/broker.yaml": "The configuration of the service megabroker.",
    "/etc/megabroker/NAME.yaml": "The configuration of the service megabroker@NAME.",
    "/etc/default/megabroker": "Whether an upgrade restarts the services.",
    "/var/lib/megabroker": "The data of the service megabroker.",
    "/var/lib/megabroker-NAME": "The data of the service megabroker@NAME.",
    "/var/opt/megabroker/plugins": "The plugins that were installed, for upgrades.",
    "/usr/share/doc/megabroker/operations.md": "How to run a broker.",
}

_TWISTD: Final = """
Runs the broker as the service megabroker does. The options of twistd itself are those of Twisted, which
twistd --help lists. The broker's are:
"""
_CONFIGURATION: Final = """
One file in YAML. A key that is left out has its default, a key that does not exist is refused. Dots in the
names below mean nesting in the file. In brackets are unit, values allowed, default, and how a change takes
effect: reloadable when the file is read again (SIGHUP), restart when the broker is started again. Durations
may carry a unit (1500ms, 30s, 5m, 12h, 7d), sizes too (64KiB, 16MiB, 1GiB).

megabroker config check FILE says all that is wrong with a file.
"""


def write(root: pathlib.Path) -> None:
    """Write everything below a directory."""
    moment = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.UTC)
    for name, text in {
        "man1/megabroker.1": "\n".join(_command_page(f"{moment:%Y-%m-%d}")),
        "man1/twistd.1": "\n".join(_twistd_page(f"{moment:%Y-%m-%d}")),
        "man5/broker.yaml.5": "\n".join(_configuration_page(f"{moment:%Y-%m-%d}")),
    }.items():
        path = root / "usr/share/man" / f"{name}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(f"{text}\n".encode(), mtime=0))
    for shell, place in _COMPLETION.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        done = CliRunner().invoke(commands, ["completion", shell], prog_name="megabroker")
        if done.exit_code:
            raise SystemExit(f"completion for {shell}: {done.output}")
        path.write_text(done.output, encoding="utf-8")


def _escaped(text: str) -> str:
    """Return a text as troff prints it."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("|", "|\\:")
    return re.sub(r"^(['.])", r"\\&\1", text, flags=re.MULTILINE)


def _head(title: str, section: int, date: str, what: str) -> str:
    return f'.TH "{_escaped(title)}" "{section}" "{date}" "megabroker {__version__}" "{what}"\n.nh\n.ad l'


def _paragraphs(text: str) -> Iterator[str]:
    """Yield paragraphs of a help text; those that click leaves as they are keep their lines."""
    for block in re.split(r"\n\s*\n", text.strip()):
        if block.lstrip().startswith("\b"):
            lines = block.strip().removeprefix("\b").strip("\n")
            yield f".PP\n.nf\n{_escaped(lines)}\n.fi"
        else:
            yield f".PP\n{_escaped(' '.join(block.split()))}"


# --- commands -------------------------------------------------------------------------------------


def _command_page(date: str) -> Iterator[str]:
    context = click.Context(commands, info_name="megabroker")
    yield _head("MEGABROKER", 1, date, "User Commands")
    yield ".SH NAME\nmegabroker \\- run a message broker, and ask one"
    yield ".SH SYNOPSIS\n.B megabroker\n.I COMMAND\n[OPTION]... [ARGUMENT]..."
    yield ".SH DESCRIPTION"
    yield from _paragraphs(commands.help or "")
    yield ".SH COMMANDS"
    yield from _described(context)
    yield ".SH EXIT STATUS\n.TP\n.B 0\ndone"
    for name, code in EXIT_CODES.items():
        yield f".TP\n.B {code}\n{_escaped(_STATUS[name])}"
    yield ".SH ENVIRONMENT"
    yield ".TP\n.B MEGABROKER_BROKERS\nWhich broker commands ask; localhost:9092 otherwise."
    yield ".TP\n.B MEGABROKER_DEBUG\nIf set, a fault of the command itself shows where it happened."
    yield from _file_section()
    yield ".SH SEE ALSO\n.BR broker.yaml (5),\n.BR systemctl (1),\n.BR journalctl (1)"


def _file_section() -> Iterator[str]:
    yield ".SH FILES"
    for path, text in _FILES.items():
        yield f".TP\n.I {_escaped(path)}\n{_escaped(text)}"


def _described(context: click.Context) -> Iterator[str]:
    """Describe the commands of a group, and those of the groups among them."""
    group = context.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        path = inner.command_path.removeprefix("megabroker ")
        yield f".SS {_escaped(f'{path} {_usage(command, inner)}'.strip())}"
        yield from _paragraphs(command.help or "")
        for parameter in command.get_params(inner):
            record = parameter.get_help_record(inner)
            if record is not None and record[1] and "--help" not in parameter.opts:
                sentence = _escaped(" ".join(record[1].split()))
                yield f".TP\n.B {_escaped(record[0])}\n{sentence}"
        if isinstance(command, click.Group):
            yield from _described(inner)


def _usage(command: click.Command, context: click.Context) -> str:
    return " ".join(command.collect_usage_pieces(context))


def _twistd_page(date: str) -> Iterator[str]:
    yield _head("TWISTD", 1, date, "User Commands")
    yield ".SH NAME\ntwistd \\- run the message broker as a daemon of Twisted"
    yield ".SH SYNOPSIS\n.B twistd\n[OPTION]...\n.B megabroker\n[OPTION OF THE BROKER]..."
    yield ".SH DESCRIPTION"
    yield from _paragraphs(_TWISTD)
    yield f".PP\n.nf\n{_escaped(Options().getUsage(width=78))}\n.fi"  # type: ignore[no-untyped-call]
    yield ".SH SEE ALSO\n.BR megabroker (1),\n.BR broker.yaml (5)"


# --- the configuration ----------------------------------------------------------------------------


def _configuration_page(date: str) -> Iterator[str]:
    yield _head("BROKER.YAML", 5, date, "File Formats")
    yield ".SH NAME\nbroker.yaml \\- configuration of megabroker"
    yield ".SH DESCRIPTION"
    yield from _paragraphs(_CONFIGURATION)
    yield ".SH KEYS"
    yield from _keys(one for one in keys(Config) if not one.path.startswith("protocols"))
    for name, plugin in sorted(discover().items()):
        yield f".SH PROTOCOLS.{_escaped(name.upper())}"
        yield from _keys(keys(plugin.settings_class(), f"protocols.{name}"))
    yield from _file_section()
    yield ".SH SEE ALSO\n.BR megabroker (1)"


def _keys(rows: Iterable[Key]) -> Iterator[str]:
    for key in rows:
        sentence = " ".join(key.spec.doc.split())
        yield f".TP\n.B {_escaped(key.path)}\n{_escaped(f'{sentence} [{key.note}]')}"


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
