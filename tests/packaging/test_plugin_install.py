"""Plugins in the environment of a package: a real environment, real wheels and pip, no network."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import sysconfig
import zipfile
from typing import Any

import pytest

_PLUGIN = """
from megabroker.plugin import ProtocolPlugin
plugin = ProtocolPlugin("{name}", "tcp:7000", settings="{module}.S", factory="x.F", version=1)
"""
_SETTINGS = """
import attrs
from megabroker.config.protocol import ProtocolSettings
@attrs.frozen(kw_only=True)
class S(ProtocolSettings):
    pass
"""


def make_wheel(
    directory: pathlib.Path, name: str, version: str, files: dict[str, str], needs: tuple[str, ...] = ()
) -> pathlib.Path:
    """Write a wheel as build tools do."""
    path = directory / f"{name}-{version}-py3-none-any.whl"
    inner = f"{name}-{version}.dist-info"
    said = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    said += "".join(f"Requires-Dist: {one}\n" for one in needs)
    content = {
        **files,
        f"{inner}/METADATA": said,
        f"{inner}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{one},,\n" for one in [*content, f"{inner}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for one, text in {**content, f"{inner}/RECORD": record}.items():
            archive.writestr(one, text)
    return path


def plugin_wheel(
    directory: pathlib.Path, name: str, version: str, needs: tuple[str, ...] = ()
) -> pathlib.Path:
    module = f"{name}_wire"
    files = {
        f"megabroker/plugins/{name}_plugin.py": _PLUGIN.format(name=name, module=module),
        f"{module}.py": _SETTINGS,
    }
    return make_wheel(directory, name, version, files, ("megabroker", *needs))


class Environment:
    """An environment that has what this one has, marked as one that a package brought."""

    def __init__(self, place: pathlib.Path) -> None:
        self.place = place
        self.store = place / "store"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place / "env")], check=True)
        (self.packages,) = (place / "env/lib").glob("python3*/site-packages")
        (self.packages / "all.pth").write_text(
            "\n".join({sysconfig.get_path("purelib"), str(pathlib.Path(__file__).parents[2])})
        )
        self.mark()

    def mark(self, *more: str) -> None:
        said = {"plugins": str(self.store), "distributions": ["megabroker", "attrs", *more]}
        (self.place / "env/bundle.json").write_text(json.dumps(said))

    def run(self, *arguments: str, index: pathlib.Path | None = None) -> subprocess.CompletedProcess[str]:
        program = "from megabroker.cli.main import main; main()"
        command = [str(self.place / "env/bin/python"), "-c", program, "plugin", *arguments]
        environment = {"PATH": "/usr/bin:/bin", "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null"}
        if index is not None:
            environment["PIP_FIND_LINKS"] = str(index)
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, env=environment, cwd=self.place, check=False
        )

    def listed(self) -> dict[str, Any]:
        done = self.run("list", "--json")
        return {row["name"]: row for row in json.loads(done.stdout)}

    def has(self, module: str) -> bool:
        return (self.packages / f"{module}.py").exists()


@pytest.fixture
def environment(tmp_path: pathlib.Path) -> Environment:
    return Environment(tmp_path)


def test_a_life(environment: Environment, tmp_path: pathlib.Path) -> None:
    index = tmp_path / "index"
    index.mkdir()
    # What is left of a distribution that somebody has taken out by hand.
    (environment.packages / "left_over-1.0.dist-info").mkdir()
    make_wheel(index, "shared", "1.5", {"shared.py": "version = 1"})
    one = plugin_wheel(tmp_path, "census", "1.0", ("shared >= 1",))
    two = plugin_wheel(tmp_path, "poll", "2.0", ("shared >= 1",))

    done = environment.run("install", str(one), "--json", index=index)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "name": "census",
        "version": "1.0",
        "wheels": ["census-1.0-py3-none-any.whl", "shared-1.5-py3-none-any.whl"],
    }
    assert environment.listed()["census"]["distribution"] == "census 1.0"
    assert environment.listed()["census"]["trouble"] is None
    # The second needs what the first has brought, and no index.
    done = environment.run("install", str(two))
    assert done.stdout.startswith("installed poll 2.0, with shared-1.5"), done.stderr
    assert "removed census" in environment.run("remove", "census").stdout
    assert environment.has("shared")
    assert {"kafka", "poll"} <= environment.listed().keys()
    assert "census" not in environment.listed()
    done = environment.run("remove", "census")
    assert done.returncode == 1
    assert "no plugin 'census' was installed: there is poll" in done.stderr

    # The package comes with another Python: what was installed is gone, and it brings one of the libraries
    # itself.
    for name in ("poll_wire.py", "shared.py", "megabroker/plugins/poll_plugin.py"):
        (environment.packages / name).unlink()
    (environment.packages / "shared.py").write_text("version = 2")
    environment.mark("shared")
    done = environment.run("restore")
    assert (done.returncode, done.stdout) == (0, "plugin poll is installed again\n"), done.stderr
    assert environment.listed()["poll"]["distribution"] == "poll 2.0"
    assert (environment.packages / "shared.py").read_text() == "version = 2"
    environment.mark()
    assert environment.run("remove", "poll").returncode == 0
    assert not environment.has("shared")
    assert not environment.has("poll_wire")


def test_a_wheel_that_is_damaged_is_told(environment: Environment, tmp_path: pathlib.Path) -> None:
    kept = environment.store / "census"
    kept.mkdir(parents=True)
    wheel = plugin_wheel(kept, "census", "1.0")
    data = wheel.read_bytes()
    at = data.index(b"class S(")
    wheel.write_bytes(data[:at] + b"clasS" + data[at + 5 :])
    done = environment.run("restore")
    assert done.returncode == 1
    assert "plugin census cannot be installed again" in done.stdout + done.stderr


def test_what_is_refused(environment: Environment, tmp_path: pathlib.Path) -> None:
    junk = tmp_path / "junk-1-py3-none-any.whl"
    junk.write_bytes(b"no archive")
    done = environment.run("install", str(junk))
    assert done.returncode == 1
    assert "expected a wheel" in done.stderr
    done = environment.run("install", str(make_wheel(tmp_path, "attrs", "99.0", {"attr.py": ""})))
    assert "attrs is part of megabroker's package itself" in done.stderr
    done = environment.run("install", str(plugin_wheel(tmp_path, "census", "1.0", ("attrs < 2",))))
    assert done.returncode == 1
    assert "census 1.0 depends on attrs<2" in done.stderr, done.stderr
    assert not environment.has("census_wire")
    assert not list(environment.store.glob("*"))
    (tmp_path / "env/bundle.json").unlink()
    done = environment.run("install", str(plugin_wheel(tmp_path, "census", "1.1")))
    assert "-m pip install WHEEL" in done.stderr
