"""``megabroker plugin new``: what it writes is installed by itself, and passes its tests."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

from tests.interop.test_plugin_seam import environment, pip

pytestmark = pytest.mark.interop


def megabroker(*arguments: str, cwd: pathlib.Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from megabroker.cli.main import main; main()", "plugin", "new", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        check=False,
    )


def test_what_is_written_passes_its_tests_installed(tmp_path: pathlib.Path) -> None:
    done = megabroker("field_notes", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("wrote 10 files in field_notes\nnow: cd field_notes && pip install")
    source = tmp_path / "field_notes"
    python = environment(tmp_path / "environment")
    offline = ["--no-build-isolation", "--no-index"] if importlib.util.find_spec("setuptools") else []
    pip("--python", python, "install", "--no-deps", *offline, str(source))
    # The tests alone, so that what is imported is what was installed.
    alone = tmp_path / "alone"
    (source / "tests").rename(alone)
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(alone)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "23 passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.parametrize("name", ["Notes", "1st", "class", "kafka", "json", "a-b", "x" * 41])
def test_names_that_cannot_be(tmp_path: pathlib.Path, name: str) -> None:
    done = megabroker(name, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{name!r}: expected" in done.stderr
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path: pathlib.Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine").write_text("mine")
    done = megabroker("notes", cwd=tmp_path)
    assert done.returncode == 2
    assert "expected a directory that is empty or does not exist" in done.stderr
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["mine"]
