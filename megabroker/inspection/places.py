"""A data directory's small files, and those of several workers in it: read, and checked by themselves.

Owns where they are and what each of them may say. Changes nothing. What they say about logs is compared with
the logs elsewhere.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from megabroker.inspection.findings import Finding, Kind
from megabroker.kafkadir.properties import parse_properties
from megabroker.model import TopicPartition
from megabroker.storage.checkpoints import decode_meta, decode_offsets
from megabroker.storage.directories import UNFINISHED
from megabroker.storage.files import Files
from megabroker.storage.journal import JOURNAL
from megabroker.storage.metadata.database import METADATA_FILE
from megabroker.storage.shares import CHECKPOINTS, CLEAN, WORKERS

__all__ = ["Places", "further_directories"]

_META: Final = "meta.properties"
_MORE: Final = "more-data-dirs"
_PARTITION: Final = re.compile(r"(.+)-(0|[1-9][0-9]{0,9})")


def further_directories(path: pathlib.Path) -> list[pathlib.Path]:
    """Return the directories that a main one says hold partitions as well. Raises OSError."""
    try:
        text = (path / _MORE).read_text(errors="replace")
    except FileNotFoundError:
        return []
    return [pathlib.Path(line.partition(" ")[2]) for line in text.splitlines() if " " in line]


@attrs.define
class Places:
    """What the small files say.

    Attributes:
        logs: the directory of every partition.
        points: everything below is on the disk.
        starts: first readable offset.
        cleaned: compaction has come this far.
        journals: the sync journals there are.
        clean: whether every directory was closed in order.
    """

    paths: Sequence[pathlib.Path]
    logs: dict[TopicPartition, pathlib.Path] = attrs.field(factory=dict)
    points: dict[TopicPartition, int] = attrs.field(factory=dict)
    starts: dict[TopicPartition, int] = attrs.field(factory=dict)
    cleaned: dict[TopicPartition, int] = attrs.field(factory=dict)
    journals: list[str] = attrs.field(factory=list)
    clean: bool = True
    findings: list[Finding] = attrs.field(factory=list)

    @classmethod
    def read(cls, files: Files, paths: Sequence[pathlib.Path]) -> Places:
        """Read all of them. Raises OSError."""
        found = cls(paths)
        for path in paths:
            found._directory(files, path)
        return found

    def _directory(self, files: Files, path: pathlib.Path) -> None:
        if (path / UNFINISHED).exists():
            self._find(
                Kind.REFUSED, path / UNFINISHED, "an import or a backup was not finished", "run it again"
            )
        self._meta(path)
        for name in sorted(files.subdirectories(str(path))):
            match = _PARTITION.fullmatch(name)
            if match is None:
                continue
            partition = TopicPartition(match[1], int(match[2]))
            other = self.logs.setdefault(partition, path / name)
            if other != path / name:
                self._find(
                    Kind.REFUSED, path / name, f"{partition} is also in {other.parent}", "expected one"
                )
        shares = path / WORKERS
        places = [path]
        if shares.is_dir():
            places += sorted(one for one in shares.iterdir() if one.is_dir())
        for place in places:
            self._checkpoints(files, place)
            for name, _, _ in files.listdir(str(place)):
                if name.startswith(JOURNAL) and not name.endswith(".tmp"):
                    self.journals.append(f"{place}/{name}")
        marked = places[1:] or places
        self.clean = self.clean and all((place / CLEAN).exists() for place in marked)

    def _meta(self, path: pathlib.Path) -> None:
        meta = path / _META
        try:
            data = meta.read_bytes()
        except FileNotFoundError:
            self._find(Kind.WRONG, meta, "it is absent", "a start makes it, with the identity it is told")
            return
        if decode_meta(data) is None:
            self._find(
                Kind.REFUSED,
                meta,
                "its CRC is wrong",
                "expected cluster.id and node.id as they were, and the line with the CRC removed",
            )
            return
        found = parse_properties(data.decode("utf-8", "replace"))
        for key in ("cluster.id", "node.id"):
            if not found.get(key):
                self._find(Kind.WRONG, meta, f"it has no {key}", "a start completes it")
        if not found.get("node.id", "0").isdecimal():
            self._find(Kind.REFUSED, meta, f"node.id is {found['node.id']!r}", "expected a number")

    def _checkpoints(self, files: Files, place: pathlib.Path) -> None:
        for name, offsets in zip(CHECKPOINTS, (self.starts, self.points, self.cleaned), strict=True):
            path = place / name
            data = files.read_bytes(str(path))
            rows = decode_offsets(data)
            # Kafka creates them empty, and writes them after a minute.
            if data is not None and rows is None and (data or (self.paths[0] / METADATA_FILE).exists()):
                self._find(
                    Kind.WRONG,
                    path,
                    "it cannot be read",
                    "it counts as absent: logs are read wholly, and deleted records may be seen again"
                    if offsets is self.starts
                    else "it counts as absent: more is read at the next start",
                )
            for partition, offset in (rows or {}).items():
                log = self.logs.get(partition)
                if log is not None and log.parent not in (place, place.parent.parent):
                    continue  # of an older log of that name
                offsets[partition] = offset

    def _find(self, kind: Kind, path: os.PathLike[str], what: str, right: str) -> None:
        self.findings.append(Finding(kind, str(path), what, right))

    def strays(self, known: set[TopicPartition]) -> Iterator[Finding]:
        """Yield the logs that no topic explains."""
        for partition, path in sorted(self.logs.items()):
            if partition not in known:
                yield Finding(
                    Kind.NOTE, str(path), "no topic in the metadata explains it", "it is left alone"
                )
