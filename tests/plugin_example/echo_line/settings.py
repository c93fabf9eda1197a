"""What can be configured of the line protocol."""

from __future__ import annotations

import attrs

from megabroker.config import fields
from megabroker.config.protocol import ProtocolSettings

__all__ = ["EchoLineSettings"]


@attrs.frozen(kw_only=True)
class EchoLineSettings(ProtocolSettings):
    """The section ``protocols.echo_line``."""

    greeting: str = fields.text("", doc="A line sent to everybody who connects; empty for none.")
    max_line_bytes: int = fields.size_bytes(
        8192, minimum=16, maximum=1 << 20, doc="Longest line taken; a longer one ends the connection."
    )
