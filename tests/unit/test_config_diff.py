"""What a reload is told of two configurations."""

from __future__ import annotations

from megabroker.config.diff import KeyChange, changes
from megabroker.config.load import parse
from megabroker.config.protocol import ProtocolSettings
from megabroker.config.schema import Config


class Plugin:
    default_endpoint = "tcp:7:interface=127.0.0.1"

    def settings_class(self) -> type[ProtocolSettings]:
        return ProtocolSettings


def config(text: str) -> Config:
    return parse(text, "x", {"echo": Plugin()})


def test_equal_configurations_have_no_changes() -> None:
    text = "node: {id: 2}\nprotocols: {echo: }"
    assert changes(config(text), config(text)) == []


def test_the_same_value_spelt_otherwise_is_no_change() -> None:
    assert changes(config("dedup: {window_ms: 60m}"), config("dedup: {window_ms: 1h}")) == []


def test_changes_in_schema_order_with_reloadability() -> None:
    old = config("")
    new = config("logging: {level: debug}\nnode: {id: 2}\ntopics: {auto_create: false}")
    assert changes(old, new) == [
        KeyChange("node.id", 1, 2, False),
        KeyChange("topics.auto_create", True, False, True),
        KeyChange("logging.level", "info", "debug", True),
    ]


def test_protocols_are_compared_key_by_key() -> None:
    old = config("protocols: {echo: }")
    new = config("protocols: {echo: {enabled: false}}")
    assert changes(old, new) == [KeyChange("protocols.echo.enabled", True, False, False)]


def test_a_protocol_that_comes_or_goes_is_one_change() -> None:
    without, with_echo = config(""), config("protocols: {echo: }")
    settings = with_echo.protocols["echo"]
    assert changes(without, with_echo) == [KeyChange("protocols.echo", None, settings, False)]
    assert changes(with_echo, without) == [KeyChange("protocols.echo", settings, None, False)]


def test_changed_listeners_are_one_change() -> None:
    old = config("protocols: {echo: {listeners: [{endpoint: 'tcp:1'}]}}")
    new = config("protocols: {echo: {listeners: [{endpoint: 'tcp:2'}]}}")
    (change,) = changes(old, new)
    assert (change.path, change.reloadable) == ("protocols.echo.listeners", False)
