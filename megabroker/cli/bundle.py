"""The environment that a package of the system brings, and the plugins that were installed into it.

Owns where their wheels are kept and what is in there. A plugin is a directory with the wheel of its
distribution and those of what else it needed, so that it can be installed once more without a network: after
an upgrade, which may come with another Python. Only root may write there, because what lies there is run.

Invariant: what the package brought is never changed. A plugin that wants another version of it is refused,
and of what a newer package brings itself the plugin's wheel is passed over.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from email.parser import HeaderParser
from typing import Final
from zipfile import BadZipFile, ZipFile

import attrs

from megabroker.errors import ErrorCode, RequestError
from megabroker.ops.installed import MARK

__all__ = ["Bundle", "Recorded", "wheel_metadata"]

_PIP_SECONDS: Final = 600


@attrs.frozen
class Recorded:
    """A plugin that was installed: the wheel of its distribution first, then what it needed."""

    name: str
    wheels: tuple[pathlib.Path, ...]

    @property
    def version(self) -> str:
        """The version of the distribution."""
        return wheel_metadata(self.wheels[0])[1]


class Bundle:
    """The environment that this process runs in, if a package brought it.

    Args:
        store: where wheels are kept.
        brought: the distributions that the package brought, by their normal names.
    """

    def __init__(self, store: pathlib.Path, brought: frozenset[str]) -> None:
        self._store = store
        self._brought = brought

    @classmethod
    def of_this_process(cls) -> Bundle:
        """Return it. Raises RequestError: this is an environment of somebody's own."""
        if not MARK.exists():
            raise RequestError(
                ErrorCode.INVALID_REQUEST,
                f"{sys.prefix} was not installed by a system package: use pip, as in "
                f"{sys.prefix}/bin/python -m pip install WHEEL",
            )
        said = json.loads(MARK.read_text(encoding="utf-8"))
        return cls(pathlib.Path(said["plugins"]), frozenset(said["distributions"]))

    def recorded(self) -> list[Recorded]:
        """Return the plugins that were installed, by name."""
        if not self._store.is_dir():
            return []
        found = []
        for place in sorted(self._store.iterdir()):
            wheels = sorted(place.glob("*.whl"), key=lambda one: (wheel_metadata(one)[0] != place.name, one))
            if wheels:
                found.append(Recorded(place.name, tuple(wheels)))
        return found

    def install(self, wheel: pathlib.Path) -> Recorded:
        """Install a plugin and what it needs, and keep the wheels.

        Raises:
            RequestError: it is no wheel, does not fit the bundled distributions, or is one of them itself.
            OSError: the environment cannot be written.
        """
        name, _ = wheel_metadata(wheel)
        if name in self._brought:
            raise RequestError(ErrorCode.INVALID_REQUEST, f"{name} is part of megabroker's package itself")
        self._check_writable()
        self._store.mkdir(parents=True, exist_ok=True, mode=0o755)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=self._store) as directory:
            place = pathlib.Path(directory) / name
            place.mkdir()
            shutil.copy(wheel, place)
            self._fetch(place, wheel)
            wheels = sorted(place.iterdir())
            _pip("install", "--no-index", "--no-deps", "--force-reinstall", *map(str, wheels))
            _refresh()
            self._share(place, name)
            for one in place.iterdir():
                one.chmod(0o644)
            kept = self._store / name
            shutil.rmtree(kept, ignore_errors=True)
            place.replace(kept)
        return next(one for one in self.recorded() if one.name == name)

    def remove(self, name: str) -> Recorded:
        """Remove a plugin, and of what it needed that which no other plugin does. Raises RequestError: none
        such."""
        known = {one.name: one for one in self.recorded()}
        found = known.get(_normal(name))
        if found is None:
            there = ", ".join(known) or "none"
            raise RequestError(
                ErrorCode.INVALID_REQUEST, f"no plugin {name!r} was installed: there is {there}"
            )
        self._check_writable()
        needed = {wheel_metadata(wheel)[0] for one in known.values() if one != found for wheel in one.wheels}
        gone = {wheel_metadata(wheel)[0] for wheel in found.wheels} - needed - self._brought
        _pip("uninstall", "--yes", *sorted(gone))
        _refresh()
        shutil.rmtree(self._store / found.name)
        return found

    def restore(self, tell: Callable[[str], None]) -> bool:
        """Install all plugins once more, after the package was upgraded. Returns False if any could not
        be."""
        done = True
        for plugin in self.recorded():
            wheels = [one for one in plugin.wheels if wheel_metadata(one)[0] not in self._brought]
            try:
                _pip("install", "--no-index", "--no-deps", "--force-reinstall", *map(str, wheels))
                tell(f"plugin {plugin.name} is installed again")
            except RequestError as error:
                done = False
                tell(f"plugin {plugin.name} cannot be installed again: {error}")
        if self.recorded():
            _refresh()
        return done

    def _fetch(self, place: pathlib.Path, wheel: pathlib.Path) -> None:
        """Bring what the wheel needs and is not there, in versions that leave what is there alone."""
        present = {own: one.version for own, one in _installed()}
        name, _ = wheel_metadata(wheel)
        rules = place.parent / "constraints"
        rules.write_text(
            "".join(f"{one}=={version}\n" for one, version in sorted(present.items()) if one != name),
            encoding="utf-8",
        )
        report = place.parent / "report"
        # The wheel itself is named as a file, so that an older version of it that is installed does not
        # count.
        _pip(
            "install",
            "--dry-run",
            "--only-binary",
            ":all:",
            "--report",
            str(report),
            "-c",
            str(rules),
            str(wheel),
        )
        for row in json.loads(report.read_text(encoding="utf-8"))["install"]:
            said = row["metadata"]
            if _normal(said["name"]) != name:
                exactly = f"{said['name']}=={said['version']}"
                _pip("download", "--only-binary", ":all:", "--no-deps", "--dest", str(place), exactly)

    def _share(self, place: pathlib.Path, name: str) -> None:
        """Copy the wheels of what a plugin needs and another plugin has brought, so that it can do without
        that one."""
        there = {wheel_metadata(wheel)[0]: wheel for one in self.recorded() for wheel in one.wheels}
        own = {wheel_metadata(wheel)[0] for wheel in place.iterdir()}
        for needed in _needed(name) - own - self._brought:
            if needed in there:
                shutil.copy(there[needed], place)

    def _check_writable(self) -> None:
        if not os.access(sys.prefix, os.W_OK):
            raise RequestError(
                ErrorCode.INVALID_REQUEST, f"{sys.prefix} cannot be changed by this user: expected root"
            )


def wheel_metadata(path: pathlib.Path) -> tuple[str, str]:
    """Return the normal name and the version of a wheel's distribution. Raises RequestError: it is none."""
    try:
        with ZipFile(path) as archive:
            (inner,) = (one for one in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", one))
            said = HeaderParser().parsestr(archive.read(inner).decode("utf-8"))
    except (OSError, BadZipFile, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no such archive"
        raise RequestError(
            ErrorCode.INVALID_REQUEST, f"{path}: expected a wheel, a file that ends in .whl: {reason}"
        ) from None
    return _normal(said["Name"]), said["Version"]


def _needed(name: str) -> set[str]:
    """Return whatever a distribution that is installed needs, itself included, by normal names."""
    requires = {own: one.requires or () for own, one in _installed()}
    found: set[str] = set()
    wanted = {name}
    while wanted:
        one = wanted.pop()
        found.add(one)
        names = {_normal(re.split(r"[^A-Za-z0-9._-]", row)[0]) for row in requires.get(one, ())}
        wanted |= names & requires.keys() - found
    return found


def _installed() -> Iterator[tuple[str, importlib.metadata.Distribution]]:
    """Yield the distributions that are installed, by normal names; not the rest of one, which has no name."""
    for one in importlib.metadata.distributions():
        if name := one.metadata["Name"]:
            yield _normal(name), one


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pip(command: str, *arguments: str) -> None:
    """Run pip on this environment. Raises RequestError with the lines in which it says what was wrong."""
    given = [sys.executable, "-I", "-m", "pip", command, "--disable-pip-version-check"]
    if command != "download":
        given.append("--root-user-action=ignore")
    done = subprocess.run(
        [*given, *arguments], capture_output=True, text=True, timeout=_PIP_SECONDS, check=False, umask=0o022
    )
    if done.returncode:
        said = "; ".join([*_conflict(done.stdout), *_errors(done.stderr)])
        raise RequestError(
            ErrorCode.INVALID_REQUEST, f"pip {command}: {said or f'exit code {done.returncode}'}"
        )


def _errors(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.startswith("ERROR: ") and "ResolutionImpossible" not in line:
            yield " ".join(line.removeprefix("ERROR: ").split())


def _conflict(text: str) -> list[str]:
    """Return who wants what, where pip tells that on its output."""
    _, found, after = text.partition("The conflict is caused by:\n")
    return [line.strip() for line in after.partition("\n\n")[0].splitlines()] if found else []


def _refresh() -> None:
    """Have Twisted look at its plugins now: it keeps what it finds in a file that only root can write."""
    program = "from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))"
    subprocess.run([sys.executable, "-I", "-c", program], timeout=60, check=False, capture_output=True)
