"""Results from the XML report that pytest and others write."""

from __future__ import annotations

import pathlib
from xml.etree import ElementTree

from tests.suites.results import FAILED, PASSED, SKIPPED, Result

__all__ = ["read_junit"]

_DETAIL_CHARACTERS = 2000


def read_junit(report: pathlib.Path) -> list[Result]:
    """Return the results of a report; one failure if there is none."""
    if not report.exists():
        return [Result("(the whole run)", FAILED, detail="it ended without a report")]
    results = []
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        outcome, detail = PASSED, ""
        for child in case:
            if child.tag in ("failure", "error"):
                outcome, detail = FAILED, f"{child.get('message')}\n{child.text or ''}"
            elif child.tag == "skipped" and outcome == PASSED:
                outcome, detail = SKIPPED, str(child.get("message"))
        results.append(Result(name, outcome, float(case.get("time", 0)), detail[-_DETAIL_CHARACTERS:]))
    return results
