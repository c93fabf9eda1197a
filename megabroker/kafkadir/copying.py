"""Copying what is taken over into a data directory of ours; the source is only read.

Owns the order that makes a cut-off copy harmless: first a mark that the copy is not finished, which keeps
the broker out; then the logs, each synced; then checkpoints and metadata; at last the mark goes. A
directory with the mark is emptied by the next attempt.

The files are not hard links: either broker may cut a file back when it recovers, and the other would lose
data.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Final

from megabroker.kafkadir.batches import segments
from megabroker.kafkadir.refusals import refusal
from megabroker.kafkadir.takeover import Takeover
from megabroker.model import TopicPartition
from megabroker.storage.checkpoints import encode_offsets
from megabroker.storage.making import copy_file, make_room, sync_directory
from megabroker.storage.metadata.database import METADATA_FILE, create_with

__all__ = ["Progress", "copy_into", "size_bytes"]

Progress = Callable[[int, int], None]
"""Told of (partitions copied, bytes copied) after each partition."""

_BESIDE_SEGMENT: Final = (".index", ".timeindex", ".txnindex")
_SMALL: Final = ("leader-epoch-checkpoint", "partition.metadata")


def size_bytes(takeover: Takeover) -> int:
    """Return how many bytes of segments there are to copy. Raises StorageError."""
    replicas = takeover.replicas.values()
    return sum(path.stat().st_size for replica in replicas for _, path in segments(replica.path))


def copy_into(takeover: Takeover, data_dir: pathlib.Path, *, clean: bool, progress: Progress) -> None:
    """Make ``data_dir`` a data directory of ours with everything that is taken over.

    Args:
        clean: whether the source was closed in order, so that sizes can be believed.

    Raises:
        StorageError: ``data_dir`` is not empty, or a file cannot be copied.
    """
    for replica in takeover.replicas.values():
        if data_dir.resolve().is_relative_to(replica.path.parent.resolve()):
            raise refusal(f"{data_dir} lies in {replica.path.parent}, which is not to be changed")
    try:
        mark = make_room(data_dir)
        copied = 0
        for done, (name, replica) in enumerate(sorted(takeover.replicas.items()), 1):
            target = data_dir / str(name)
            target.mkdir()
            for source, file in _files_of(replica.path, clean):
                copied += copy_file(source, target / file)
            sync_directory(target)
            progress(done, copied)
        _write_checkpoints(takeover, data_dir, clean)
        create_with(data_dir / METADATA_FILE, list(takeover.rows()))
        mark.unlink()
        sync_directory(data_dir)
    except OSError as error:
        raise refusal(f"cannot copy into {data_dir}: {error}") from error


def _files_of(directory: pathlib.Path, clean: bool) -> Iterator[tuple[pathlib.Path, str]]:
    """Yield (file, its name in the copy) of all that is needed of a partition.

    The indexes of the last segment of a broker that was killed are left out: they are laid out in advance,
    mostly zeros, and made anew at start.
    """
    found = segments(directory)
    for at, (_, path) in enumerate(found):
        name = path.name.removesuffix(".swap")
        yield path, name
        if clean or at + 1 < len(found):
            for suffix in _BESIDE_SEGMENT:
                beside = path.with_name(path.name.replace(".log", suffix))
                if beside.exists():
                    yield beside, name.replace(".log", suffix)
    for path in sorted(directory.glob("*.snapshot")):
        yield path, path.name
    for name in _SMALL:
        if (directory / name).exists():
            yield directory / name, name


def _write_checkpoints(takeover: Takeover, data_dir: pathlib.Path, clean: bool) -> None:
    points: dict[TopicPartition, int] = {}
    starts: dict[TopicPartition, int] = {}
    for name, replica in takeover.replicas.items():
        points[name], starts[name] = replica.recovery_point, replica.start_offset
    files = {
        "recovery-point-offset-checkpoint": encode_offsets(points),
        "log-start-offset-checkpoint": encode_offsets(starts),
        "meta.properties": (
            f"version=1\ncluster.id={takeover.cluster_id}\nnode.id={takeover.node_id}\n"
        ).encode(),
    }
    if clean:
        files[".kafka_cleanshutdown"] = b""
    for file_name, data in files.items():
        with open(data_dir / file_name, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
