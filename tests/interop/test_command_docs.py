"""The page of the command line: its examples run as they stand, in their order, and print what is shown."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

from megabroker.cli.main import EXIT_CODES
from tests.brokers import BrokerProcess

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
_FIGURES = (
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<id>"),
    (r"\b1[0-9]{12}\b", "<time>"),
    (r'(?<="seconds":)[0-9.]+', "<seconds>"),
    (r"(?<=^cluster )\S{22}(?=:)", "<cluster>"),
    (r"127\.0\.0\.1:[0-9]{2,5}\b", "127.0.0.1:<port>"),
    (r"(?<=[^ ]) {2,}", "  "),
)


def normal(text: str) -> str:
    for pattern, figure in _FIGURES:
        text = re.sub(pattern, figure, text, flags=re.MULTILINE)
    return text


def test_the_examples_print_what_is_shown(tmp_path: pathlib.Path) -> None:
    consoles = re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(consoles) == 7
    wrong = []
    with BrokerProcess() as broker:
        scripts = pathlib.Path(sys.executable).parent
        environment = {
            **os.environ,
            "PATH": f"{scripts}:{os.environ['PATH']}",
            "MEGABROKER_BROKERS": broker.kafka,
        }
        for example in re.split(r"^(?=\$ )", "".join(consoles), flags=re.MULTILINE)[1:]:
            command, _, shown = example.removeprefix("$ ").partition("\n")
            done = subprocess.run(
                command,
                shell=True,
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=60,
                check=False,
            )
            if normal(done.stdout) != normal(shown):
                wrong.append(f"$ {command}\n{done.stdout}")
    assert not wrong, "\n".join(["other than shown:", *wrong])


def test_all_exit_codes_are_told() -> None:
    section = PAGE[PAGE.index("## Exit codes") :]
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)}
    assert told == {0, *EXIT_CODES.values()}
