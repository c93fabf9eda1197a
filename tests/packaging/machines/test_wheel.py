"""What goes to PyPI: built, checked, and installed into an empty environment where no compiler is found."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[3]
_CONFIG = """
data_dir: data
http: {endpoint: "tcp:0:interface=127.0.0.1"}
protocols:
  kafka: {listeners: [{endpoint: "tcp:0:interface=127.0.0.1"}]}
  mega: {listeners: [{endpoint: "tcp:0:interface=127.0.0.1"}]}
  cursus: {listeners: [{endpoint: "tcp:0:interface=127.0.0.1"}]}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    place = tmp_path_factory.mktemp("pypi")
    subprocess.run([sys.executable, "-m", "venv", place / "tools"], check=True)
    pip = [place / "tools/bin/pip", "install", "--quiet", "build", "twine"]
    subprocess.run(pip, check=True)
    build = [place / "tools/bin/python", "-m", "build", "--outdir", place / "dist", ROOT]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    return place


def test_both_are_what_pypi_takes(built: pathlib.Path) -> None:
    made = sorted((built / "dist").iterdir())
    assert [one.suffix for one in made] == [".whl", ".gz"]
    subprocess.run([built / "tools/bin/twine", "check", "--strict", *made], check=True)


def test_every_file_is_in_both(built: pathlib.Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "megabroker", "twisted", "message_client.py"], cwd=ROOT, check=True, text=True,
        stdout=subprocess.PIPE,
    ).stdout.split()  # fmt: skip
    [wheel], [sdist] = (built / "dist").glob("*.whl"), (built / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive_of_wheel:
        in_wheel = set(archive_of_wheel.namelist())
    assert set(listed) - in_sdist == set()
    sources = {name for name in listed if name.endswith((".pyx", ".pyi"))}
    assert set(listed) - in_wheel - sources == set()
    assert {"README.md", "LICENSE", "CHANGES.md", "docs/operations.md", "etc/broker.yaml"} <= in_sdist


def test_the_wheel_serves_without_a_compiler(built: pathlib.Path, tmp_path: pathlib.Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "empty"], check=True)
    commands = tmp_path / "empty/bin"
    alone = {"PATH": str(commands), "HOME": os.environ.get("HOME", "/")}
    [wheel] = (built / "dist").glob("*.whl")
    pip = [commands / "pip", "install", "--quiet", "--only-binary", ":all:", wheel]
    subprocess.run(pip, env=alone, check=True)
    (tmp_path / "broker.yaml").write_text(_CONFIG)
    twistd = ["twistd", "--nodaemon", "--pidfile=", "megabroker", "-c", "broker.yaml"]
    start = [
        "megabroker",
        "start",
        "--memory",
        "--port=0",
        "--mega-port=0",
        "--cursus-port=0",
        "--http-port=0",
    ]
    for name, *arguments in (twistd, start):
        with subprocess.Popen(
            [commands / name, *arguments], cwd=tmp_path, env=alone, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            try:
                ready = next(line for line in process.stdout if "is ready after" in line)
                kafka = re.findall(r"kafka at (\S+?)[,;]", ready)
                subprocess.run(
                    [commands / "megabroker", "status", "--brokers", *kafka], env=alone, check=True
                )
            finally:
                process.terminate()
            assert process.wait(30) == 0
