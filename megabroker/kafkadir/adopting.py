"""Opening the directories of a Kafka broker in place, as directories of ours.

Owns the first time: what Kafka's metadata says becomes our ``metadata.sqlite`` in the main directory, by
one rename at the end. From then on that file is the truth and Kafka's metadata log is not read any more; if
Kafka has run again since, the two would contradict each other, and the directories are refused.

Nothing else is written at this point. Afterwards the broker writes as it does in any directory of its own;
that includes finishing what Kafka's cleaner was killed in the middle of.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Final

from megabroker.config.schema import Config
from megabroker.core.topic_configs import TopicConfigs
from megabroker.kafkadir.directory import KafkaDirectories
from megabroker.kafkadir.refusals import refusal
from megabroker.kafkadir.takeover import Takeover, plan
from megabroker.model import Change
from megabroker.storage.directories import refuse_second_main
from megabroker.storage.metadata.database import METADATA_FILE, create_with, stored_rows

__all__ = ["adopt"]

_TABLE: Final = "kafka_directory"
_METADATA_END: Final = "metadata_end"


def adopt(paths: Sequence[pathlib.Path], config: Config, now_ms: int) -> Takeover | None:
    """Make the directories ours, unless they are already. Blocking.

    Args:
        paths: all directories of the Kafka broker.
        config: the main directory among other things.
        now_ms: the time in epoch milliseconds.

    Returns:
        What was taken over; None when that had been done before.

    Raises:
        DataDirectoryLocked: a broker has one of them.
        StorageError: something would be lost, cannot be read, or Kafka has run since.
    """
    directories = KafkaDirectories.read(paths)
    metadata = config.data_dir / METADATA_FILE
    with directories.held():
        refuse_second_main([str(config.data_dir), *(str(one) for one in paths if one != config.data_dir)])
        if metadata.exists():
            _check_unchanged(directories, metadata)
            return None
        takeover = plan(directories, TopicConfigs(config.topics.topic_configs()), now_ms)
        refused = takeover.refusals(partial=False)
        if refused:
            told = "; ".join(one.text for one in refused[:10])
            more = f"; and {len(refused) - 10} more" if len(refused) > 10 else ""
            raise refusal(f"the data of this Kafka broker cannot be opened: {told}{more}")
        origin = Change(_TABLE, _METADATA_END, takeover.metadata_end)
        create_with(metadata, [*takeover.rows(), origin])
        return takeover


def _check_unchanged(directories: KafkaDirectories, metadata: pathlib.Path) -> None:
    known = stored_rows(metadata, _TABLE).get(_METADATA_END)
    _, end = directories.cluster()
    if known is not None and known != end:
        raise refusal(
            f"Apache Kafka has run on {directories.paths[0]} since megabroker opened it: its metadata log "
            f"ends at offset {end}, not {known}. Import into a new directory (megabroker import-kafka), or "
            f"remove {metadata} to begin again from what Kafka has, without the topics, offsets and "
            "transactions made here since"
        )
