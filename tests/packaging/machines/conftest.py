"""What is built once for all tests, and the Debian they run in."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest

from tests.packaging.machines.building import ROOT, Built, build, checkout_of
from tests.packaging.machines.machine import debian, remove_tree


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """A directory for large things, gone afterwards; or one that is kept, with what was built there."""
    kept = os.environ.get("MEGABROKER_PACKAGES_KEPT")
    if kept:
        yield pathlib.Path(kept)
        return
    place = tmp_path_factory.mktemp("packages")
    yield place
    remove_tree(place)


@pytest.fixture(scope="session")
def built(workshop: pathlib.Path) -> Built:
    """The packages of this checkout."""
    return build(ROOT, workshop / "built")


@pytest.fixture(scope="session")
def previous(workshop: pathlib.Path) -> Built:
    """The packages of the same broker as an older version."""
    return build(checkout_of(workshop / "previous", "0.0.9"), workshop / "built-previous")


@pytest.fixture(scope="session")
def system(workshop: pathlib.Path) -> pathlib.Path:
    """A tree of Debian 12, to be copied."""
    return debian(workshop / "debian")
