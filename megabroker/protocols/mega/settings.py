"""What can be configured of the MEGA protocol."""

from __future__ import annotations

import attrs

from megabroker.config import fields
from megabroker.config.protocol import ProtocolSettings
from megabroker.protocols.mega.codec import Dialect

__all__ = ["MegaSettings"]


@attrs.frozen(kw_only=True)
class MegaSettings(ProtocolSettings):
    """The section ``protocols.mega``."""

    acks: str = fields.choice(
        "1",
        ("0", "1", "all"),
        doc="When a produce request is acknowledged: at once (0), in the log file (1), on disk (all).",
    )
    dialect: Dialect = fields.choice(
        Dialect.AUTO,
        Dialect,
        doc="Whether CONSUME and CREATE_TOPIC requests end with a zero length (original) or not"
        " (documented).",
    )
    max_payload_bytes: int = fields.size_bytes(
        1 << 20,
        minimum=1,
        maximum=1 << 30,
        doc="Largest message that is accepted; a larger one is read, discarded and refused.",
    )
