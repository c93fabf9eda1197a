"""Builds packages as anybody does, from a directory that has what a checkout has."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tarfile

from megabroker import __version__

__all__ = ["ROOT", "Built", "build", "checkout_of", "environment_with"]

ROOT = pathlib.Path(__file__).parents[3]
_EPOCH = "1750000000"
_SECONDS = 600


class Built:
    """What was built: a tree, and the packages made of it."""

    def __init__(self, stage: pathlib.Path, output: pathlib.Path) -> None:
        self.stage = stage
        (self.deb,) = output.glob("*.deb")
        (self.rpm,) = output.glob("*.rpm")


def checkout_of(place: pathlib.Path, version: str | None = None) -> pathlib.Path:
    """Copy what git knows of this checkout, or would know, to another place; as another version if said."""
    if place.exists():
        return place
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    place.mkdir(parents=True)
    packed = place.with_suffix(".tar")
    with tarfile.open(packed, "w") as archive:
        for name in filter(None, names.split("\0")):
            if not name.startswith("tests/") and (ROOT / name).exists():
                archive.add(ROOT / name, name)
    with tarfile.open(packed) as archive:
        archive.extractall(place, filter="fully_trusted")
    packed.unlink()
    if version is not None:
        for name in ("setup.cfg", "megabroker/__init__.py"):
            text = (place / name).read_text(encoding="utf-8")
            (place / name).write_text(text.replace(__version__, version), encoding="utf-8")
    return place


def build(checkout: pathlib.Path, output: pathlib.Path) -> Built:
    """Build both packages, if they are not there; in the environment of who builds, with their own Python."""
    if list(output.glob("*.deb")) and list(output.glob("*.rpm")):
        return Built(output / "stage", output)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": _EPOCH}
    stage = output / "stage"
    output.mkdir(parents=True)
    for command in (
        ["packaging/common/stage", str(stage)],
        ["packaging/build-deb", "--stage", str(stage), str(output)],
        ["packaging/build-rpm", "--stage", str(stage), str(output)],
    ):
        done = subprocess.run(
            command,
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return Built(stage, output)


def environment_with(place: pathlib.Path, *requirements: str) -> pathlib.Path:
    """Make an environment that has some distributions, if it is not there; return where its commands are."""
    commands = place / "bin"
    if not (place / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True, timeout=_SECONDS)
        pip = [commands / "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
        subprocess.run(pip, check=True, timeout=_SECONDS)
        (place / "complete").touch()
    return commands
