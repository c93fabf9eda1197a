"""Make a virtual environment that was built elsewhere one of its final place: settle.py BUILT FINAL.

Scripts, ``pyvenv.cfg`` and what pip recorded then say FINAL, and no file that is only of use where it was
built is left. Each ``RECORD`` is true again afterwards, so that pip can list and remove what it finds.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import pathlib
import platform
import shutil
import subprocess
import sys
from typing import Final

_COMMANDS: Final = {"python", "python3", "python3.11", "megabroker", "twistd"}
_UNWANTED: Final = ("direct_url.json", "*.exe", "*.c", "*.pyx", "*.h", ".gitignore")
"""Where our wheel lay; Windows' launchers; sources of compiled parts; what a repository needs."""


def settle(built: pathlib.Path, final: pathlib.PurePosixPath) -> None:
    """Change the environment in place."""
    for script in (built / "bin").iterdir():
        if script.name not in _COMMANDS:
            script.unlink()
        elif not script.is_symlink():
            _, _, rest = script.read_text(encoding="utf-8").partition("\n")
            script.write_text(f"#!{final}/bin/python\n{rest}", encoding="utf-8")
    (built / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {platform.python_version()}\n",
        encoding="utf-8",
    )
    for folder in ("include", "share"):
        shutil.rmtree(built / folder, ignore_errors=True)
    # 64-bit Debian has it, and other systems need not.
    (built / "lib64").unlink(missing_ok=True)
    (packages,) = (built / "lib").glob("python3.*/site-packages")
    for pattern in _UNWANTED:
        for path in packages.rglob(pattern):
            path.unlink()
    # A fifth of the whole, and what is promised for use is in twisted.internet.testing and twisted.trial.
    for folder in ("test", "tests"):
        for package in ("twisted", "zope"):
            for tests in list((packages / package).rglob(folder)):
                shutil.rmtree(tests)
    for library in sorted((packages / "megabroker").rglob("*.so")):
        subprocess.run(["strip", "--strip-unneeded", "--remove-section=.comment", str(library)], check=True)
    for path in packages.rglob("*"):
        if path.is_file() and path.stat().st_mode & 0o111 and not path.read_bytes().startswith(b"#!"):
            path.chmod(0o644)
    # Of sources and tests that were taken out, or that its makers forgot.
    for path in sorted(packages.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    for record in sorted(packages.glob("*.dist-info/RECORD")):
        _correct(record, packages)


def _correct(record: pathlib.Path, packages: pathlib.Path) -> None:
    """Have a RECORD name what is there, with its hashes and lengths."""
    with record.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    corrected = []
    for name, digest, size in rows:
        path = packages / name
        if not path.exists():
            continue
        if digest:
            data = path.read_bytes()
            found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            digest, size = f"sha256={found}", str(len(data))
        corrected.append([name, digest, size])
    with record.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(corrected)


if __name__ == "__main__":
    settle(pathlib.Path(sys.argv[1]), pathlib.PurePosixPath(sys.argv[2]))
