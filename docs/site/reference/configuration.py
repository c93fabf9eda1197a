"""Every key of the configuration, from its schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from megabroker.config.schema import Config
from megabroker.config.structure import Key, Section, keys, spec_of
from megabroker.plugin import discover
from reference.rest import described, heading, plain

__all__ = ["text"]


def text() -> str:
    """Return the page, without its title."""
    return "".join(_pieces())


def _pieces() -> Iterator[str]:
    yield heading("Top-level keys", "-")
    sections = []
    for field in attrs.fields(Config):
        spec = spec_of(field)
        if spec is None or field.name == "protocols":
            continue
        if isinstance(spec.kind, Section):
            sections.append((field.name, spec))
        else:
            yield _key(next(key for key in keys(Config) if key.path == field.name))
    for name, spec in sections:
        yield heading(name, "-") + plain(spec.doc) + "\n\n"
        yield from _keys(spec.kind.cls, name)
    for name, plugin in discover().items():
        path = f"protocols.{name}"
        yield heading(path, "-")
        yield f"Served at ``{plugin.default_endpoint}`` if no listener is configured.\n\n"
        yield from _keys(plugin.settings_class(), path)


def _keys(cls: type[Any], path: str) -> Iterator[str]:
    for key in keys(cls, path):
        yield _key(key)


def _key(key: Key) -> str:
    kind = key.spec.kind
    required = "required" if key.default is attrs.NOTHING else ""
    what = ", ".join(part for part in (key.spec.unit, kind.range or kind.expected, required) if part)
    options = [("type", plain(what))]
    if not required:
        options.append(("default", f"``{key.shown_default}``" if key.shown_default else "nothing"))
    change = "SIGHUP applies a change." if key.spec.reloadable else "A change needs a restart."
    return described("confval", key.path, [f"{plain(key.spec.doc)} {change}"], options)
