"""What is bundled, what licence it is under, and the text of that: distributions of Python, and what the
pages of the console load.

Licences are named as SPDX names them where the distribution does so or says one that has a name there, and
where the text can be no other; else in the distribution's words.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from importlib.metadata import Distribution
from typing import Final, NamedTuple

__all__ = ["Licence", "Script", "licence_of", "normal", "scripts_of", "texts_of"]

_FILE: Final = re.compile(r"(?i)(licen[cs]e|copying|notice|authors)[^/]*$")
_APACHE: Final = re.compile(r"Apache License\s+Version 2\.0, January 2004\s+http")
_SITE_PACKAGES: Final = "/opt/megabroker/lib/python3.11/site-packages"
_SPDX: Final = re.compile(r"[A-Za-z0-9.+-]+(?: (?:AND|OR|WITH) [A-Za-z0-9.+-]+)*")
_NAMED: Final = {
    "Apache License, Version 2.0": "Apache-2.0",
    "MIT License": "MIT",
    "Zero-Clause BSD": "0BSD",
}
_THIRD_CLAUSE: Final = re.compile(r"Neither the name of|names of its\s+contributors may (?:not )?be used")
_LONGEST_NAME: Final = 60
_STATIC: Final = "megabroker/http/console/static"
_ROW: Final = re.compile(
    r"\| `(?P<file>[^`]+)` \| `(?P<package>[^`]+)` [^|]*\| (?P<version>[\w.-]+) "
    r"\| (?P<licence>[^|,]+), `(?P<text>[^`]+)` \| `(?P<digest>[0-9a-f]{64})` \|"
)


class Licence(NamedTuple):
    """A licence.

    Attributes:
        text: an expression of SPDX, or the distribution's words.
        spdx: whether it is the first.
        concluded: whether it was read in the licence's text, and is not said by the distribution.
    """

    text: str
    spdx: bool
    concluded: bool = False


def normal(name: str) -> str:
    """Return the name of a distribution as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence_of(one: Distribution) -> Licence:
    """Return the licence that a distribution is under."""
    if expression := one.metadata["License-Expression"]:
        return Licence(expression, True)
    said = one.metadata["License"] or ""
    if not said or "\n" in said or len(said) >= _LONGEST_NAME:
        classifiers = one.metadata.get_all("Classifier") or ()
        named = [text.rpartition(" :: ")[2] for text in classifiers if text.startswith("License :: ")]
        said = " OR ".join(named)
    if said == "BSD License" and any(map(_THIRD_CLAUSE.search, texts_of(one))):
        return Licence("BSD-3-Clause", True, concluded=True)
    return _named(said)


def _named(said: str) -> Licence:
    found = _NAMED.get(said, said)
    return Licence(found or "see the copyright file", _SPDX.fullmatch(found) is not None)


def texts_of(one: Distribution) -> Iterator[str]:
    """Yield each text of a licence that a distribution brings, once; where it lies, if it is a long one of
    many."""
    seen: set[str] = set()
    for path in sorted(one.files or (), key=str):
        if ".dist-info/" in str(path) and _FILE.search(str(path)):
            text = pathlib.Path(str(path.locate())).read_text(encoding="utf-8", errors="replace")
            if text in seen:
                continue
            seen.add(text)
            if _APACHE.search(text):
                text = f"{_SITE_PACKAGES}/{path} has the text of the Apache License, Version 2.0.\n"
            yield text


class Script(NamedTuple):
    """A package of npm of which the console's pages load files.

    Attributes:
        text: the text of its licence.
        files: their paths below the environment's site-packages, with the SHA-256 of each.
    """

    name: str
    version: str
    licence: Licence
    text: str
    files: tuple[tuple[str, str], ...]


def scripts_of(packages: pathlib.Path) -> list[Script]:
    """Return what the page beside those files lists, which the tests of the console hold against them."""
    folder = packages / _STATIC
    found: dict[str, Script] = {}
    for row in _ROW.finditer((folder / "README.md").read_text(encoding="utf-8")):
        text = (folder / row["text"]).read_text(encoding="utf-8")
        new = Script(row["package"], row["version"], _named(row["licence"]), text, ())
        before = found.get(row["package"], new)
        files = (*before.files, (f"{_STATIC}/{row['file']}", row["digest"]))
        found[row["package"]] = before._replace(files=files)
    return list(found.values())
