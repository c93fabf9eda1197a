"""kafka-python: the integration tests of its source distribution.

They use a broker that runs already when KAFKA_URI says where. Tests of TLS and SASL start a broker of their
own from Apache Kafka's scripts and are left out. The distribution lacks one module that its fixtures import,
the one that starts and watches processes; with a broker that runs already it has nothing to do.
"""

from __future__ import annotations

import os
import pathlib
import subprocess

from tests.suites import fetching
from tests.suites.junit import read_junit
from tests.suites.results import Result, Run, Suite

__all__ = ["KafkaPython"]

_VERSION = "3.0.12"
_BROKER_VERSION = "4.3"
_PACKAGES = (
    "pytest==8.*",
    "pytest-timeout",
    "pytest-mock",
    "py",
    "lz4",
    "python-snappy",
    "zstandard",
    "crc32c",
)
_SERVICE = '''"""A broker that runs already needs no process started or watched."""


class ExternalService:
    def __init__(self, host, port):
        self.host, self.port = host, port

    def dump_logs(self):
        pass

    def stop(self):
        pass


class SpawnedService:
    def __init__(self, args, env):
        raise RuntimeError("these tests use a broker that runs already")
'''


class KafkaPython(Suite):
    """kafka-python's ``test/integration``."""

    name = "kafka-python"

    def prepare(self) -> str:
        """Unpack the distribution and complete it; make an environment with what its tests need."""
        self._source()
        self._environment()
        return _VERSION

    def run(self, run: Run) -> list[Result]:
        """Run pytest once over all of them."""
        report = run.directory / "report.xml"
        words = [
            str(self._environment() / "bin" / "python"),
            *("-m", "pytest", "-q", "-o", "addopts=", "-o", "log_level=INFO"),
            *("--timeout", str(run.seconds), "--timeout-method", "signal", "--junitxml", str(report)),
            "test/integration",
            *("--ignore", "test/integration/test_ssl_integration.py"),
            *("--ignore", "test/integration/test_sasl_integration.py"),
        ]
        if run.only:
            words += ["-k", " or ".join(run.only)]
        source = self._source()
        env = {
            **os.environ,
            "KAFKA_URI": f"kafka://{run.bootstrap}",
            "KAFKA_VERSION": _BROKER_VERSION,
            "KAFKA_ROOT": str(source),
            "PYTHONPATH": str(source),
        }
        with open(run.directory / "output.log", "wb") as output:
            subprocess.run(words, cwd=source, env=env, stdout=output, stderr=output, check=False)
        return read_junit(report)

    @staticmethod
    def _source() -> pathlib.Path:
        def make(target: pathlib.Path) -> None:
            fetching.source_distribution(f"kafka-python=={_VERSION}", target)
            (test,) = target.glob("*/test")
            (test / "__init__.py").touch()
            (test / "service.py").write_text(_SERVICE)

        (source,) = fetching.once("kafka-python", make).glob("kafka_python-*")
        return source

    @staticmethod
    def _environment() -> pathlib.Path:
        return fetching.once(
            "kafka-python-env", lambda target: fetching.python_environment(target, _PACKAGES)
        )
