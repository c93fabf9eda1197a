"""node-rdkafka: the end-to-end tests of its npm package, which builds librdkafka when it is installed."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess

from tests.interop.conftest import create_topic
from tests.suites import fetching
from tests.suites.results import FAILED, PASSED, Result, Run, Suite

__all__ = ["NodeRdkafka"]

_VERSION = "3.6.1"
_BUILD_SECONDS = 1200
_WHOLE_SECONDS = 1200
_REPORTER = pathlib.Path(__file__).with_name("mocha_lines.js")
_TOPICS = ("test", "test2", "test3", "test4", "test5", "test6")


class NodeRdkafka(Suite):
    """node-rdkafka's ``e2e``, run by mocha.

    Its authors' set-up makes six topics of one partition beforehand.
    """

    name = "node-rdkafka"
    settings = {"topics": {"default_partitions": 1}}
    properties = {"num.partitions": "1"}

    def prepare(self) -> str:
        """Install it with mocha; building it takes two minutes on two cores, once."""
        fetching.need("node", "nodejs")
        self._modules()
        return _VERSION

    def run(self, run: Run) -> list[Result]:
        """Run mocha once over all files, in the order of their names."""
        for topic in _TOPICS:
            create_topic(run.bootstrap, topic)
        modules = self._modules()
        report = run.directory / "report.jsonl"
        report.touch()
        words = [
            *("node", str(modules / "mocha" / "bin" / "mocha.js"), "--exit"),
            *("--timeout", str(int(run.seconds * 1000))),
            *("--reporter", str(_REPORTER), "--reporter-option", f"output={report}"),
            *(str(spec) for spec in sorted((modules / "node-rdkafka" / "e2e").glob("*.spec.js"))),
        ]
        if run.only:
            words += ["--grep", "|".join(run.only)]
        ended = True
        with open(run.directory / "output.log", "wb") as output:
            env = {**os.environ, "KAFKA_HOST": run.bootstrap}
            try:
                subprocess.run(
                    words,
                    cwd=modules,
                    env=env,
                    stdout=output,
                    stderr=output,
                    timeout=_WHOLE_SECONDS,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                ended = False
        results = _results(report)
        if not ended or not results:
            results.append(
                Result("(the whole run)", FAILED, detail=(run.directory / "output.log").read_text())
            )
        return results

    @staticmethod
    def _modules() -> pathlib.Path:
        packages = (f"node-rdkafka@{_VERSION}", "mocha@10")
        target = fetching.once(
            "node-rdkafka", lambda target: fetching.npm_package(packages, target, _BUILD_SECONDS)
        )
        return target / "node_modules"


def _results(report: pathlib.Path) -> list[Result]:
    """Return one result a test: mocha may report a test that passed as failed later on."""
    found: dict[str, Result] = {}
    for line in report.read_text().splitlines():
        result = Result(**json.loads(line))
        if found.get(result.test, result).outcome in (PASSED, result.outcome):
            found[result.test] = result
    return list(found.values())
