"""What can be configured of the cursus protocol."""

from __future__ import annotations

from typing import ClassVar

import attrs

from megabroker.config import fields
from megabroker.config.protocol import ProtocolSettings
from megabroker.protocols.cursus.codec import COMPRESSIONS

__all__ = ["CursusSettings"]


@attrs.frozen(kw_only=True)
class CursusSettings(ProtocolSettings):
    """The section ``protocols.cursus``."""

    ways_to_authenticate: ClassVar[frozenset[str]] = frozenset({"auth"})

    acks: str = fields.choice(
        "1",
        ("0", "1", "all"),
        doc="When a published message is acknowledged: at once (0), in the log file (1), on disk (all).",
    )
    compression: str = fields.choice(
        "none",
        COMPRESSIONS,
        doc="How request bodies are compressed; enable_gzip turns none into gzip. Answers are "
        "never compressed.",
    )
    max_frame_bytes: int = fields.size_bytes(
        16 << 20,
        minimum=64,
        maximum=1 << 30,
        doc="Largest request body, both compressed and decompressed; a larger one closes the connection.",
    )
    consume_keep_open: bool = fields.flag(
        False,
        doc="Whether the connection stays open after a CONSUME; otherwise closing it marks the "
        "end of the stream.",
    )
    subscribe_push: bool = fields.flag(False, doc="Whether new messages are pushed to subscribers.")
    stream_index_bytes: int = fields.size_bytes(
        256 << 20,
        minimum=1 << 16,
        maximum=1 << 40,
        doc="Memory for the index of events and snapshots of aggregates; above it, unused parts"
        " are dropped and read again when needed.",
    )
