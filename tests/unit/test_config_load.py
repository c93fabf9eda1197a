"""Loading a configuration file: every fault with its place, and the strictness of the YAML read."""

from __future__ import annotations

import os
import pathlib
import sys

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megabroker.config import fields
from megabroker.config.load import MAX_FILE_BYTES, load, parse
from megabroker.config.protocol import ListenerSettings, ProtocolSettings
from megabroker.config.schema import Config, DedupScope, Storage
from megabroker.errors import ConfigError, Fault
from megabroker.model import Durability, TimestampType
from megabroker.plugin import discover


@attrs.frozen(kw_only=True)
class EchoSettings(ProtocolSettings):
    max_line_bytes: int = fields.size_bytes(8192, minimum=1, doc="Longest line.")


class Echo:
    """A plugin as the loader sees it."""

    def __init__(self, endpoint: str) -> None:
        self.default_endpoint = endpoint

    def settings_class(self) -> type[ProtocolSettings]:
        return EchoSettings


PLUGINS = {"echo": Echo("tcp:7:interface=127.0.0.1"), "other": Echo("tcp:8:interface=127.0.0.1")}


def faults_of(text: str) -> list[Fault]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "test.yaml", PLUGINS)
    assert caught.value.source == "test.yaml"
    return caught.value.faults


def test_empty_file_is_all_defaults() -> None:
    config = parse("", "x", PLUGINS)
    assert config == Config()
    assert (config.storage, config.durability) == (Storage.FILE, Durability.FSYNC)
    assert config.data_dir == pathlib.Path("data")
    assert config.partition_channel_buffer_size == 10_000
    assert config.consumer_channel_buffer_size == 1000
    assert config.enable_gzip is False
    assert config.dedup.window_ms == 30 * 60 * 1000
    assert config.topics.default_partitions == 4
    assert config.topics.message_timestamp_type is TimestampType.CREATE_TIME


def test_values_are_read() -> None:
    config = parse(
        """
        node: {id: 7, rack: r1}
        data_dir: /var/lib/megabroker
        storage: memory
        durability: os
        dedup:
          scope: off
          window_ms: 1h
        topics: {retention_ms: -1, segment_bytes: 16MiB}
        protocols:
          echo:
            max_line_bytes: 1KiB
            listeners:
              - {name: in, endpoint: 'tcp:0', advertised_host: example.org, advertised_port: 7000}
              - endpoint: tcp:0
        """,
        "x",
        PLUGINS,
    )
    assert config.node.id == 7
    assert config.dedup.scope is DedupScope.OFF
    assert config.topics.retention_ms == -1
    echo = config.protocols["echo"]
    assert isinstance(echo, EchoSettings)
    assert echo.max_line_bytes == 1024
    assert echo.listeners[0] == ListenerSettings(
        name="in", endpoint="tcp:0", advertised_host="example.org", advertised_port=7000
    )


def test_protocol_without_listeners_gets_the_plugins_default() -> None:
    config = parse("protocols: {echo: }", "x", PLUGINS)
    assert [entry.endpoint for entry in config.protocols["echo"].listeners] == ["tcp:7:interface=127.0.0.1"]
    assert "other" not in config.protocols


def test_every_fault_is_found_at_once() -> None:
    faults = faults_of(
        """
        node: {id: -1}
        durabilty: os
        partition_channel_buffer_size: many
        groups: {min_session_timeout_ms: 2h, max_session_timeout_ms: 1h}
        protocols:
          ecko: {}
          echo:
            listeners:
              - endpoint: tcp:99999
              - {}
            max_line: 3
        """
    )
    assert [fault.path for fault in faults] == [
        "durabilty",
        "node.id",
        "partition_channel_buffer_size",
        "groups.min_session_timeout_ms",
        "protocols.ecko",
        "protocols.echo.max_line",
        "protocols.echo.listeners[0].endpoint",
        "protocols.echo.listeners[1].endpoint",
    ]
    text = str(ConfigError(faults, "test.yaml"))
    assert "did you mean durability?" in text
    assert "did you mean echo?" in text
    assert "(echo, other)" in text
    assert "did you mean max_line_bytes?" in text
    assert "partition_channel_buffer_size: 'many': expected an integer from 1 to 100000000" in text


@pytest.mark.parametrize(
    ("one", "other", "collide"),
    [
        ("tcp:9:interface=127.0.0.1", "tcp:9:interface=127.0.0.1", True),
        ("tcp:9", "tcp:port=9:interface=127.0.0.1", True),
        ("tcp:9:interface=127.0.0.1", "tcp:9:interface=127.0.0.2", False),
        ("tcp:9", r"tcp:9:interface=\:\:1", False),
        ("tcp:0", "tcp:0", False),
        ("tcp:9", "tcp:10", False),
        ("unix:/a", "unix:/a", True),
        ("unix:/a", "unix:/b", False),
    ],
)
def test_two_listeners_on_one_port(one: str, other: str, collide: bool) -> None:
    text = f"""
    protocols:
      echo: {{listeners: [{{endpoint: '{one}'}}]}}
      other: {{listeners: [{{endpoint: '{other}'}}]}}
    """
    if not collide:
        parse(text, "x", PLUGINS)
        return
    (fault,) = faults_of(text)
    assert (fault.path, fault.value) == ("protocols.other.listeners[0].endpoint", other)
    assert "protocols.echo.listeners[0].endpoint" in fault.expected


def test_a_disabled_protocol_takes_no_port() -> None:
    parse("protocols: {echo: {enabled: false}, other: {listeners: [{endpoint: 'tcp:7'}]}}", "x", PLUGINS)


def test_listener_names_are_unique() -> None:
    (fault,) = faults_of("protocols: {echo: {listeners: [{endpoint: 'tcp:1'}, {endpoint: 'tcp:2'}]}}")
    assert fault.path == "protocols.echo.listeners[1].name"


def test_settings_class_must_inherit() -> None:
    class Wrong(Echo):
        def settings_class(self) -> type[ProtocolSettings]:
            return ListenerSettings  # type: ignore[return-value]

    with pytest.raises(ConfigError) as caught:
        parse("protocols: {w: {endpoint: 'tcp:1'}}", "x", {"w": Wrong("tcp:1")})
    assert caught.value.faults[0].path == "protocols.w"


def test_a_plugin_that_cannot_be_imported_is_a_fault_where_it_is_used() -> None:
    class Broken(Echo):
        def settings_class(self) -> type[ProtocolSettings]:
            raise ImportError("no such module")

    plugins = {"b": Broken("tcp:1")}
    parse("node: {id: 3}", "x", plugins)
    with pytest.raises(ConfigError, match="no such module") as caught:
        parse("protocols: {b: {enabled: true}}", "x", plugins)
    assert caught.value.faults[0].path == "protocols.b"


def test_duplicate_keys_are_found_at_every_level() -> None:
    faults = faults_of(
        "storage: file\nnode:\n  id: 1\n  id: 2\nstorage: file\n"
        "protocols:\n  echo: {enabled: true, enabled: true}\n"
    )
    assert [fault.path for fault in faults] == ["node.id", "storage", "protocols.echo.enabled"]
    assert "line 4 repeats line 3" in faults[0].expected
    assert "line 5 repeats line 1" in faults[1].expected


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("node: [", "line 1, column 8"),
        ("node:\n  id: 1\n bad", "line 3"),
        ("a: 1\n\tb: 2", "line 2, column 1"),
        ("a: 1\n---\nb: 2", "line 2, column 1"),
        ("a: *nowhere", "line 1, column 4"),
        ("[" * 200, "line 1, column 33"),
        ("a: !!python/object/apply:os.system [x]", "line 1, column 4"),
    ],
)
def test_yaml_faults_have_line_and_column(text: str, place: str) -> None:
    (fault,) = faults_of(text)
    assert fault.path == "(file)"
    assert place in fault.expected


@pytest.mark.parametrize(
    "text",
    [
        "- 1",
        "5",
        "\x00",
        "a: !!int abc",
        "a: !!bool x",
        "a: !!timestamp x",
        "? [1]\n: 2",
        "? {a: 1}\n: 2",
        "a: \x07",
    ],
)
def test_other_malformed_files(text: str) -> None:
    assert faults_of(text)


@pytest.mark.parametrize("word", ["yes", "on", "0x10", "010", "1:30", "2001-01-01", "1" * 40, "1__a"])
def test_yaml_words_that_only_look_like_numbers(word: str) -> None:
    (fault,) = faults_of(f"node: {{id: {word}}}")
    assert (fault.path, fault.value) == ("node.id", word)


def test_aliases_cannot_blow_up_a_message() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    faults = faults_of("\n".join(lines))
    assert len(faults) == 10
    assert len(str(ConfigError(faults))) < 2000


def test_recursive_alias() -> None:
    (fault,) = faults_of("node: &n {deeper: *n}")
    assert fault.path == "node.deeper"


@given(st.text(alphabet="ab:{}[]&*!?-|>#'\" \n\t0%,", max_size=60))
@settings(max_examples=150)
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    try:
        config = parse(text, "x", PLUGINS)
    except ConfigError as error:
        if not error.faults:
            raise
    else:
        assert isinstance(config, Config)


def test_load_reads_a_file(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "broker.yaml"
    file.write_bytes(b"\xef\xbb\xbfnode: {id: 4}\n")
    assert load(file, PLUGINS).node.id == 4


def test_load_reports_what_is_wrong_with_the_file(tmp_path: pathlib.Path) -> None:
    def only_fault(path: pathlib.Path) -> str:
        with pytest.raises(ConfigError) as caught:
            load(path, PLUGINS)
        assert caught.value.source == str(path)
        (fault,) = caught.value.faults
        assert fault.path == "(file)"
        return fault.expected

    assert "No such file" in only_fault(tmp_path / "none.yaml")
    assert "directory" in only_fault(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"node: {rack: \xe9}")
    assert "UTF-8" in only_fault(tmp_path / "latin.yaml")
    with open(tmp_path / "huge.yaml", "wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert "at most" in only_fault(tmp_path / "huge.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable_file(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "broker.yaml"
    file.write_text("")
    file.chmod(0)
    with pytest.raises(ConfigError, match="Permission denied"):
        load(file, PLUGINS)


def test_loading_imports_no_plugin_and_no_reactor() -> None:
    import subprocess

    code = (
        "import sys; from megabroker.config.load import parse; parse('', 'x', {});"
        "print([m for m in sys.modules if m.startswith(('twisted', 'megabroker.protocols', 'difflib'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_who_clients_are_is_asked_as_the_protocol_can() -> None:
    plugins = discover()
    text = "protocols: {%s: {listeners: [{endpoint: 'tcp:0', %s}]}}\n"
    assert parse(text % ("kafka", "sasl: [PLAIN, SCRAM-SHA-512]"), "f", plugins).authenticates
    for protocol, key, path in (
        ("mega", "sasl: [PLAIN]", "protocols.mega.listeners[0].sasl"),
        ("kafka", "auth: required", "protocols.kafka.listeners[0].auth"),
        ("kafka", "sasl: [GSSAPI]", "protocols.kafka.listeners[0].sasl[0]"),
        ("kafka", "sasl: [OAUTHBEARER]", "security.tokens.keys"),
    ):
        with pytest.raises(ConfigError) as caught:
            parse(text % (protocol, key), "f", plugins)
        assert [fault.path for fault in caught.value.faults] == [path]
    tokens = "security: {tokens: {keys: '%s'}}\n" + text % ("kafka", "sasl: [OAUTHBEARER]")
    for keys in ("https://issuer.test/keys", "http://127.0.0.1:8080/keys", __file__):
        assert parse(tokens % keys, "f", plugins).takes_tokens
    for keys in ("http://issuer.test/keys", f"{__file__}.absent"):
        with pytest.raises(ConfigError, match=r"security\.tokens\.keys"):
            parse(tokens % keys, "f", plugins)


def test_what_tokens_lack_is_told_where_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "jwt" else real(name, *more)
    )
    text = "protocols: {kafka: {listeners: [{endpoint: 'tcp:0', sasl: [OAUTHBEARER]}]}}\n"
    with pytest.raises(ConfigError) as caught:
        parse(text, "f", discover())
    found = {fault.path: fault.expected for fault in caught.value.faults}
    assert set(found) == {"security.tokens.keys", "protocols.kafka.listeners[0].sasl"}
    assert len(caught.value.faults) == 2
    assert "a file or a URL" in found["security.tokens.keys"]
    assert "the extra oauth" in found["protocols.kafka.listeners[0].sasl"]


@pytest.mark.parametrize(
    ("keys", "is_good"),
    [
        ("https://idp.test/keys", True),
        ("https://idp.test:8443", True),
        ("http://127.0.0.1:80/keys?a=@b", True),
        ("/etc/keys", True),
        ("http://idp.test/keys", False),
        ("http://localhost:80@idp.test/keys", False),
        ("http://localhost.idp.test/keys", False),
        ("https://user:word@idp.test/keys", False),
    ],
)
def test_where_keys_of_tokens_may_come_from(keys: str, is_good: bool) -> None:
    try:
        parse(f"security: {{tokens: {{keys: '{keys}'}}}}", "test", discover())
    except ConfigError as error:
        faults = [fault.path for fault in error.faults]
    else:
        faults = []
    assert ("security.tokens.keys" not in faults) == is_good, keys
