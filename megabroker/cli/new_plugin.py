"""``megabroker plugin new``: the beginning of a protocol of one's own, as a package whose tests pass."""

from __future__ import annotations

import importlib.resources
import importlib.util
import keyword
import pathlib
import re
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from typing import Final

import click

from megabroker.cli.output import json_option, print_json
from megabroker.plugin import discover

__all__ = ["new", "rendered"]

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TEMPLATE: Final = "plugin_template"
_SUFFIX: Final = ".txt"
_PLACES: Final = {
    "package": "{{name}}",
    "plugins": "megabroker/plugins",
    "plugin.py": "{{name}}_plugin.py",
    "example.golden": "{{name}}.golden",
}
"""What parts of a path are called in a package of one's own, where that is not the same."""


@click.command()
@click.argument("name")
@click.option(
    "-d",
    "--directory",
    type=click.Path(path_type=pathlib.Path),
    help="Directory to create; NAME in the working directory if not given.",
)
@json_option
def new(name: str, directory: pathlib.Path | None, as_json: bool) -> None:
    """Create a package with a working protocol NAME, and tests that pass.

    The protocol transmits lines of text; docs/plugins.md explains how to turn it into your own.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or name == "megabroker":
        raise click.BadParameter(
            f"{name!r}: expected 1 to 40 characters a-z, 0-9 and _, starting with a letter, and not a "
            "Python keyword",
            param_hint="NAME",
        )
    if name in discover() or _is_taken(name):
        raise click.BadParameter(
            f"{name!r}: expected a name that is not used by a protocol or module", param_hint="NAME"
        )
    place = directory or pathlib.Path(name)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise click.BadParameter(
            f"{place}: expected a directory that is empty or does not exist", param_hint="-d"
        )
    written = []
    try:
        for path, text in rendered(name):
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_text(text, encoding="utf-8")
            written.append(str(place / path))
    except OSError as error:
        raise click.ClickException(f"cannot write {error.filename}: {error.strerror}") from None
    if as_json:
        print_json({"name": name, "directory": str(place), "files": written})
    else:
        click.echo(f"wrote {len(written)} files in {place}")
        click.echo(f"now: cd {place} && pip install -e '.[test]' && pytest")


def _is_taken(name: str) -> bool:
    """Whether there is a module of that name; a mere directory is none."""
    found = importlib.util.find_spec(name)
    return found is not None and found.origin is not None


def rendered(name: str) -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each file of a new package."""
    words = {
        "name": name,
        "Name": "".join(word.capitalize() for word in name.split("_")),
        "dist": name.replace("_", "-"),
    }
    template = importlib.resources.files("megabroker.cli").joinpath(_TEMPLATE)
    for path, text in _files(template, ""):
        yield _filled(path, words), _filled(text, words)


def _files(place: Traversable, path: str) -> Iterator[tuple[str, str]]:
    for entry in sorted(place.iterdir(), key=lambda entry: entry.name):
        own = entry.name.removesuffix(_SUFFIX)
        inner = f"{path}{_PLACES.get(own, own)}"
        if entry.is_dir():
            yield from _files(entry, f"{inner}/")
        elif entry.name.endswith(_SUFFIX):
            yield inner, entry.read_text(encoding="utf-8")


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: words[found[1]], text)
