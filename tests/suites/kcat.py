"""kcat: the shell scripts of its source package in Debian, with the kcat that is installed."""

from __future__ import annotations

import os
import pathlib
import subprocess
import time

from tests.suites import fetching
from tests.suites.results import FAILED, PASSED, SKIPPED, Result, Run, Suite

__all__ = ["Kcat"]

_SOURCES = """Types: deb-src
URIs: http://deb.debian.org/debian
Suites: {suite}
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
_SUITE = "bookworm"


class Kcat(Suite):
    """The scripts in kcat's ``tests``; the one that needs a schema registry skips itself."""

    name = "kcat"

    def prepare(self) -> str:
        """Bring the scripts, and put the installed kcat where they look for it."""
        fetching.need("jq", "jq")
        return self._source().name.rpartition("-")[2]

    def run(self, run: Run) -> list[Result]:
        """Run each script."""
        scripts = sorted((self._source() / "tests").glob("[0-9]*.sh"))
        return [_run_script(run, script) for script in scripts if run.wants(script.stem)]

    @staticmethod
    def _source() -> pathlib.Path:
        kcat = fetching.need("kcat", "kcat")

        def make(target: pathlib.Path) -> None:
            _bring(target)
            (source,) = target.glob("kafkacat-*")
            (source / "kcat").symlink_to(kcat)

        (source,) = fetching.once("kcat", make).glob("kafkacat-*")
        return source


def _bring(target: pathlib.Path) -> None:
    """Let apt bring the source package, with lists of its own in the directory."""
    apt = fetching.need("apt-get", "apt")
    (target / "lists" / "partial").mkdir(parents=True)
    sources = target / "debian.sources"
    sources.write_text(_SOURCES.format(suite=_SUITE))
    options = [
        *("-o", "Dir::Etc::SourceParts=/dev/null", "-o", f"Dir::Etc::SourceList={sources}"),
        *("-o", f"Dir::State::Lists={target / 'lists'}", "-o", f"Dir::Cache={target / 'cache'}"),
        *("-o", "APT::Sandbox::User=root"),
    ]
    fetching.command([apt, *options, "update"], target)
    fetching.command([apt, *options, "source", "--tar-only", "--download-only", "kafkacat"], target)
    (archive,) = target.glob("*.orig.tar.gz")
    fetching.unpack(archive, target)


def _run_script(run: Run, script: pathlib.Path) -> Result:
    """Run one script; at a terminal, for elsewhere kcat takes a missing option to mean producing."""
    log = run.directory / f"{script.stem}.log"
    begun = time.monotonic()
    master, terminal = os.openpty()
    with open(log, "wb") as output, os.fdopen(master), os.fdopen(terminal):
        try:
            code = subprocess.run(
                ["bash", script.name],
                cwd=script.parent,
                env={**os.environ, "BROKERS": run.bootstrap},
                stdin=terminal,
                stdout=output,
                stderr=output,
                timeout=run.seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
    said = log.read_text(errors="replace")
    if code:
        outcome = FAILED
    else:
        outcome = SKIPPED if "TEST SKIPPED" in said else PASSED
    return Result(script.stem, outcome, time.monotonic() - begun, "" if outcome == PASSED else said[-2000:])
