"""Say what a virtual environment is made of: materials.py ENVIRONMENT ROOT.

Writes into it ``bundle.json``, by which `megabroker plugin` knows what belongs to the package. Writes below
ROOT the bill of materials (CycloneDX 1.6, JSON) and the copyright file with the licence of every distribution
that is bundled, from what the distributions say of themselves. Nothing in them depends on where or when they
were made.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import pathlib
import re
import sys
import uuid
from collections.abc import Iterator
from importlib.metadata import Distribution
from typing import Any, Final

_PLUGINS: Final = "/var/opt/megabroker/plugins"
_ROOT: Final = pathlib.Path(__file__).parents[2]
_DOC: Final = "usr/share/doc/megabroker"
_HEAD: Final = """\
megabroker, a message broker.

The package holds the broker and, in /opt/megabroker, the libraries that it uses. Each is under its own
licence, which follows; sbom.cdx.json beside this file lists them for programs. On Debian systems the full
text of the Apache License, version 2.0, is also in /usr/share/common-licenses/Apache-2.0.
"""
_LICENCE_FILE: Final = re.compile(r"(?i)(licen[cs]e|copying|notice|authors)[^/]*$")
_APACHE: Final = re.compile(r"Apache License\s+Version 2\.0, January 2004\s+http")
_SITE_PACKAGES: Final = "/opt/megabroker/lib/python3.11/site-packages"
_NAMESPACE: Final = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")


def write(environment: pathlib.Path, root: pathlib.Path) -> None:
    """Write both files."""
    (packages,) = (environment / "lib").glob("python3.*/site-packages")
    found = sorted(
        importlib.metadata.distributions(path=[str(packages)]), key=lambda one: _normal(one.metadata["Name"])
    )
    mark = {"plugins": _PLUGINS, "distributions": [_normal(one.metadata["Name"]) for one in found]}
    (environment / "bundle.json").write_text(json.dumps(mark, indent=1) + "\n", encoding="utf-8")
    place = root / _DOC
    place.mkdir(parents=True, exist_ok=True)
    (place / "sbom.cdx.json").write_text(json.dumps(_bill(found), indent=1) + "\n", encoding="utf-8")
    (place / "copyright").write_text(_copyright(found), encoding="utf-8")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# --- the bill of materials ------------------------------------------------------------------------


def _bill(found: list[Distribution]) -> dict[str, Any]:
    own = next(one for one in found if _normal(one.metadata["Name"]) == "megabroker")
    others = [one for one in found if one is not own]
    moment = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.UTC)
    references = {_normal(one.metadata["Name"]): _purl(one) for one in found}
    content = ",".join(references.values())
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{content} {moment.isoformat()}')}",
        "version": 1,
        "metadata": {"timestamp": moment.isoformat(), "component": _component(own, "application")},
        "components": [_component(one, "library") for one in others],
        "dependencies": [
            {"ref": _purl(one), "dependsOn": sorted(set(_needs(one, references)))} for one in found
        ],
    }


def _purl(one: Distribution) -> str:
    return f"pkg:pypi/{_normal(one.metadata['Name'])}@{one.version}"


def _component(one: Distribution, kind: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "type": kind,
        "bom-ref": _purl(one),
        "name": one.metadata["Name"],
        "version": one.version,
        "purl": _purl(one),
        "licenses": [{"license": {"name": _licence(one)}}],
    }
    if summary := one.metadata["Summary"]:
        row["description"] = summary
    return row


def _needs(one: Distribution, references: dict[str, str]) -> Iterator[str]:
    for requirement in one.requires or ():
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if name is not None and _normal(name[0]) in references and _normal(name[0]) != _normal(one.name):
            yield references[_normal(name[0])]


def _licence(one: Distribution) -> str:
    """Return what a distribution says its licence is: an expression, a name, or a classifier's words."""
    if said := one.metadata["License-Expression"]:
        return said
    said = one.metadata["License"]
    if said and "\n" not in said and len(said) < 60:
        return said
    classified = [
        text.rpartition(" :: ")[2]
        for text in one.metadata.get_all("Classifier") or ()
        if text.startswith("License :: ")
    ]
    return " OR ".join(classified) or "see the copyright file"


# --- licences -------------------------------------------------------------------------------------


def _copyright(found: list[Distribution]) -> str:
    parts = [_HEAD]
    own = (_ROOT / "LICENSE").read_text(encoding="utf-8")
    parts.append(_section("megabroker", "", "MIT", [own]))
    for one in found:
        name = one.metadata["Name"]
        if _normal(name) == "megabroker":
            continue
        texts = list(_texts(one))
        if not texts:
            author = one.metadata["Author"] or one.metadata["Author-email"] or "its authors"
            texts = [f"Copyright by {author}. The distribution brings no text of its licence.\n"]
        parts.append(_section(name, one.version, _licence(one), texts))
    return "\n".join(parts)


def _section(name: str, version: str, licence: str, texts: list[str]) -> str:
    head = f"{name} {version}".strip()
    body = "\n".join(text.strip("\n") + "\n" for text in texts)
    return f"{'=' * 78}\n{head}: {licence}\n{'=' * 78}\n\n{body}"


def _texts(one: Distribution) -> Iterator[str]:
    """Yield each text of a licence that a distribution brings, once; where it lies, if it is a long one of
    many."""
    seen: set[str] = set()
    for path in sorted(one.files or (), key=str):
        if ".dist-info/" in str(path) and _LICENCE_FILE.search(str(path)):
            text = pathlib.Path(str(path.locate())).read_text(encoding="utf-8", errors="replace")
            if text in seen:
                continue
            seen.add(text)
            if _APACHE.search(text):
                text = f"{_SITE_PACKAGES}/{path} has the text of the Apache License, Version 2.0.\n"
            yield text


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
