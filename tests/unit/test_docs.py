"""The documentation says what is: its examples run, its tables follow the code, its paths exist."""

from __future__ import annotations

import itertools
import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest
import yaml

from megabroker.cli.new_plugin import rendered
from megabroker.config.load import load
from megabroker.config.schema import Config
from megabroker.config.structure import keys
from megabroker.core.topic_configs import TOPIC_CONFIGS
from megabroker.plugin import discover
from megabroker.protocols.kafka.dispatch import SERVED
from megabroker.protocols.kafka.schema.registry import APIS
from megabroker.simulation.rules import RULES
from tests.brokers import BrokerProcess

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = pathlib.Path(sys.executable).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMPATIBILITY = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
PLUGIN_EXAMPLE = ROOT / "tests" / "plugin_example"
PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", ROOT / "CHANGES.md", *sorted((ROOT / "docs").glob("*.md"))]
}
DEFAULT_PORTS = {"kafka": 9092, "mega": 8080, "cursus": 9000}


def blocks(text: str) -> list[tuple[str, str]]:
    """Return (language, content) of every fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def table_rows(text: str, columns: int) -> Iterator[list[str]]:
    """Yield the cells of every table row with so many columns."""
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith("|--"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) == columns:
                yield cells


def headings(text: str) -> list[tuple[int, int, str]]:
    """Return (position after it, level, title) of every heading; a comment in a fenced block is none."""
    found = []
    fenced = False
    position = 0
    for line in text.splitlines(keepends=True):
        position += len(line)
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and (match := re.match(r"(#+) (.*)$", line)):
            found.append((position, len(match[1]), match[2]))
    return found


def section(text: str, title: str) -> str:
    """Return what stands under a heading, its subsections included."""
    all_headings = headings(text)
    at = next(at for at, heading in enumerate(all_headings) if heading[2] == title)
    start, level, _ = all_headings[at]
    following = (heading[0] for heading in all_headings[at + 1 :] if heading[1] <= level)
    return text[start : next(following, len(text))]


@pytest.mark.parametrize("page", PAGES)
def test_python_compiles(page: str) -> None:
    for language, content in blocks(PAGES[page]):
        if language == "python":
            compile(textwrap.dedent(_whole(content)), page, "exec")


def _whole(content: str) -> str:
    """Put a quoted part of a method back into a function, for it may await and return."""
    return f"async def quoted():\n{content}" if content.startswith("        ") else content


@pytest.mark.parametrize("page", PAGES)
def test_yaml_is_a_mapping(page: str) -> None:
    for language, content in blocks(PAGES[page]):
        if language == "yaml":
            assert isinstance(yaml.safe_load(content), dict)


def link_targets(text: str) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http:", "https:")):
            yield target


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    here = ROOT if (ROOT / page).exists() else ROOT / "docs"
    for target in link_targets(PAGES[page]):
        path, _, anchor = target.partition("#")
        file = (here / path) if path else here / page
        assert file.exists(), target
        if anchor:
            titles = [title for _, _, title in headings(file.read_text(encoding="utf-8"))]
            found = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in found, target


_PATH = re.compile(r"`((?:\./)?(?:megabroker|tests|docs|etc|twisted|examples|bench|packaging)/[\w./-]*)`")


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page: str) -> None:
    made_up = {f"megabroker/plugins/{name}" for name in ("", "x_plugin.py", "notes_plugin.py")}
    for path in _PATH.findall(PAGES[page]):
        assert path in made_up or (ROOT / path).exists(), path


def test_modules_named_in_the_architecture_exist() -> None:
    text = PAGES["architecture.md"]
    named = set(re.findall(r"^\| `([\w/]+\.py)` \|", text, re.MULTILINE))
    assert len(named) > 40
    for name in named:
        assert (ROOT / "megabroker" / name).exists(), name
    present = {
        str(path.relative_to(ROOT / "megabroker"))
        for path in (ROOT / "megabroker").rglob("*.py")
        if path.name != "__init__.py"
    }
    one_each = re.compile(
        r"interfaces/|model/|protocols/kafka/(apis|schema)/|plugins/|http/api/|http/console/pages/"
    )
    assert {name for name in present if not one_each.match(name)} == named


def test_layout_lists_what_is_there() -> None:
    (layout,) = (content for language, content in blocks(section(README, "Where things are")) if language)
    base = ROOT
    for line in layout.splitlines():
        indented = line.startswith("  ")
        base = ROOT / "megabroker" if indented else ROOT
        for name in re.split(r"\s{2,}", line.strip())[0].split(" "):
            assert (base / name).exists(), name


# --- configuration ---


def test_configuration_table_has_the_defaults(tmp_path: pathlib.Path) -> None:
    plugins = {name: plugin for name, plugin in discover().items() if name in DEFAULT_PORTS}
    rows = [row for row in table_rows(section(README, "Configuration"), 3) if row[0].startswith("`")]
    assert len(rows) > 20
    everything: dict[str, dict[str, dict[str, str]]] = {"protocols": {name: {} for name in plugins}}
    file = tmp_path / "default.yaml"
    file.write_text(yaml.safe_dump(everything))
    default = load(file, plugins)
    for key, value, _ in rows:
        path = key.strip("`").split(".")
        nested: object = yaml.load(value.strip("`"), yaml.BaseLoader)
        lines = [f"{'  ' * depth}{name}:" for depth, name in enumerate(path)]
        lines[-1] += f" {nested}"
        text = "\n".join(lines)
        if path[0] == "protocols":
            text += "".join(f"\n  {name}: {{}}" for name in plugins if name != path[1])
        else:
            text += "\n" + yaml.safe_dump(everything)
        file.write_text(text)
        assert load(file, plugins) == default, key


def test_check_prints_what_the_readme_shows(tmp_path: pathlib.Path) -> None:
    found = blocks(section(README, "Configuration"))
    at = next(at for at, (_, content) in enumerate(found) if "--check" in content)
    (tmp_path / "faulty.yaml").write_text(found[at - 1][1])
    shown = found[at][1].split("$ ")
    command, _, output = shown[1].partition("\n")
    code = shown[2].removeprefix("echo $?\n")
    words = shlex.split(command)
    words[0] = str(pathlib.Path(sys.executable).with_name(words[0]))
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    # The plugin that the tutorial makes may be installed as well.
    installed = ", ".join(sorted(discover()))
    assert done.stdout + done.stderr == output.replace("cursus, kafka, mega, stomp", installed)
    assert done.returncode == int(code)
    assert [path.name for path in tmp_path.iterdir()] == ["faulty.yaml"]


def test_every_configuration_key_in_prose_exists() -> None:
    plugins = {name: plugin for name, plugin in discover().items() if name in DEFAULT_PORTS}
    known = {key.path for key in keys(Config)}
    for name, plugin in plugins.items():
        known |= {f"protocols.{name}.{key.path}" for key in keys(plugin.settings_class())}
    sections = {path.split(".")[0] for path in known if "." in path}
    word = re.compile(rf"`((?:{'|'.join(sorted(sections))})\.[a-z_.]+)`")
    for page, text in PAGES.items():
        for path in word.findall(text):
            assert path in known or path == "protocols.notes", f"{page}: {path}"


# --- Kafka ---


def test_compatibility_table_is_what_is_dispatched() -> None:
    rows = {
        int(cells[0]): (cells[1], cells[2])
        for cells in table_rows(section(COMPATIBILITY, "Served"), 4)
        if cells[0].isdigit()
    }
    served = {key: (row.api.name, f"{row.first_version}-{row.last_version}") for key, row in SERVED.items()}
    assert rows == served


def test_what_is_not_offered_is_all_the_rest() -> None:
    rows = [cells for cells in table_rows(section(COMPATIBILITY, "Not offered"), 4) if cells[0].isdigit()]
    keys = {int(key) for key, *_ in rows}
    assert keys >= set(APIS) - set(SERVED)
    for key, name, versions, reason in rows:
        first, _, last = versions.partition("-")
        assert APIS[int(key)].name == name
        assert reason
        served = SERVED.get(int(key))
        assert served is None or int(first) > served.last_version or int(last or first) < served.first_version


# --- examples ---


def normal(output: str) -> str:
    """Make times alike."""
    return re.sub(r"\b\d{13}\b|\b\d\d:\d\d:\d\d\b", "<time>", output)


def examples(text: str) -> list[tuple[str, str]]:
    """Return (program, output) of every Python block that is followed by what it prints."""
    found = blocks(text)
    return [
        (content, following[1])
        for (language, content), following in itertools.pairwise(found)
        if language == "python" and following[0] == "text"
    ]


def with_ports(text: str, broker: BrokerProcess) -> str:
    for name, port in DEFAULT_PORTS.items():
        text = re.sub(rf"\b{port}\b", str(broker.ports[name]), text)
    return text


def run_python(program: str, broker: BrokerProcess) -> str:
    done = subprocess.run(
        [sys.executable, "-c", with_ports(program, broker)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_console(text: str, broker: BrokerProcess) -> str:
    """Run every line that begins with a prompt; return the text as a terminal would show it."""
    shown = []
    ports = " ".join(f"--{name} {port}" for name, port in broker.ports.items())
    where = {**os.environ, "MEGABROKER_BROKERS": broker.kafka}
    for line in text.splitlines():
        if line.startswith("$ # kill -9 "):
            shown.append(line)
            broker.kill()
            broker.start()
        elif line.startswith("$ "):
            command = with_ports(line[2:], broker)
            command = command.replace(".venv/bin/megabroker", str(SCRIPTS / "megabroker"))
            if command.startswith(".venv/bin/python "):
                command = f"{sys.executable} {command.partition(' ')[2]} {ports}"
            done = subprocess.run(
                command,
                shell=True,
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
                cwd=ROOT,
                env=where,
            )
            shown += [line, *done.stdout.splitlines()]
    return "\n".join(shown) + "\n"


def test_quick_start_runs_and_prints_what_is_shown() -> None:
    (first,) = (text for language, text in blocks(section(README, "Start")) if language == "console")
    programs = examples(section(README, "Quick start"))
    consoles = [text for language, text in blocks(section(README, "Quick start")) if language == "console"]
    assert (len(programs), len(consoles)) == (3, 3)
    with BrokerProcess() as broker:
        assert run_console(first, broker) == first
        for program, output in programs:
            assert normal(run_python(program, broker)) == normal(output)
        for console in consoles:
            if "kcat" not in console or shutil.which("kcat"):
                assert normal(run_console(console, broker)) == normal(console)


def test_transactions_and_newer_groups_print_what_is_shown() -> None:
    programs = examples(PAGES["exactly-once.md"])
    assert len(programs) == 3
    with BrokerProcess() as broker:
        for program, output in programs:
            assert run_python(program, broker) == output


def test_tutorial_prints_what_is_shown(tmp_path: pathlib.Path) -> None:
    """All but the plugin, whose making and tests ``tests/interop/test_plugin_new.py`` tries."""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    text = PAGES["tutorial.md"].split("\n## Write a protocol\n")[0]
    programs = dict(examples(text))
    with BrokerProcess() as broker:
        where = {
            **os.environ,
            "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
            "MEGABROKER_BROKERS": broker.kafka,
        }
        for language, content in blocks(text):
            if language == "python":
                assert run_python(content, broker) == programs[content]
            elif language == "console":
                assert in_terminal(content, broker, where, tmp_path) == content


def in_terminal(text: str, broker: BrokerProcess, where: dict[str, str], folder: pathlib.Path) -> str:
    shown = ""
    for line in text.splitlines():
        if line.startswith("$ "):
            command = line[2:].replace("127.0.0.1:8090", f"127.0.0.1:{broker.http_ports[0]}")
            if command != ". .venv/bin/activate":
                done = subprocess.run(
                    command,
                    shell=True,
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=True,
                    cwd=folder,
                    env=where,
                )
                line += "\n" + done.stdout
            shown += line if line.endswith("\n") else line + "\n"
    return shown


def test_plugin_of_the_readme_runs(tmp_path: pathlib.Path) -> None:
    found = blocks(section(README, "Writing a plugin"))
    for language, content in found:
        if language == "python":
            path = tmp_path / "plugin" / content.splitlines()[0].removeprefix("# ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    (settings,) = (yaml.safe_load(content) for language, content in found if language == "yaml")
    settings["protocols"]["census"]["listeners"] = [{"endpoint": "tcp:0:interface=127.0.0.1"}]
    (tmp_path / "broker").mkdir()
    broker = BrokerProcess(settings, tmp_path / "broker")
    try:
        broker.start({"PYTHONPATH": f"{tmp_path / 'plugin'}:{ROOT}"})
        run_python(examples(section(README, "Quick start"))[0][0], broker)
        with socket.create_connection(("127.0.0.1", broker.ports["census"]), 20) as connection:
            connection.sendall(b"orders\nnothing\n")
            stream = connection.makefile()
            answers = stream.readline(), stream.readline()
    finally:
        broker.kill()
    assert answers == ("1 messages so far\n", "no such topic\n")


def test_plugins_page_quotes_the_example() -> None:
    sources = [
        path.read_text(encoding="utf-8")
        for path in PLUGIN_EXAMPLE.rglob("*")
        if path.is_file() and path.suffix in (".py", ".cfg")
    ]
    sources += [text for _, text in rendered("notes")]
    quoted = [
        text for language, text in blocks(PAGES["plugins.md"]) if language in ("python", "text", "toml")
    ]
    assert quoted
    for text in quoted:
        lines = [line.strip() for line in text.strip().splitlines()]
        assert any(_holds([line.strip() for line in source.splitlines()], lines) for source in sources), text


def _holds(lines: list[str], part: list[str]) -> bool:
    return any(lines[at : at + len(part)] == part for at in range(len(lines)))


def test_every_topic_configuration_is_in_the_table() -> None:
    text = PAGES["compatibility.md"]
    section = text[text.index("## Topic configurations") :].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*`) \|", section, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert sorted(named) == sorted(name for name, row in TOPIC_CONFIGS.items() if not row.internal)


def test_every_rule_of_the_simulation_is_a_guarantee() -> None:
    rows = [row for row in table_rows(PAGES["guarantees.md"], 4) if row[0] != "promise"]
    named = {name for row in rows for name in re.findall(r"^`(\w+)`$", row[1])}
    assert {rule.__name__ for rule in RULES} == named
    assert all(row[2] or "tests/" in row[3] for row in rows)
