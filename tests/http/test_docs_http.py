"""docs/http.md says what is: its examples run and print what is shown, its table is complete."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
from typing import Any

from megabroker.http.api import all_routes
from megabroker.http.openapi import told
from tests.brokers import BrokerProcess

_PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
_BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", _PAGE, re.MULTILINE | re.DOTALL)
_CHANGES_EVERY_TIME = ("id", "timestamp_ms", "commit_time_ms")


def _plain(value: Any) -> Any:
    """Return JSON without what is another each time."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items() if name not in _CHANGES_EVERY_TIME}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def test_examples_run_and_print_what_is_shown() -> None:
    compared = 0
    with BrokerProcess({"durability": "os"}) as broker:
        for at, (language, text) in enumerate(_BLOCKS):
            if language not in ("sh", "python"):
                continue
            code = text.replace("127.0.0.1:8090", f"127.0.0.1:{broker.http_ports[0]}")
            command = ["bash", "-e", "-c", code] if language == "sh" else [sys.executable, "-c", code]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30)
            assert (done.returncode, done.stderr) == (0, ""), text
            shown, expected = _BLOCKS[at + 1] if at + 1 < len(_BLOCKS) else ("", "")
            if shown == "json":
                assert _plain(json.loads(done.stdout)) == _plain(json.loads(expected)), text
                compared += 1
            elif shown == "text":
                assert done.stdout == expected
                compared += 1
            else:
                assert '"code"' not in done.stdout, done.stdout
    assert compared >= 10


def test_the_table_has_every_address() -> None:
    rows = re.findall(r"^\| (\w+) \| `(\S+)` \| (.*?) \| (.*?) \|$", _PAGE, re.MULTILINE)
    assert rows == [
        (route.method, route.path, route.summary, told(route)) for route in all_routes() if not route.hidden
    ]
