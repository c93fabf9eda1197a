"""What the packages are made of fits together; `packaging/test` builds, installs and runs them."""

from __future__ import annotations

import configparser
import hashlib
import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest
import yaml

from megabroker import __version__
from megabroker.cli.main import commands
from megabroker.config.load import load
from megabroker.config.schema import Config
from megabroker.config.structure import keys
from megabroker.plugin import discover

ROOT = pathlib.Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
SCRIPTS = [
    *(PACKAGING / name for name in ("build-deb", "build-rpm", "test")),
    *(PACKAGING / "common" / name for name in ("arguments", "lock", "stage", "tools")),
    *(PACKAGING / "debian" / name for name in ("postinst", "postrm", "prerm")),
]
UNITS = sorted((PACKAGING / "systemd").glob("*.service")) + sorted((PACKAGING / "systemd").glob("*.socket"))
SPEC = (PACKAGING / "rpm/megabroker.spec").read_text(encoding="utf-8")
STAGE = (PACKAGING / "common/stage").read_text(encoding="utf-8")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_shell(script: pathlib.Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True, timeout=10)
    if script.name != "arguments":
        assert script.read_text(encoding="utf-8").startswith("#!/bin/sh\n")
        assert script.parent.name == "debian" or script.stat().st_mode & 0o111
    assert "set -e" in script.read_text(encoding="utf-8") or script.name == "arguments"


def unit(path: pathlib.Path) -> configparser.ConfigParser:
    """Read a unit; of keys that stand several times, the last."""
    found = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read_string(path.read_text(encoding="utf-8"))
    return found


def installed() -> set[str]:
    """Return the paths that the packages have, as the spec lists them."""
    files = SPEC.partition("%files\n")[2].partition("%changelog")[0]
    lines = [line.split() for line in files.splitlines()]
    return {words[-1].replace("%{_unitdir}", "/usr/lib/systemd/system") for words in lines if words}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_paths_in_units_are_in_the_packages(path: pathlib.Path) -> None:
    text = path.read_text(encoding="utf-8").replace("/etc/megabroker/%i.yaml", "/etc/megabroker/broker.yaml")
    text = text.replace("/var/lib/megabroker-%i", "/var/lib/megabroker")
    own = installed()
    for found in re.findall(r"(?<![\w*])/(?:opt|etc|var|usr)/[\w./-]+", text):
        assert any(found == one or found.startswith(f"{one}/") for one in own), found


def test_units_say_what_a_broker_needs() -> None:
    single, template = (unit(PACKAGING / "systemd" / f"megabroker{one}.service") for one in ("", "@"))
    for section in single.sections():
        assert single[section].keys() == template[section].keys()
    service = single["Service"]
    assert service["Type"] == "notify"
    assert service["Restart"] == "on-failure"
    assert "MemoryDenyWriteExecute" not in service
    assert "--set data_dir=/var/lib/megabroker-%i" in template["Service"]["ExecStart"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", ["megabroker.service", "megabroker@.service"])
def test_units_are_hardened(name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(PACKAGING / "systemd" / name)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    found = re.search(r"Overall exposure level.*: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) < 2.0
    assert f" {found[1]} of 10" in OPERATIONS


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", ["megabroker.service", "megabroker.socket"])
def test_systemd_knows_every_line_of_a_unit(name: str, tmp_path: pathlib.Path) -> None:
    for path in UNITS:
        text = path.read_text(encoding="utf-8")
        # What is not installed here is left out, so that all that it says is about the lines.
        text = re.sub(r"^(Exec\w+)=.*", r"\1=/bin/true", text, flags=re.MULTILINE)
        (tmp_path / path.name).write_text(re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / name)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert not [line for line in done.stderr.splitlines() if "megabroker" in line], done.stderr


def test_control_and_spec() -> None:
    control = (PACKAGING / "debian/control").read_text(encoding="utf-8")
    fields = dict(re.findall(r"^([A-Z][\w-]*): (.*)$", control, re.MULTILINE))
    assert fields["Package"] == "megabroker"
    assert "python3.11" in fields["Depends"]
    assert set(re.findall(r"@(\w+)@", control)) == {"VERSION", "ARCHITECTURE", "MAINTAINER", "SIZE"}
    for name in (PACKAGING / "debian/conffiles").read_text(encoding="utf-8").split():
        assert f"%config(noreplace) {name}" in SPEC
    if shutil.which("rpmspec") is not None:
        defined = ["--define", "package_version 1.2.3", "--define", "stage /nowhere"]
        command = [
            "rpmspec",
            "-q",
            *defined,
            "--qf",
            "%{name} %{version}",
            str(PACKAGING / "rpm/megabroker.spec"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.stdout == "megabroker 1.2.3", done.stderr


def test_scripts_of_the_rpm_are_shell() -> None:
    scripts = re.findall(
        r"^%(pre|post|posttrans|preun|postun)\n(.*?)(?=^%[a-z])", SPEC, re.MULTILINE | re.DOTALL
    )
    assert [name for name, _ in scripts] == ["pre", "post", "posttrans", "preun", "postun"]
    for name, text in scripts:
        done = subprocess.run(
            ["sh", "-n"], input=text, capture_output=True, text=True, timeout=10, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), name
        # Only Debian has these.
        assert not re.search(r"\b(adduser|deb-systemd\S*|update-rc.d|dpkg\S*)\b", text), name


def test_one_version() -> None:
    assert f"\nversion = {__version__}\n" in (ROOT / "setup.cfg").read_text(encoding="utf-8")


def test_requirements_are_pinned_and_complete() -> None:
    pinned: dict[str, str] = {}
    for name in ("requirements.txt", "build-requirements.txt"):
        text = (PACKAGING / "common" / name).read_text(encoding="utf-8").replace("\\\n", "")
        for line in text.splitlines():
            if line and not line.startswith("#"):
                assert re.search(r"==\S+.*--hash=sha256:[0-9a-f]{64}", line), line
                pinned[line.partition("==")[0].partition("[")[0].lower().replace("_", "-")] = name
    section = (ROOT / "setup.cfg").read_text(encoding="utf-8").partition("install_requires =\n")[2]
    wanted = re.findall(r"^    ([\w.-]+)", section.partition("\n\n")[0], re.MULTILINE)
    assert len(wanted) > 8
    for name in wanted:
        assert re.sub(r"[-_.]+", "-", name).lower() in pinned, f"{name}: packaging/common/lock adds it"


def test_the_configuration_that_is_installed(tmp_path: pathlib.Path) -> None:
    edit = re.search(r"sed '(s\|[^']*)' etc/broker\.yaml", STAGE)
    assert edit is not None
    text = subprocess.run(
        ["sed", edit[1], str(ROOT / "etc/broker.yaml")], capture_output=True, text=True, check=True
    ).stdout
    path = tmp_path / "broker.yaml"
    path.write_text(text, encoding="utf-8")
    config = load(path, discover())
    assert config.data_dir == pathlib.Path("/var/lib/megabroker")
    for protocol in yaml.safe_load(text)["protocols"].values():
        assert all("interface=127.0.0.1" in one["endpoint"] for one in protocol["listeners"])


def module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, PACKAGING / "common" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_pages_tell_of_every_command_and_key(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    module("documents").write(tmp_path)
    pages = {
        path.name: subprocess.run(["gzip", "-dc", path], capture_output=True, text=True, check=True).stdout
        for path in tmp_path.rglob("*.gz")
    }
    command = pages["megabroker.1.gz"].replace("\\-", "-")
    for name in commands.list_commands(None):  # type: ignore[arg-type]
        assert f".SS {name}" in command
    assert ".SS topic create" in command
    assert ".SS plugin install" in command
    assert "plugin restore" not in command
    for key in keys(Config):
        if not key.path.startswith("protocols"):
            assert f".B {key.path}\n" in pages["broker.yaml.5.gz"].replace("\\-", "-")
    assert "protocols.cursus.consume_keep_open" in pages["broker.yaml.5.gz"]
    assert "--defaults" in pages["twistd.1.gz"].replace("\\-", "-")
    assert "complete" in (tmp_path / "usr/share/bash-completion/completions/megabroker").read_text()


def test_an_environment_moves(tmp_path: pathlib.Path) -> None:
    built = tmp_path / "built"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(built)], check=True, timeout=60)
    (packages,) = (built / "lib").glob("python3*/site-packages")
    script = built / "bin/megabroker"
    script.write_text(f"#!{built}/bin/python\nprint('here')\n")
    script.chmod(0o755)
    information = packages / "megabroker-1.dist-info"
    information.mkdir()
    (information / "direct_url.json").write_text(json.dumps({"url": f"file://{tmp_path}"}))
    rows = "../../../bin/megabroker,sha256=x,1\nmegabroker-1.dist-info/direct_url.json,sha256=x,1\n"
    (information / "RECORD").write_text(rows)
    module("settle").settle(built, pathlib.PurePosixPath("/opt/megabroker"))
    assert script.read_text() == "#!/opt/megabroker/bin/python\nprint('here')\n"
    assert not (built / "bin/activate").exists()
    (row,) = (information / "RECORD").read_text().splitlines()
    assert row.startswith("../../../bin/megabroker,sha256=")
    assert row.endswith(f",{script.stat().st_size}")
    for path in built.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert str(tmp_path) not in path.read_text(errors="replace"), path


def test_materials_say_what_distributions_do(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.syspath_prepend(str(PACKAGING / "common"))
    packages = tmp_path / "environment/lib/python3.11/site-packages"
    shutil.copytree(ROOT / "megabroker/http/console/static", packages / "megabroker/http/console/static")
    wheels = []
    for name, said, text in (
        ("megabroker", "License: MIT", "mine"),
        ("One", "License-Expression: MIT-0 AND PSF-2.0", "one"),
        ("two.parts", "Classifier: License :: OSI Approved :: BSD License", "Neither the name of it nor"),
        ("three", "Classifier: License :: Our Own", "ours"),
    ):
        inner = packages / f"{name}-1.0.dist-info"
        inner.mkdir()
        (inner / "LICENSE").write_text(text)
        (inner / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{said}\n")
        (inner / "RECORD").write_text(f"{inner.name}/LICENSE,,\n{inner.name}/METADATA,,\n")
        source = {"url": f"https://index/{name}-1.0.whl", "archive_info": {"hashes": {"sha256": name}}}
        wheels.append({"download_info": source, "metadata": {"name": name}})
    (tmp_path / "wheels.json").write_text(json.dumps({"install": wheels}))
    module("materials").write(tmp_path / "environment", tmp_path, tmp_path / "wheels.json")
    bill = json.loads((tmp_path / "usr/share/doc/megabroker/sbom.cdx.json").read_text())
    rows = {one["name"]: one for one in bill["components"]}
    assert rows.keys() == {"One", "two.parts", "three", "htmx.org", "uplot"}
    licences = {name: one["licenses"][0].get("license", one["licenses"][0]) for name, one in rows.items()}
    assert licences["One"] == {"expression": "MIT-0 AND PSF-2.0", "acknowledgement": "declared"}
    assert licences["two.parts"] == {"id": "BSD-3-Clause", "acknowledgement": "concluded"}
    assert licences["three"] == {"name": "Our Own", "acknowledgement": "declared"}
    assert licences["htmx.org"]["id"] == "0BSD"
    assert rows["One"]["hashes"] == [{"alg": "SHA-256", "content": "One"}]
    for one in (*rows["htmx.org"]["components"], *rows["uplot"]["components"]):
        digest = hashlib.sha256((packages / one["name"]).read_bytes()).hexdigest()
        assert one["hashes"] == [{"alg": "SHA-256", "content": digest}]
    copyright_file = (tmp_path / "usr/share/doc/megabroker/copyright").read_text()
    assert "\ntwo.parts 1.0: BSD-3-Clause\n" in copyright_file
    assert (ROOT / "megabroker/http/console/static/uPlot.LICENSE").read_text().strip() in copyright_file


# --- what docs/operations.md says -----------------------------------------------------------------

OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")


def test_extras_are_told() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    table = OPERATIONS.partition("| extra | for |")[2].partition("\n\n")[0]
    told = re.findall(r"\[(\w+)\]", table)
    assert sorted(told) == sorted(setup["options.extras_require"])
    for name in setup["options.extras_require"]["admin"].split("\n"):
        assert (re.match(r"[\w.-]*", name) or [""])[0] in table


def test_figures_of_capacity_were_measured() -> None:
    measured = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    table = OPERATIONS.partition("## Capacity")[2].partition("Leave a fifth")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")]
    figures = [one for row in rows for one in re.findall(r"\d[\d,.]*\d|\d", row)]
    assert len(figures) > 20
    for figure in figures:
        assert re.search(rf"(?<![\d.,]){re.escape(figure)}(?!\d|,\d)", measured), figure


def test_ports_that_systemd_binds_are_those_of_the_configuration() -> None:
    text = (PACKAGING / "systemd/megabroker.socket").read_text(encoding="utf-8")
    config = yaml.safe_load((ROOT / "etc/broker.yaml").read_text(encoding="utf-8"))
    bound = re.findall(r"^ListenStream=127\.0\.0\.1:(\d+)$", text, re.MULTILINE)
    for name, index in re.findall(r"^# +(\S+) +systemd:domain=INET:index=(\d+)$", text, re.MULTILINE):
        section: Any = config
        for part in re.findall(r"\w+", name):
            section = section[int(part) if part.isdigit() else part]
        assert section == f"tcp:{bound[int(index)]}:interface=127.0.0.1"
    assert text.count("systemd:domain=INET:index=") == len(bound) == 4
