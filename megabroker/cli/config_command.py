"""``megabroker config``: what is wrong with a configuration file, what it comes to, and one to begin with."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from megabroker.cli.command_groups import CommandGroup
from megabroker.cli.output import json_option, print_json
from megabroker.config.diff import changes
from megabroker.config.given import DEFAULT_TEXT
from megabroker.config.load import load, parse
from megabroker.config.rendering import commented, effective
from megabroker.config.schema import Config
from megabroker.errors import ConfigError, ErrorCode, RequestError
from megabroker.plugin import discover

__all__ = ["config"]

_PATH = click.Path(path_type=pathlib.Path)
_BUILT_IN: Final = ("kafka", "mega", "cursus")


@click.group(cls=CommandGroup)
def config() -> None:
    """Configuration files."""


@config.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=_PATH)
@json_option
def check(files: Sequence[pathlib.Path], as_json: bool) -> None:
    """Report all faults of files; the exit code is 1 if there are any."""
    plugins = discover()
    told = []
    for file in files:
        faults = []
        try:
            load(file, plugins)
        except ConfigError as error:
            faults = error.faults
        told.append(
            {
                "file": str(file),
                "faults": [
                    {"path": one.path, "value": repr(one.value), "expected": one.expected} for one in faults
                ],
            }
        )
        if not as_json:
            click.echo(ConfigError(faults, str(file)) if faults else f"{file}: no faults", err=bool(faults))
    if as_json:
        print_json(told)
    if any(one["faults"] for one in told):
        sys.exit(1)


@config.command()
@click.option("-c", "--config", "file", type=_PATH, help="Configuration file; the defaults if not given.")
@click.option("--set", "given", multiple=True, metavar="KEY=VALUE", help="Override a key of the file.")
@click.option("--changed", is_flag=True, help="Only keys that differ from the defaults.")
@json_option
def show(file: pathlib.Path | None, given: Sequence[str], changed: bool, as_json: bool) -> None:
    """Print the configuration in force as YAML, with the defaults of changed keys."""
    plugins = discover()
    source = "the defaults" if file is None else str(file)
    try:
        found = parse(DEFAULT_TEXT, source, plugins, given) if file is None else load(file, plugins, given)
    except ConfigError as error:
        raise ConfigError(error.faults, source) from None
    default = _default(found, plugins)
    if as_json:
        print_json(
            [
                {"path": one.path, "value": str(one.new), "default": str(one.old)}
                for one in changes(default, found)
            ]
        )
    else:
        click.echo(effective(found, default, changed_only=changed), nl=False)


def _default(found: Config, plugins: Mapping[str, Any]) -> Config:
    """Return the defaults with the same protocols."""
    named = ", ".join(f"{name}: {{}}" for name in found.protocols)
    return parse(f"protocols: {{{named}}}", "", plugins)


@config.command()
@click.argument("file", required=False, type=_PATH, default=pathlib.Path("broker.yaml"))
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@json_option
def init(file: pathlib.Path, force: bool, as_json: bool) -> None:
    """Write FILE (default broker.yaml; - for standard output), which explains every key."""
    if as_json and str(file) == "-":
        raise click.UsageError("--json: expected the name of a file, because the output is YAML")
    plugins = discover()
    built_in = {name: plugins[name] for name in _BUILT_IN}
    text = commented({name: (one.settings_class(), one.default_endpoint) for name, one in built_in.items()})
    if str(file) == "-":
        click.echo(text, nl=False)
        return
    try:
        with open(file, "w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise RequestError(
            ErrorCode.INVALID_REQUEST, f"{file} exists already: expected another name, or --force"
        ) from None
    if as_json:
        print_json({"written": str(file)})
    else:
        click.echo(f"wrote {file}: megabroker start --config {file} runs it")
