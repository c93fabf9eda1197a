"""Say what a virtual environment is made of: materials.py ENVIRONMENT ROOT REPORT.

Writes into it ``bundle.json``, by which `megabroker plugin` knows what belongs to the package, and a broker
that runs that it was upgraded. Writes below ROOT the bill of materials (CycloneDX 1.6, JSON) and the
copyright file with the licence of everything that is bundled, from what the distributions say of themselves
and from REPORT, pip's own on what it installed. Nothing in them depends on where or when they were made.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import pathlib
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution
from typing import Any, Final, NamedTuple

from licences import Licence, Script, licence_of, normal, scripts_of, texts_of

_PLUGINS: Final = "/var/opt/megabroker/plugins"
_ROOT: Final = pathlib.Path(__file__).parents[2]
_DOC: Final = "usr/share/doc/megabroker"
_HEAD: Final = """\
megabroker, a message broker.

The package holds the broker and, in /opt/megabroker, the libraries that it uses. Each is under its own
licence, which follows; sbom.cdx.json beside this file lists them for programs. On Debian systems the full
text of the Apache License, version 2.0, is also in /usr/share/common-licenses/Apache-2.0.
"""
_SITE_PACKAGES: Final = "opt/megabroker/lib/python3.11/site-packages"
_NAMESPACE: Final = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")


class Wheel(NamedTuple):
    """What a distribution was installed from."""

    name: str
    sha256: str


def write(environment: pathlib.Path, root: pathlib.Path, report: pathlib.Path) -> None:
    """Write all three files."""
    (packages,) = (environment / "lib").glob("python3.*/site-packages")
    found = sorted(importlib.metadata.distributions(path=[str(packages)]), key=_key)
    scripts = scripts_of(packages)
    mark = {"plugins": _PLUGINS, "distributions": [_key(one) for one in found], "content": _content(found)}
    (environment / "bundle.json").write_text(json.dumps(mark, indent=1) + "\n", encoding="utf-8")
    place = root / _DOC
    place.mkdir(parents=True, exist_ok=True)
    bill = _bill(found, scripts, _wheels(report))
    (place / "sbom.cdx.json").write_text(json.dumps(bill, indent=1) + "\n", encoding="utf-8")
    (place / "copyright").write_text(_copyright(found, scripts), encoding="utf-8")


def _key(one: Distribution) -> str:
    return normal(one.metadata["Name"])


def _content(found: list[Distribution]) -> str:
    """Return what stands for every file of the distributions, by the hashes that they record."""
    records = (one.read_text("RECORD") or "" for one in found)
    return hashlib.sha256("".join(records).encode()).hexdigest()


def _wheels(report: pathlib.Path) -> dict[str, Wheel]:
    """Return by distribution what pip installed from an index; its hash is one of those that are pinned."""
    rows = json.loads(report.read_text(encoding="utf-8"))["install"]
    found: dict[str, Wheel] = {}
    for row in rows:
        source = row["download_info"]
        name = source["url"].rpartition("/")[2]
        found[normal(row["metadata"]["name"])] = Wheel(name, source["archive_info"]["hashes"]["sha256"])
    return found


# --- the bill of materials ------------------------------------------------------------------------


def _bill(found: list[Distribution], scripts: list[Script], wheels: Mapping[str, Wheel]) -> dict[str, Any]:
    own = next(one for one in found if _key(one) == "megabroker")
    others = [one for one in found if one is not own]
    moment = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.UTC)
    references = {_key(one): _purl(one) for one in found}
    content = ",".join([*references.values(), *map(_script_purl, scripts)])
    needed = {_purl(one): set(_needs(one, references)) for one in found}
    needed[_purl(own)].update(map(_script_purl, scripts))
    needed.update((_script_purl(one), set()) for one in scripts)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{content} {moment.isoformat()}')}",
        "version": 1,
        "metadata": {
            "timestamp": moment.isoformat(),
            "lifecycles": [{"phase": "build"}],
            "authors": [{"name": "The megabroker developers"}],
            "component": _component(own, "application"),
        },
        "components": [
            *({**_component(one, "library"), **_origin(wheels[_key(one)])} for one in others),
            *map(_script_component, scripts),
        ],
        "dependencies": [{"ref": ref, "dependsOn": sorted(others)} for ref, others in needed.items()],
    }


def _purl(one: Distribution) -> str:
    return f"pkg:pypi/{_key(one)}@{one.version}"


def _component(one: Distribution, kind: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "type": kind,
        "bom-ref": _purl(one),
        "name": one.metadata["Name"],
        "version": one.version,
        "purl": _purl(one),
        "licenses": [_licence(licence_of(one))],
    }
    if summary := one.metadata["Summary"]:
        row["description"] = summary
    if author := one.metadata["Author"] or one.metadata["Author-email"]:
        row["authors"] = [{"name": author}]
    if inner := list(_inner_bills(one)):
        row["externalReferences"] = inner
    return row


def _origin(wheel: Wheel) -> dict[str, Any]:
    return {
        "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
        "properties": [{"name": "megabroker:hashed", "value": wheel.name}],
    }


def _licence(said: Licence) -> dict[str, Any]:
    how = {"acknowledgement": "concluded" if said.concluded else "declared"}
    if not said.spdx:
        return {"license": {"name": said.text, **how}}
    if " " in said.text:
        return {"expression": said.text, **how}
    return {"license": {"id": said.text, **how}}


def _inner_bills(one: Distribution) -> Iterator[dict[str, Any]]:
    """Yield the bills that a distribution brings of what was compiled into it."""
    for path in sorted(one.files or (), key=str):
        if ".dist-info/sboms/" in str(path):
            digest = hashlib.sha256(pathlib.Path(str(path.locate())).read_bytes()).hexdigest()
            url = f"file:///{_SITE_PACKAGES}/{path}"
            yield {"type": "bom", "url": url, "hashes": [{"alg": "SHA-256", "content": digest}]}


def _needs(one: Distribution, references: dict[str, str]) -> Iterator[str]:
    for requirement in one.requires or ():
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if name is not None and normal(name[0]) in references and normal(name[0]) != _key(one):
            yield references[normal(name[0])]


def _script_purl(one: Script) -> str:
    return f"pkg:npm/{one.name}@{one.version}"


def _script_component(one: Script) -> dict[str, Any]:
    files = [
        {"type": "file", "name": path, "hashes": [{"alg": "SHA-256", "content": digest}]}
        for path, digest in one.files
    ]
    return {
        "type": "library",
        "bom-ref": _script_purl(one),
        "name": one.name,
        "version": one.version,
        "purl": _script_purl(one),
        "licenses": [_licence(one.licence)],
        "components": files,
    }


# --- licences -------------------------------------------------------------------------------------


def _copyright(found: list[Distribution], scripts: list[Script]) -> str:
    parts = [_HEAD]
    own = (_ROOT / "LICENSE").read_text(encoding="utf-8")
    parts.append(_section("megabroker", "", "MIT", [own]))
    for one in found:
        name = one.metadata["Name"]
        if _key(one) == "megabroker":
            continue
        texts = list(texts_of(one))
        if not texts:
            author = one.metadata["Author"] or one.metadata["Author-email"] or "its authors"
            texts = [f"Copyright by {author}. The distribution brings no text of its licence.\n"]
        parts.append(_section(name, one.version, licence_of(one).text, texts))
    parts += [_section(one.name, one.version, one.licence.text, [one.text]) for one in scripts]
    return "\n".join(parts)


def _section(name: str, version: str, licence: str, texts: list[str]) -> str:
    head = f"{name} {version}".strip()
    body = "\n".join(text.strip("\n") + "\n" for text in texts)
    return f"{'=' * 78}\n{head}: {licence}\n{'=' * 78}\n\n{body}"


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
