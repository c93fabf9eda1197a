"""Java for tests: artifacts from Maven, sources of ours compiled, main classes run within limits.

Everything goes to ``.cache/java`` and is kept: a class path is resolved once per list of artifacts, a source
is compiled again only when it or its class path changes. Where something is missing ``Unavailable`` says
what, and the fixtures skip by that name.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence

import attrs

__all__ = ["CLIENTS", "KAFKA_VERSION", "LOGGING", "SHORT_RUN", "STREAMS", "TOOLS", "Java", "Unavailable"]

KAFKA_VERSION = "4.3.1"
LOGGING = "org.slf4j:slf4j-simple:1.7.36"
CLIENTS = (f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}", LOGGING)
TOOLS = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",
    LOGGING,
)
STREAMS = (f"org.apache.kafka:kafka-streams:{KAFKA_VERSION}", LOGGING)

SHORT_RUN = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Options of a virtual machine that starts soon and never becomes fast."""

_SOURCES = pathlib.Path(__file__).with_name("java")
_CACHE = pathlib.Path(__file__).resolve().parents[2] / ".cache" / "java"
_MAVEN_SECONDS = 300
_JAVAC_SECONDS = 120

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion>
<groupId>tests</groupId><artifactId>class-path</artifactId><version>1</version>
<dependencies>{dependencies}</dependencies>
</project>
"""
_DEPENDENCY = """<dependency>
<groupId>{0}</groupId><artifactId>{1}</artifactId><version>{2}</version>{classifier}
</dependency>"""


class Unavailable(Exception):
    """Java, Maven or an artifact cannot be had here; the text says which."""


@attrs.frozen
class Java:
    """Classes and the limits they are run within.

    Attributes:
        classpath: jars and directories, strongest first.
    """

    classpath: tuple[str, ...]

    @classmethod
    def of(cls, artifacts: Sequence[str]) -> Java:
        """Return Java with these artifacts and all they need.

        Args:
            artifacts: each ``group:artifact:version`` or ``group:artifact:version:classifier``.

        Raises:
            Unavailable: no Java, or Maven is needed and cannot bring them.
        """
        if shutil.which("java") is None:
            raise Unavailable("java is not installed (Debian: apt-get install openjdk-17-jdk-headless)")
        directory = _CACHE / _digest("\n".join(artifacts))
        found = directory / "classpath"
        with _one_at_a_time():
            if not found.exists() or not all(map(os.path.exists, _entries(found))):
                _resolve(artifacts, directory)
        return cls(_entries(found))

    def compiled(self, *names: str) -> Java:
        """Return Java that has our sources ``tests/interop/java/NAME.java`` too.

        Raises:
            Unavailable: no compiler.
        """
        sources = [_SOURCES / f"{name}.java" for name in names]
        text = "\n".join(one.read_text() for one in sources)
        target = _CACHE / _digest(text + "\n".join(self.classpath))
        with _one_at_a_time():
            if not target.is_dir():
                _compile(sources, self.classpath, target)
        return Java((str(target), *self.classpath))

    def command(
        self,
        main: str,
        *args: str,
        heap_mib: int = 256,
        properties: Mapping[str, str] | None = None,
        options: Sequence[str] = SHORT_RUN,
    ) -> list[str]:
        """Return the command line that runs a main class; by its options made for short runs."""
        settings = {"org.slf4j.simpleLogger.defaultLogLevel": "warn", **(properties or {})}
        return [
            "java",
            f"-Xmx{heap_mib}m",
            *options,
            *(f"-D{key}={value}" for key, value in settings.items()),
            "-cp",
            os.pathsep.join(self.classpath),
            main,
            *args,
        ]

    def run(
        self,
        main: str,
        *args: str,
        seconds: float = 60,
        heap_mib: int = 256,
        properties: Mapping[str, str] | None = None,
        text_input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a main class to its end.

        Raises:
            subprocess.TimeoutExpired: it took longer than ``seconds``; it is killed.
        """
        return subprocess.run(
            self.command(main, *args, heap_mib=heap_mib, properties=properties),
            input=text_input,
            stdin=subprocess.DEVNULL if text_input is None else None,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _entries(found: pathlib.Path) -> tuple[str, ...]:
    return tuple(found.read_text().strip().split(os.pathsep))


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Hold off other processes that run tests: Maven's repository is not made for two at once."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    with open(_CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _compile(sources: Sequence[pathlib.Path], classpath: Sequence[str], target: pathlib.Path) -> None:
    compiler = shutil.which("javac")
    if compiler is None:
        raise Unavailable("javac is not installed (Debian: apt-get install openjdk-17-jdk-headless)")
    fresh = target.with_name(f"{target.name}.fresh")
    command = [compiler, "-nowarn", "-d", str(fresh), "-cp", os.pathsep.join(classpath)]
    command += [str(one) for one in sources]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_JAVAC_SECONDS, check=False)
    assert done.returncode == 0, f"javac failed:\n{done.stderr}"
    fresh.rename(target)


def _resolve(artifacts: Sequence[str], directory: pathlib.Path) -> None:
    """Let Maven write the class path of the artifacts into the directory."""
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable("mvn is not installed (Debian: apt-get install maven)")
    dependencies = []
    for artifact in artifacts:
        parts = artifact.split(":")
        classifier = f"<classifier>{parts[3]}</classifier>" if len(parts) > 3 else ""
        dependencies.append(_DEPENDENCY.format(*parts, classifier=classifier))
    directory.mkdir(parents=True, exist_ok=True)
    fresh = directory / "classpath.fresh"
    pom = directory / "pom.xml"
    pom.write_text(_POM.format(dependencies="".join(dependencies)))
    command = [maven, "-q", "-B", "-f", str(pom), "dependency:build-classpath", f"-Dmdep.outputFile={fresh}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_MAVEN_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"Maven took longer than {_MAVEN_SECONDS} s for {', '.join(artifacts)}") from None
    if done.returncode or not fresh.exists():
        raise Unavailable(f"Maven cannot bring {', '.join(artifacts)}: {done.stdout.strip()[-300:]}")
    fresh.rename(directory / "classpath")
