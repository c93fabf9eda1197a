"""The packages as files: reproducible, what the checkers say, what is inside."""

from __future__ import annotations

import hashlib
import json
import pathlib
import subprocess

from tests.packaging.machines.building import Built, build, checkout_of

_DOC = "usr/share/doc/megabroker"


def digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_lintian(built: Built) -> None:
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", str(built.deb)],
        capture_output=True,
        text=True,
        timeout=300,
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
    }
    assert {one.replace("_", "-").replace(".", "-") for one in said} == {
        one.replace(".", "-") for one in there
    }
    text = (built.stage / _DOC / "copyright").read_text()
    for one in bill["components"]:
        assert f"\n{one['name']} {one['version']}: " in text
    assert "brings no text of its licence" not in text


def test_two_builds_in_two_places_are_the_same(built: Built, workshop: pathlib.Path) -> None:
    other = build(checkout_of(workshop / "elsewhere/deeper"), workshop / "built-elsewhere")
    for path in sorted(built.stage.rglob("*")):
        twin = other.stage / path.relative_to(built.stage)
        assert path.is_symlink() == twin.is_symlink()
        if path.is_file() and not path.is_symlink():
            assert digest(path) == digest(twin), path
    assert digest(built.deb) == digest(other.deb)
    assert digest(built.rpm) == digest(other.rpm)
