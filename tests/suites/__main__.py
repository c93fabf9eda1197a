"""Run the clients' own suites.

    python -m tests.suites [NAME ...] [--broker megabroker|kafka] [--only PART ...] [--seconds N] [--json]

Each suite gets a broker of its own with a fresh data directory, and each test a time-out. Without names all
suites run; ``--list`` names them. What a suite needs is brought from its registry and built the first time,
into ``.cache/suites``; a suite that cannot be had here is reported as unavailable, with the reason.

A failed test is shown with its reason where one is known (``reasons.py``). The exit code is 1 if a test
failed for no known reason, and 2 if a suite was unavailable. What suites and brokers wrote stays in
``.cache/suites/runs/SUITE-BROKER``.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import sys
import time
from typing import Any

import attrs

from tests.interop import java
from tests.suites import fetching
from tests.suites.brokers import BROKERS
from tests.suites.catalogue import SUITES
from tests.suites.reasons import reason
from tests.suites.results import FAILED, Result, Run, Suite, Unavailable, counts

_SECONDS = 120


def run_suite(
    suite: Suite, broker: str, directory: pathlib.Path, seconds: float, only: list[str]
) -> list[Result]:
    """Run one suite against a fresh broker.

    Args:
        directory: an empty one, for the broker's files and what the suite writes.

    Raises:
        Unavailable, tests.interop.java.Unavailable: the suite or the broker cannot be had here.
    """
    (directory / "suite").mkdir()
    (directory / "broker").mkdir()
    with BROKERS[broker](suite, directory / "broker") as running:
        return suite.run(Run(running.kafka, directory / "suite", seconds, only))


def _fresh(name: str) -> pathlib.Path:
    directory = fetching.CACHE / "runs" / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def _arguments() -> argparse.Namespace:
    text = __doc__ or ""
    parser = argparse.ArgumentParser(
        "python -m tests.suites", description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="suites; all if none is named")
    parser.add_argument("--broker", choices=sorted(BROKERS), default="megabroker")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="PART", help="tests with this in their names"
    )
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="time-out of one test")
    parser.add_argument("--json", action="store_true", help="print all results as JSON")
    parser.add_argument("--list", action="store_true", help="name the suites and end")
    return parser.parse_args()


def main() -> int:
    """Run what the command line says; return the exit code."""
    arguments = _arguments()
    if arguments.list:
        print("\n".join(SUITES))
        return 0
    unknown = [name for name in arguments.names if name not in SUITES]
    if unknown:
        sys.exit(f"no suite {', '.join(unknown)}; there are {', '.join(SUITES)}")
    code = 0
    report: dict[str, Any] = {}
    for name in arguments.names or SUITES:
        suite = SUITES[name]
        begun = time.monotonic()
        try:
            version = suite.prepare()
            directory = _fresh(f"{name}-{arguments.broker}")
            results = run_suite(suite, arguments.broker, directory, arguments.seconds, arguments.only)
        except (Unavailable, java.Unavailable) as error:
            report[name] = {"unavailable": str(error)}
            print(f"{name}: unavailable: {error}", file=sys.stderr)
            code = max(code, 2)
            continue
        report[name] = {"version": version, "broker": arguments.broker, **counts(results)}
        report[name]["tests"] = [attrs.asdict(result) for result in results]
        if not arguments.json:
            _show(name, version, arguments.broker, results, time.monotonic() - begun)
        if any(one.outcome == FAILED and reason(name, one.test) is None for one in results):
            code = 1
    if arguments.json:
        print(json.dumps(report, indent=1))
    return code


def _show(name: str, version: str, broker: str, results: list[Result], seconds: float) -> None:
    for result in results:
        if result.outcome == FAILED:
            known = reason(name, result.test)
            said = result.detail.strip().replace("\n", "\n    ")
            print(f"{name}: FAILED {result.test}: {known or said}")
    found = counts(results)
    numbers = ", ".join(f"{count} {outcome}" for outcome, count in found.items())
    print(f"{name} {version} on {broker}: {numbers} ({seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
