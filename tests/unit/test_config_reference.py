"""``etc/broker.yaml`` documents the schema: every key, its unit, range, default and reloadability."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator

import attrs
import yaml

from megabroker.config.load import load
from megabroker.config.protocol import ProtocolSettings
from megabroker.config.schema import Config
from megabroker.config.structure import Key, keys
from megabroker.plugin import discover

REFERENCE = pathlib.Path(__file__).parents[2] / "etc" / "broker.yaml"
TEXT = REFERENCE.read_text(encoding="utf-8")
EVERY_PROTOCOL = {key.path for key in keys(ProtocolSettings)}


PLUGINS = {name: plugin for name, plugin in discover().items() if name in ("kafka", "mega", "cursus")}


def protocol_settings() -> dict[str, type[ProtocolSettings]]:
    """Return the settings classes of the built-in protocols."""
    return {name: plugin.settings_class() for name, plugin in PLUGINS.items()}


def loaded() -> Config:
    return load(REFERENCE, PLUGINS)


def documented() -> Iterator[tuple[str, str, str]]:
    """Yield (dotted path, text of the comment above, value as written) of every key with a value."""
    comment: list[str] = []
    stack: list[tuple[int, str]] = []
    for line in TEXT.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped[1:].strip())
            continue
        found = re.match(r"( *)([a-z_]+):(?: (.*))?$", line)
        if found:
            indent = len(found[1])
            stack = [entry for entry in stack if entry[0] < indent]
            stack.append((indent, found[2]))
            if found[3]:
                yield ".".join(name for _, name in stack), " ".join(comment), found[3]
        comment = []


def test_every_key_of_the_schema_is_documented_with_its_default() -> None:
    found = {path: (comment, value) for path, comment, value in documented()}
    for key in keys(Config):
        if key.path == "protocols" or key.path.startswith("http.tls."):  # as of any listener
            continue
        assert key.path in found, f"{key.path} is not in {REFERENCE.name}"
        comment, value = found[key.path]
        assert f"[{key.note}]" in comment, f"{key.path}: the comment should hold [{key.note}]"
        assert key.spec.doc in comment, f"{key.path}: the comment should hold: {key.spec.doc}"
        assert value == key.shown_default, key.path


def own_keys(cls: type[ProtocolSettings]) -> list[Key]:
    return [key for key in keys(cls) if key.path not in EVERY_PROTOCOL]


def test_every_key_of_a_protocol_is_documented_with_its_default() -> None:
    found = {path: (comment, value) for path, comment, value in documented()}
    for name, cls in protocol_settings().items():
        for key in own_keys(cls):
            path = f"protocols.{name}.{key.path}"
            assert path in found, f"{path} is not in {REFERENCE.name}"
            comment, value = found[path]
            assert f"[{key.note}]" in comment, f"{path}: the comment should hold [{key.note}]"
            assert value == key.shown_default, path


def test_what_every_protocol_has_is_documented_once() -> None:
    head = " ".join(line.lstrip("# ") for line in TEXT[: TEXT.index("\nprotocols:")].splitlines())
    head = re.sub(r"\s+", " ", head)
    for key in keys(ProtocolSettings):
        name = key.path.removeprefix("listeners[].")
        assert f"{name} {key.spec.doc.split(';')[0]}" in head, key.path
        assert f"[{key.note}]" in head, key.path


def test_the_reference_loads_and_its_values_are_the_defaults() -> None:
    config = loaded()
    assert attrs.evolve(config, protocols={}) == Config()
    for name, cls in protocol_settings().items():
        assert attrs.evolve(config.protocols[name], listeners=()) == cls()


def test_it_is_served_to_this_machine_only() -> None:
    endpoints = {
        name: [listener.endpoint for listener in settings.listeners]
        for name, settings in loaded().protocols.items()
    }
    assert endpoints == {name: [plugin.default_endpoint] for name, plugin in PLUGINS.items()}
    assert endpoints == {
        "kafka": ["tcp:9092:interface=127.0.0.1"],
        "mega": ["tcp:8080:interface=127.0.0.1"],
        "cursus": ["tcp:9000:interface=127.0.0.1"],
    }


def test_no_key_is_documented_that_does_not_exist() -> None:
    known = {"http.tls", *(key.path for key in keys(Config))}
    known |= {
        f"protocols.{name}.{key.path}" for name, cls in protocol_settings().items() for key in keys(cls)
    }
    for path, _, _ in documented():
        assert path in known or ".listeners." in path, path


def test_plain_yaml_readers_see_the_same_file() -> None:
    assert set(yaml.safe_load(TEXT)) == {field.name for field in attrs.fields(Config)}
