"""Configurations written as files, and keys that are given one by one."""

from __future__ import annotations

import re

import pytest

from megabroker.config.given import DEFAULT_TEXT
from megabroker.config.load import parse
from megabroker.config.rendering import commented, effective
from megabroker.config.schema import Config, Storage
from megabroker.errors import ConfigError
from megabroker.plugin import discover

NAMES = ("kafka", "mega", "cursus")
PLUGINS = {name: plugin for name, plugin in discover().items() if name in NAMES}
DEFAULT = parse(DEFAULT_TEXT, "", PLUGINS)


def given(*keys: str, text: str = DEFAULT_TEXT) -> Config:
    return parse(text, "test", PLUGINS, keys)


def faults(*keys: str, text: str = DEFAULT_TEXT) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        given(*keys, text=text)
    return [str(fault) for fault in caught.value.faults]


def test_what_is_in_force_is_read_back_as_the_same() -> None:
    config = given(
        *("topics.retention_ms=1h", "storage=memory", "node.rack='yes: no # \"'", "data_dir='/a b/[c]'"),
        "protocols.kafka.listeners=[{endpoint: 'tcp:1', advertised_host: h}, {name: x, endpoint: 'tcp:2'}]",
        "security.super_users=['User:a', 'User:b, c']",
    )
    text = effective(config, DEFAULT)
    assert parse(text, "", PLUGINS) == config
    assert "  retention_ms: 1h  # default 7d\n" in text
    assert "  segment_ms: 7d\n" in text
    changed = effective(config, DEFAULT, changed_only=True)
    assert "segment_ms" not in changed
    assert "retention_ms: 1h" in changed
    assert effective(DEFAULT, DEFAULT, changed_only=True) == ""


def test_a_file_to_begin_with_says_nothing_and_explains_everything() -> None:
    text = commented({name: (one.settings_class(), one.default_endpoint) for name, one in PLUGINS.items()})
    assert parse(text, "", PLUGINS) == DEFAULT
    assert max(map(len, text.splitlines())) <= 120
    for phrase in ("# retention_ms: 7d", "# Id of this broker", "  kafka:\n", "# max_fetch_bytes: 55MiB"):
        assert phrase in text


def test_its_keys_stand_for_their_defaults() -> None:
    text = commented({name: (one.settings_class(), one.default_endpoint) for name, one in PLUGINS.items()})
    uncommented = re.sub(r"^( *)# ([a-z_]+: .+)$", r"\1\2", text, flags=re.MULTILINE)
    assert len(uncommented) < len(text) - 100
    assert parse(uncommented, "", PLUGINS) == DEFAULT


def test_given_keys_take_the_place_of_the_files() -> None:
    text = "storage: file\ntopics: {default_partitions: 3, auto_create: false}\n" + DEFAULT_TEXT
    config = given("storage=memory", "topics.default_partitions=9", text=text)
    assert config.storage is Storage.MEMORY
    assert config.topics.default_partitions == 9
    assert not config.topics.auto_create
    config = given(
        "protocols.kafka.listeners[0].endpoint=tcp:1",
        "protocols.kafka.listeners[1]={name: x, endpoint: 'tcp:2'}",
    )
    assert [one.endpoint for one in config.protocols["kafka"].listeners] == ["tcp:1", "tcp:2"]
    assert given("topics.retention_ms=1h", "topics.retention_ms=2h").topics.retention_ms == 7_200_000


def test_faults_of_given_keys_read_like_those_of_a_file() -> None:
    for key, words in (
        ("topics.retention_ms=soon", "topics.retention_ms: 'soon': expected"),
        ("topics.x=1", "topics.x: 1: expected a key that exists here"),
        ("odd", "(command line): 'odd': expected KEY=VALUE"),
        ("=1", "(command line): '=1': expected KEY=VALUE"),
        ("a..b=1", "(command line): 'a..b=1': expected KEY=VALUE"),
        ("workers.x=1", "workers: a mapping of 1: expected an integer"),
        ("topics=[", "topics: '[': expected"),
        ("protocols.kafka.listeners[7].endpoint=x", "expected an entry from 0 to 0"),
    ):
        assert any(words in fault for fault in faults(key)), (key, faults(key))
    [fault] = faults("storage.kind=x", text="storage: file\n" + DEFAULT_TEXT)
    assert "storage.kind: 'file': expected a mapping of keys, for kind to be in" in fault
