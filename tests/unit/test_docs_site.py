"""The site of the documentation: every page is in its contents, and what is generated names everything."""

from __future__ import annotations

import importlib
import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from megabroker.config.schema import Config
from megabroker.config.structure import keys
from megabroker.http.api import all_routes
from megabroker.ops.metrics.table import FAMILIES

DOCS = pathlib.Path(__file__).parents[2] / "docs"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    pytest.importorskip("sphinx", reason="sphinx is not installed (./dev docs installs it)")
    monkeypatch.syspath_prepend(str(DOCS / "site"))
    known = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - known:
        if name.partition(".")[0] in ("reference", "links"):
            del sys.modules[name]


def test_every_page_is_in_the_contents() -> None:
    contents = (DOCS / "index.md").read_text(encoding="utf-8").splitlines()
    pages = {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.glob("*.md")} - {"index"}
    pages |= {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.glob("reference/*.rst")}
    assert pages - set(contents) == set()


def test_every_key_is_described(site: Callable[[str], ModuleType]) -> None:
    text = site("reference.configuration").text()
    described = re.findall(r"^\.\. confval:: (.*)$", text, re.MULTILINE)
    for key in keys(Config):
        assert key.path in described or key.path == "protocols"
    assert {"protocols.kafka.listeners[].sasl", "protocols.mega.enabled"} <= set(described)
    at = text.index(":: topics.retention_ms\n")
    assert "``7d``" in text[at : at + 200]
    assert "milliseconds" in text[at : at + 200]


def test_every_address_is_described(site: Callable[[str], ModuleType]) -> None:
    text = site("reference.http_api").text()
    for route in all_routes():
        if not route.hidden:
            assert f".. describe:: {route.method} {route.path}\n" in text


def test_every_metric_is_described(site: Callable[[str], ModuleType]) -> None:
    text = site("reference.metrics").text()
    for family in FAMILIES:
        assert f".. describe:: {family.name}\n" in text


def test_interfaces_are_described_with_their_types(site: Callable[[str], ModuleType]) -> None:
    text = site("reference.interfaces").text()
    interfaces = importlib.import_module("megabroker.interfaces")
    for name in interfaces.__all__:
        assert re.search(rf"^\.\. py:class:: {name}\b", text, re.MULTILINE)
    assert re.search(r"\.\. py:method:: \w+\(.*: .*\) -> ", text)


def test_a_link_that_leads_nowhere_is_found(
    site: Callable[[str], ModuleType], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "a.html").write_text('<a href="b.html#here"></a><a href="b.html#gone"></a><a href="c.html">')
    (tmp_path / "b.html").write_text('<p id="here"><a href="https://example.org/x"></a><a href="#"></a>')
    assert list(site("links").broken(tmp_path)) == [("a.html", "b.html#gone"), ("a.html", "c.html")]
