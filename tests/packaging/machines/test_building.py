"""The packages as files: reproducible, what the checkers say, what is inside."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import subprocess

from tests.packaging.machines.building import ROOT, Built, build, checkout_of, environment_with

_DOC = "usr/share/doc/megabroker"


def digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_lintian(built: Built) -> None:
    asked = ["--pedantic", "--display-info", "--fail-on", "error,warning,info,pedantic"]
    done = subprocess.run(
        ["lintian", "--allow-root", *asked, str(built.deb)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    told = [line for line in done.stdout.splitlines() if not line.startswith("N:")]
    assert (done.returncode, told) == (0, []), done.stdout + done.stderr


def test_rpmlint(built: Built) -> None:
    done = subprocess.run(
        ["rpmlint", "-c", "packaging/rpm/rpmlint.toml", str(built.rpm)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "0 errors, 0 warnings" in done.stdout, done.stdout


def test_man_pages_are_without_faults(built: Built) -> None:
    for page in sorted(built.stage.glob("usr/share/man/man?/*.gz")):
        done = subprocess.run(
            ["man", "--warnings", "-E", "UTF-8", "-l", str(page)], capture_output=True, text=True, check=True
        )
        assert not done.stderr, done.stderr
        assert len(done.stdout.splitlines()) > 20, page


def test_the_environment_is_the_distributions_python(built: Built) -> None:
    opt = built.stage / "opt/megabroker"
    assert (opt / "bin/python3.11").readlink() == pathlib.Path("/usr/bin/python3.11")
    assert "home = /usr/bin\n" in (opt / "pyvenv.cfg").read_text()
    program = "import sys, twisted, megabroker.net.compiled as c; "
    program += "print(sys.base_prefix, c.__file__, twisted.__file__)"
    done = subprocess.run(
        [opt / "bin/python", "-I", "-c", program], capture_output=True, text=True, check=True
    )
    base, compiled, twisted = done.stdout.split()
    assert base == "/usr"
    assert compiled.startswith(str(opt))
    assert twisted.startswith(str(opt))


def test_the_bill_of_materials(built: Built) -> None:
    bill = json.loads((built.stage / _DOC / "sbom.cdx.json").read_text())
    there = {
        path.name.removesuffix(".dist-info").lower().replace("_", "-")
        for path in (built.stage / "opt/megabroker/lib/python3.11/site-packages").glob("*.dist-info")
    }
    said = {
        f"{one['name']}-{one['version']}".lower()
        for one in [*bill["components"], bill["metadata"]["component"]]
        if one["purl"].startswith("pkg:pypi/")
    }
    scripts = {one["name"] for one in bill["components"] if one["purl"].startswith("pkg:npm/")}
    assert scripts == {"htmx.org", "uplot"}
    assert {one.replace("_", "-").replace(".", "-") for one in said} == {
        one.replace(".", "-") for one in there
    }
    text = (built.stage / _DOC / "copyright").read_text()
    for one in bill["components"]:
        assert f"\n{one['name']} {one['version']}: " in text
    assert "brings no text of its licence" not in text
    pinned = (ROOT / "packaging/common/requirements.txt").read_text()
    for one in bill["components"]:
        if one["purl"].startswith("pkg:pypi/"):
            assert f"--hash=sha256:{one['hashes'][0]['content']}" in pinned
    licences = {
        word
        for one in bill["components"]
        for said in one["licenses"]
        for word in (said.get("expression") or said["license"]["id"]).split()
    }
    assert licences - {"OR"} <= set(asked_of_rpm(built, "%{license}").split())


def asked_of_rpm(built: Built, form: str) -> str:
    command = ["rpm", "--query", "--package", str(built.rpm), "--queryformat", form]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


_VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read())
sys.exit(fault and str(fault)[:2000])
"""


def test_the_bill_of_materials_is_valid(built: Built, workshop: pathlib.Path) -> None:
    commands = environment_with(workshop / "cyclonedx", "cyclonedx-python-lib[json-validation]")
    text = (built.stage / _DOC / "sbom.cdx.json").read_text()
    for bill, good in ((text, True), (text.replace('"MIT-0"', '"MIT-00"'), False)):
        done = subprocess.run(
            [commands / "python", "-c", _VALIDATE],
            input=bill,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode == 0) == good, done.stderr


def test_what_compiled_parts_need_of_a_system(built: Built) -> None:
    """The RPM says so by hand, and older systems than Debian 12 are to have it."""
    versions, libraries = set(), set()
    for path in sorted((built.stage / "opt/megabroker").rglob("*.so")):
        told = subprocess.run(["objdump", "-pT", path], capture_output=True, text=True, check=True).stdout
        versions |= {tuple(map(int, one.split("."))) for one in re.findall(r"GLIBC_(\d[\d.]*)", told)}
        libraries |= set(re.findall(r"NEEDED +(\S+)", told))
    needed = asked_of_rpm(built, "[%{requires}\n]").splitlines()
    major, minor = max(versions)
    assert f"libc.so.6(GLIBC_{major}.{minor})(64bit)" in needed
    of_glibc = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2"}
    assert {f"{one}()(64bit)" for one in libraries - of_glibc} <= set(needed)


def test_who_distributes_is_told(built: Built, tmp_path: pathlib.Path) -> None:
    who = "Ada & Bo <them@example.org>"
    environment = {**os.environ, "DEBFULLNAME": "Ada & Bo", "DEBEMAIL": "them@example.org"}
    command = ["packaging/build-deb", "--stage", str(built.stage), str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=600)
    (deb,) = tmp_path.glob("*.deb")
    for package, said in (
        (deb, who),
        (built.deb, "The megabroker developers <developers@megabroker.invalid>"),
    ):
        asked = ["dpkg-deb", "--field", str(package), "Maintainer"]
        assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == said


def test_two_builds_in_two_places_are_the_same(built: Built, workshop: pathlib.Path) -> None:
    other = build(checkout_of(workshop / "elsewhere/deeper"), workshop / "built-elsewhere")
    for path in sorted(built.stage.rglob("*")):
        twin = other.stage / path.relative_to(built.stage)
        assert path.is_symlink() == twin.is_symlink()
        if path.is_file() and not path.is_symlink():
            assert digest(path) == digest(twin), path
    assert digest(built.deb) == digest(other.deb)
    assert digest(built.rpm) == digest(other.rpm)
