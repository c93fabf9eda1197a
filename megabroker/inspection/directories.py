"""All data directories of one broker, checked as a whole.

Owns the order of things: small files, metadata, journals, then every log; and what one says about the other.
Changes nothing: every file is opened for reading alone.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import attrs

from megabroker.errors import ErrorCode, StorageError
from megabroker.inspection.findings import Finding, Kind
from megabroker.inspection.logs import Known, LogCheck, LogNumbers
from megabroker.inspection.places import Places, further_directories
from megabroker.inspection.reading import ReadOnlyFiles
from megabroker.inspection.stores import Metadata, dedup_findings, journal_findings, read_metadata
from megabroker.model import TopicPartition

__all__ = ["Progress", "Report", "check", "directories_of", "log_bytes"]

_DEDUP: Final = "dedup"

Progress = Callable[[int, int], None]
"""Told how many logs and bytes were read."""


@attrs.frozen
class Report:
    """What was found.

    Attributes:
        logs: what was read of each log.
        metadata: None for a directory of Apache Kafka, whose metadata is a log.
    """

    paths: list[pathlib.Path]
    clean: bool
    logs: dict[TopicPartition, LogNumbers]
    metadata: Metadata | None
    findings: list[Finding]

    @property
    def faults(self) -> list[Finding]:
        """What is wrong."""
        return [one for one in self.findings if one.kind.is_fault]

    def summary(self) -> dict[str, Any]:
        """Return it as JSON-like values."""
        return {
            "directories": list(map(str, self.paths)),
            "closed_in_order": self.clean,
            "logs": len(self.logs),
            "segments": sum(one.segments for one in self.logs.values()),
            "batches": sum(one.batches for one in self.logs.values()),
            "bytes": sum(one.size_bytes for one in self.logs.values()),
            "metadata_rows": None if self.metadata is None else dict(self.metadata.rows),
            "findings": [one.summary() for one in self.findings],
        }


def directories_of(path: pathlib.Path, further: Sequence[pathlib.Path] = ()) -> list[pathlib.Path]:
    """Return a main directory and all that belong to it.

    Raises:
        StorageError: one of them is no data directory.
    """
    try:
        paths = [path, *further]
        known = {os.path.abspath(one) for one in paths}
        paths += [one for one in further_directories(path) if os.path.abspath(one) not in known]
        for one in paths:
            found = one.is_dir() and any(
                entry.name == "meta.properties" or entry.name.rpartition("-")[2].isdecimal()
                for entry in one.iterdir()
            )
            if not found:
                raise StorageError(
                    ErrorCode.STORAGE,
                    f"{one} is not a data directory: expected meta.properties or <topic>-<partition>/ in it",
                    retriable=False,
                )
    except OSError as error:
        raise StorageError(ErrorCode.STORAGE, f"cannot read {path}: {error}", retriable=False) from error
    return paths


def log_bytes(paths: Sequence[pathlib.Path]) -> int:
    """Return how much there is to read. Raises OSError."""
    return sum(file.stat().st_size for path in paths for file in path.glob("*-*/*.log"))


def check(paths: Sequence[pathlib.Path], *, deep: bool = False, progress: Progress | None = None) -> Report:
    """Check everything. Blocking, and long.

    Args:
        deep: decode every record as well.

    Raises:
        StorageError: a file cannot be read by this process.
    """
    try:
        return _Check(paths, deep, progress or (lambda _, __: None)).run()
    except OSError as error:
        message = f"cannot read {error.filename or paths[0]}: {error.strerror or error}"
        raise StorageError(ErrorCode.STORAGE, message, retriable=False) from error


class _Check:
    def __init__(self, paths: Sequence[pathlib.Path], deep: bool, progress: Progress) -> None:
        self._paths = [pathlib.Path(os.path.abspath(path)) for path in paths]
        self._deep = deep
        self._progress = progress
        self._files = ReadOnlyFiles()
        self._read_bytes = 0
        self._logs: dict[TopicPartition, LogNumbers] = {}

    def run(self) -> Report:
        places = Places.read(self._files, self._paths)
        metadata = read_metadata(str(self._paths[0]))
        findings = list(places.findings)
        ids: dict[TopicPartition, UUID] = {}
        if metadata is not None:
            findings += metadata.findings
            for topic in metadata.topics.values():
                ids.update({TopicPartition(topic.name, at): topic.id for at in range(topic.partitions)})
            findings += places.strays(set(ids))
            findings += self._absent(places, set(ids))
            findings += dedup_findings(self._paths[0] / _DEDUP)
        pending: dict[str, list[tuple[int, int]]] = {}
        logs = {str(name): str(path) for name, path in places.logs.items()}
        points = {str(name): offset for name, offset in places.points.items()}
        for journal in places.journals:
            findings += journal_findings(self._files, journal, logs.get, points, pending)
        for name, path in sorted(places.logs.items()):
            known = Known(
                recovery_point=places.points.get(name, 0),
                start_offset=places.starts.get(name, 0),
                cleaned_offset=places.cleaned.get(name, 0),
                topic_id=ids.get(name),
                ours=metadata is not None,
            )
            check_of = LogCheck(
                self._files, str(path), known, pending=pending, read=self._told, deep=self._deep
            )
            self._logs[name], found = check_of.run()
            findings += found
        return Report(self._paths, places.clean, self._logs, metadata, findings)

    def _told(self, read_bytes: int) -> None:
        self._read_bytes += read_bytes
        self._progress(len(self._logs), self._read_bytes)

    def _absent(self, places: Places, known: set[TopicPartition]) -> Iterator[Finding]:
        for name in sorted(known):
            if name not in places.logs:
                point = places.points.get(name, 0)
                yield Finding(
                    Kind.LOST if point else Kind.WRONG,
                    str(self._paths[0] / str(name)),
                    "a topic has this partition and there is no directory of it",
                    f"its records up to offset {point} are gone" if point else "a start makes it, empty",
                )
